#include "src/evaluate/decoder_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "src/base/error.h"
#include "src/base/nearest.h"
#include "src/checkpoint/checkpoint.h"
#include "src/evaluate/rope.h"

namespace amalgam {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 5> families = {"gemma2", "llama", "mistral", "qwen2", "qwen3"};

/// What training, other tasks, storage and generation read, but no forward pass in inference does.
constexpr std::string_view ignored_keys[] = {
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_model_name_or_path",
    "_name_or_path",
    "add_cross_attention",
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "custom_pipelines",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "forced_decoder_ids",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "license",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "transformers.js_config",
    "typical_p",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
};

std::string shown(const Json& value) {
    return printable(value.dump(-1, ' ', false, Json::error_handler_t::replace), 200);
}

/// The members of config.json, each ticked off when it is read.
class Members {
  public:
    explicit Members(const Json& json, std::string where = "") : json_(json), where_(std::move(where)) {}

    /// nullptr if it is missing or null.
    const Json* find(const std::string& key) {
        read_.insert(key);
        const auto found = json_.find(key);
        return found == json_.end() || found->is_null() ? nullptr : &*found;
    }
    [[noreturn]] void refuse(const std::string& key, const Json& value, std::string_view why) const {
        fail("config.json: {}{} is {}: {}", where_, key, shown(value), why);
    }
    int64_t whole(const std::string& key, std::optional<int64_t> otherwise, int64_t low, int64_t high) {
        const Json* value = find(key);
        if (!value && otherwise) return *otherwise;
        check(value, "config.json: {}{} is missing", where_, key);
        if (!value->is_number_integer() || *value < low || *value > high)
            refuse(key, *value, fmt::format("a whole number from {} to {} is expected", low, high));
        return value->get<int64_t>();
    }
    double number(const std::string& key, std::optional<double> otherwise) {
        const Json* value = find(key);
        if (!value && otherwise) return *otherwise;
        check(value, "config.json: {}{} is missing", where_, key);
        if (!value->is_number() || !(value->get<double>() > 0) || !std::isfinite(float(value->get<double>())))
            refuse(key, *value, "a number above 0 is expected");
        return value->get<double>();
    }
    bool flag(const std::string& key, bool otherwise) {
        const Json* value = find(key);
        if (!value) return otherwise;
        if (!value->is_boolean()) refuse(key, *value, "true or false is expected");
        return value->get<bool>();
    }
    /// A key that must not say anything else than `only`.
    void require_flag(const std::string& key, bool only) {
        if (flag(key, only) != only) refuse(key, !only, fmt::format("only {} is supported", only));
    }
    std::string text(const std::string& key, const std::string& otherwise) {
        const Json* value = find(key);
        if (!value) return otherwise;
        if (!value->is_string()) refuse(key, *value, "a string is expected");
        return value->get<std::string>();
    }
    std::vector<std::string> unread() const {
        std::vector<std::string> keys;
        for (const auto& [key, value] : json_.items())
            if (!read_.contains(key) && !value.is_null()) keys.push_back(key);
        return keys;
    }
    const Json& json() const { return json_; }

