#include "src/checkpoint/config_settings.h"

#include <nlohmann/json.hpp>

#include "src/checkpoint/checkpoint.h"
#include "src/checkpoint/layer_lists.h"

namespace amalgam {
namespace {

using Json = nlohmann::ordered_json;
using Weight = DifferenceWeight;

struct Setting {
    const char* name;
    std::initializer_list<const char*> keys;
    Weight weight;
    bool size = false;
};

/// Tensors of one shape mean different things if these differ; the sizes are told by the shapes as well.
const Setting settings[] = {
    {"model_type", {"model_type"}, Weight::warning},
    {"hidden_size", {"hidden_size", "n_embd", "d_model"}, Weight::problem, true},
    {"num_hidden_layers", {"num_hidden_layers", "n_layer", "num_layers", "n_layers"}, Weight::problem},
    {"intermediate_size", {"intermediate_size", "n_inner", "d_ff"}, Weight::problem, true},
    {"num_attention_heads", {"num_attention_heads", "n_head", "num_heads"}, Weight::problem, true},
    {"num_key_value_heads", {"num_key_value_heads"}, Weight::problem, true},
    {"head_dim", {"head_dim"}, Weight::problem, true},
    {"num_experts", {"num_local_experts", "num_experts", "n_routed_experts"}, Weight::problem, true},
    {"num_experts_per_tok", {"num_experts_per_tok"}, Weight::warning},
    {"vocab_size", {"vocab_size"}, Weight::warning},
    {"hidden_act", {"hidden_act", "hidden_activation", "activation_function"}, Weight::warning},
    {"rope_theta", {"rope_theta"}, Weight::warning},
    {"rope_scaling", {"rope_scaling"}, Weight::warning},
    {"rope_parameters", {"rope_parameters"}, Weight::warning},
    {"partial_rotary_factor", {"partial_rotary_factor"}, Weight::warning},
    {"rms_norm_eps", {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"}, Weight::warning},
    {"sliding_window", {"sliding_window"}, Weight::warning},
    {"max_position_embeddings", {"max_position_embeddings", "n_positions"}, Weight::note},
    {"tie_word_embeddings", {"tie_word_embeddings"}, Weight::note},
    {"bos_token_id", {"bos_token_id"}, Weight::warning},
    {"eos_token_id", {"eos_token_id"}, Weight::warning},
};

std::string value_text(const Json& value) {
    return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void collect(const Json& object, std::map<std::string, std::string>& values) {
    for (const auto& [key, value] : object.items())
        if (!value.is_null()) values.try_emplace(key, value_text(value));
}

/// 10000 and 10000.0 are one number, and an object's keys have no order.
bool same_value(const std::string& a, const std::string& b) {
    if (a == b) return true;
    const auto left = nlohmann::json::parse(a, nullptr, false), right = nlohmann::json::parse(b, nullptr, false);
    return !left.is_discarded() && left == right;
}

}  // namespace

ConfigSettings::ConfigSettings(const std::string& config) {
    if (config.empty()) return;
    const Json root = Json::parse(quote_nonfinite(config), nullptr, false);
    if (!root.is_object()) return;
    if (const Json* text = text_settings(root); text && text->is_object()) collect(*text, values_);
    collect(root, values_);
}

std::string ConfigSettings::value(std::initializer_list<const char*> keys) const {
    for (const char* key : keys)
        if (const auto found = values_.find(key); found != values_.end()) return restore_nonfinite(found->second);
    return "";
}

std::vector<SettingDifference> compare_settings(const std::string& first, const std::string& other) {
    std::vector<SettingDifference> differences;
    if (first.empty() || other.empty() || first == other) return differences;
    const ConfigSettings a(first), b(other);
    for (const Setting& setting : settings) {
        const std::string left = a.value(setting.keys), right = b.value(setting.keys);
        // A default left out is no difference that can be judged.
        const bool unknown = left.empty() || right.empty();
        if (!same_value(left, right) && !(unknown && setting.weight == Weight::problem))
            differences.push_back({setting.name, unknown ? Weight::note : setting.weight, setting.size, left, right});
    }
    return differences;
}

}  // namespace amalgam