  private:
    const Json& json_;
    std::string where_;
    std::set<std::string> read_;
};

constexpr int64_t most = int64_t(1) << 31;

void read_sizes(Members& config, DecoderConfig& result) {
    const std::string& family = result.family;
    result.vocabulary = config.whole("vocab_size", {}, 1, most - 1);
    result.hidden = config.whole("hidden_size", {}, 1, 1 << 20);
    result.mlp = config.whole("intermediate_size", {}, 1, 1 << 22);
    result.layers = config.whole("num_hidden_layers", {}, 1, 100'000);
    result.heads = config.whole("num_attention_heads", {}, 1, 1 << 16);
    result.kv_heads = family == "llama" ? config.whole("num_key_value_heads", result.heads, 1, 1 << 16)
                                        : config.whole("num_key_value_heads", {}, 1, 1 << 16);
    if (result.heads % result.kv_heads != 0)
        config.refuse("num_key_value_heads", result.kv_heads,
                      fmt::format("it must divide num_attention_heads, {}", result.heads));
    int64_t head_dim = result.hidden / result.heads;
    if (family == "qwen3") head_dim = 128;
    if (family == "gemma2") head_dim = 256;
    result.head_dim = config.whole("head_dim", head_dim, 1, 1 << 14);
    if (result.head_dim % 2 != 0) config.refuse("head_dim", result.head_dim, "an even number is expected");
    result.context = config.whole("max_position_embeddings", {}, 1, most);
    result.norm_epsilon = float(config.number("rms_norm_eps", {}));
}

void read_activation(Members& config, DecoderConfig& result) {
    std::string key = "hidden_act", otherwise = "silu";
    if (result.family == "gemma2") {
        // hidden_activation is the one that counts; files have hidden_act as well, as a leftover.
        config.find("hidden_act");
        key = "hidden_activation";
        otherwise = "gelu_pytorch_tanh";
    }
    const std::string name = config.text(key, otherwise);
    if (name == "silu" || name == "swish")
        result.activation = Activation::silu;
    else if (name == "gelu_pytorch_tanh")
        result.activation = Activation::gelu_tanh;
    else
        config.refuse(key, name, "supported are silu and gelu_pytorch_tanh");
}

void read_family(Members& config, DecoderConfig& result) {
    const std::string& family = result.family;
    result.tied = config.flag("tie_word_embeddings", family == "gemma2");
    result.attention_scale = float(1 / std::sqrt(double(result.head_dim)));
    if (family == "llama" || family == "qwen3" || family == "gemma2")
        result.qkv_bias = result.output_bias = config.flag("attention_bias", false);
    else
        config.require_flag("attention_bias", family == "qwen2");
    if (family == "qwen2") result.qkv_bias = true;
    if (family == "llama")
        result.mlp_bias = config.flag("mlp_bias", false);
    else
        config.require_flag("mlp_bias", false);
    result.query_key_norm = family == "qwen3";
    if (family != "gemma2") return;
    result.post_norms = true;
    result.norm_offset = 1;
    result.embedding_scale = std::sqrt(float(result.hidden));
    result.attention_scale = float(1 / std::sqrt(config.number("query_pre_attn_scalar", 256)));
    const auto softcap = [&](const std::string& key) -> float {
        // null switches it off.
        const bool off = config.json().contains(key) && config.json()[key].is_null();
        config.find(key);
        return off ? 0 : float(config.number(key, key[0] == 'a' ? 50.0 : 30.0));
    };
    result.attention_softcap = softcap("attn_logit_softcapping");
    result.logit_softcap = softcap("final_logit_softcapping");
    config.require_flag("use_bidirectional_attention", false);
}

/// Which layers see a window only: by layer_types, else by the family's own rule.
void read_windows(Members& config, DecoderConfig& result) {
    const std::string& family = result.family;
    const Json* given = config.find("sliding_window");
    const bool written = config.json().contains("sliding_window");
    int64_t window = given ? config.whole("sliding_window", {}, 1, most) : 0;
    if (!written && family != "llama") window = 4096;
    const bool use = config.flag("use_sliding_window", family == "mistral" || family == "gemma2");
    const int64_t first = config.whole("max_window_layers", 28, 0, most);
    if (family == "llama" && given) config.refuse("sliding_window", *given, "no Llama has one");
    if (!use) window = 0;
    result.windows.assign(size_t(result.layers), 0);
    const Json* types = config.find("layer_types");
    if (types && (!types->is_array() || types->size() != result.windows.size()))
        config.refuse("layer_types", *types, fmt::format("a list of {} names is expected", result.layers));
    for (size_t layer = 0; layer < result.windows.size(); ++layer) {
        bool slides = family == "mistral" || (family == "gemma2" && layer % 2 == 0) ||
                      (family.starts_with("qwen") && int64_t(layer) >= first);
        if (types) {
            const Json& type = (*types)[layer];
            if (type != "full_attention" && type != "sliding_attention")
                config.refuse("layer_types", type, "supported are full_attention and sliding_attention");
            slides = type == "sliding_attention";
            check(!slides || window > 0,
                  "config.json: layer_types has \"sliding_attention\", but no sliding_window is "
                  "in use");
        }
        result.windows[layer] = slides ? window : 0;
    }
}

RopeKind rope_kind(Members& scaling) {
    const std::string key = scaling.json().contains("rope_type") ? "rope_type" : "type";
    const std::string name = scaling.text(key, "default");
    scaling.find("type");
    if (name == "default") return RopeKind::plain;
    if (name == "linear") return RopeKind::linear;
    if (name == "llama3") return RopeKind::llama3;
    if (name == "yarn") return RopeKind::yarn;
    scaling.refuse(key, name, "supported are default, linear, llama3 and yarn");
}

void read_scaling(Members& from, const DecoderConfig& config, RopeScaling& result) {
    result.kind = rope_kind(from);
    result.theta = from.number("rope_theta", result.theta);
    if (const Json* share = from.find("partial_rotary_factor"); share && *share != 1)
        from.refuse("partial_rotary_factor", *share, "only 1 is supported");
    if (result.kind == RopeKind::plain) {
        from.find("factor");
        return;
    }
    const bool has_original = from.find("original_max_position_embeddings") != nullptr;
    result.original_context = from.number("original_max_position_embeddings", double(config.context));
    if (result.kind == RopeKind::yarn && has_original && !from.find("factor"))
        result.factor = double(config.context) / result.original_context;
    else
        result.factor = from.number("factor", {});
    if (result.kind == RopeKind::llama3) {
        result.low_frequency_factor = from.number("low_freq_factor", {});
        result.high_frequency_factor = from.number("high_freq_factor", {});
        if (result.high_frequency_factor <= result.low_frequency_factor)
            from.refuse("high_freq_factor", result.high_frequency_factor, "it must be above low_freq_factor");
    }
    if (result.kind != RopeKind::yarn) return;
    result.beta_fast = from.number("beta_fast", result.beta_fast);
    result.beta_slow = from.number("beta_slow", result.beta_slow);
    result.attention_factor = from.number("attention_factor", 0);
    const auto optional = [&](const std::string& key) {
        const Json* value = from.find(key);
        return value && *value == 0 ? 0 : from.number(key, 0);
    };
    result.mscale = optional("mscale");
    result.mscale_all_dim = optional("mscale_all_dim");
    result.truncate = from.flag("truncate", true);
    if (result.theta <= 1) from.refuse("rope_theta", result.theta, "yarn needs one above 1");
}

void read_rope(Members& config, DecoderConfig& result) {
    RopeScaling scaling;
    scaling.theta = config.number("rope_theta", scaling.theta);
    if (const Json* share = config.find("partial_rotary_factor"); share && *share != 1)
        config.refuse("partial_rotary_factor", *share, "only 1 is supported");
    const Json* old_form = config.find("rope_scaling");
    const Json* new_form = config.find("rope_parameters");
    // Of both, the newer form is what transformers 5 reads and writes.
    const std::string key = new_form ? "rope_parameters" : "rope_scaling";
    if (const Json* given = new_form ? new_form : old_form) {
        if (!given->is_object()) config.refuse(key, *given, "an object is expected");
        Members members(*given, key + ".");
        read_scaling(members, result, scaling);
        for (const std::string& unread : members.unread())
            members.refuse(unread, (*given)[unread], "this key is not supported for this rope_type");
    }
    if (scaling.original_context > 0)
        result.context = std::max(result.context, int64_t(std::min(scaling.original_context * scaling.factor, 2e9)));
    result.rope = make_rope(scaling, result.head_dim);
}

std::vector<int32_t> read_end_ids(Members& config) {
    const Json* ids = config.find("eos_token_id");
    std::vector<int32_t> result;
    if (!ids) return result;
    const Json list = ids->is_array() ? *ids : Json::array({*ids});
    for (const Json& id : list) {
        if (!id.is_number_integer() || id < 0 || id >= most)
            config.refuse("eos_token_id", *ids, "a token id or a list of them is expected");
        result.push_back(id.get<int32_t>());
    }
    return result;
}

Json parse_object(std::string_view text, std::string_view file) {
    check(!text.empty(), "there is no {}, which says what the model computes", file);
    const Json json = Json::parse(quote_nonfinite(text), nullptr, false);
    check(json.is_object(), "{} is not a JSON object", file);
    return json;
}

bool is_ignored(const std::string& key) {
    return std::find(std::begin(ignored_keys), std::end(ignored_keys), key) != std::end(ignored_keys);
}

}  // namespace

DecoderConfig parse_decoder_config(std::string_view text, bool allow_unknown) {
    const Json json = parse_object(text, "config.json");
    Members config(json);
    DecoderConfig result;
    result.family = config.text("model_type", "");
    if (std::find(families.begin(), families.end(), result.family) == families.end())
        fail("config.json: model_type is \"{}\": no such decoder is built in{}", printable(result.family, 100),
             did_you_mean(result.family, families));
    if (const Json* quantised = config.find("quantization_config"))
        config.refuse("quantization_config", *quantised, "quantised weights are not supported: dequantise the model");
    read_sizes(config, result);
    read_activation(config, result);
    read_family(config, result);
    read_windows(config, result);
    read_rope(config, result);
    result.end_ids = read_end_ids(config);
    for (const std::string& key : config.unread()) {
        if (is_ignored(key)) continue;
        const std::string what =
            fmt::format("config.json: {} is {}: it is not known whether this changes what the model computes",
                        printable(key, 100), shown(json[key]));
        check(allow_unknown, "{}; --allow-unknown takes it to be without influence", what);
        result.warnings.push_back(what);
    }
    return result;
}

std::vector<int32_t> parse_end_ids(std::string_view generation_config) {
    const Json json = parse_object(generation_config, "generation_config.json");
    Members members(json);
    return read_end_ids(members);
}

}  // namespace amalgam
