#include "src/checkpoint/layer_lists.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string_view>

#include "src/base/error.h"

namespace amalgam {
namespace {

using Json = nlohmann::ordered_json;
using Sources = std::span<const std::pair<int, int64_t>>;

constexpr const char* count_keys[] = {"num_hidden_layers", "n_layer", "num_layers", "n_layers"};

/// Lists of layer numbers, whatever their length.
constexpr std::string_view index_keys[] = {"mlp_only_layers",        "moe_layers",           "attn_layer_indices",
                                           "full_attn_idxs",         "attention_layers_idx", "hybrid_layer_ids",
                                           "cross_attention_layers", "dense_layers"};

/// Lists that are not about layers even if their length happens to be the number of layers.
constexpr std::string_view other_lists[] = {"architectures",
                                            "keys_to_ignore_at_inference",
                                            "suppress_tokens",
                                            "begin_suppress_tokens",
                                            "forced_decoder_ids",
                                            "mrope_section",
                                            "langs",
                                            "stop_strings"};

/// Settings that derive the kind of a layer from its position.
constexpr const char* positional_keys[] = {
    "first_k_dense_replace",      "decoder_sparse_step",    "interleave_moe_layer_step", "moe_layer_freq",
    "attn_layer_period",          "expert_layer_period",    "cross_attention_interval",  "num_kv_shared_layers",
    "global_attn_every_n_layers", "sliding_window_pattern", "full_attention_interval",   "no_rope_layer_interval",
    "num_nextn_predict_layers"};

/// Of a real model; a name may hold any number.
constexpr int64_t most_layers = 100'000;

template <class Container>
bool among(const Container& names, std::string_view name) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

const char* count_key(const Json& object) {
    for (const char* key : count_keys)
        if (const auto found = object.find(key); found != object.end() && found->is_number_integer()) return key;
    return nullptr;
}

/// -1 if the object has none.
int64_t layer_count(const Json& object) {
    const char* key = count_key(object);
    return key ? object.find(key)->get<int64_t>() : -1;
}

bool layer_numbers(const Json& list, int64_t layers) {
    for (const Json& entry : list)
        if (!entry.is_number_integer() || entry.get<int64_t>() < 0 || entry.get<int64_t>() >= layers) return false;
    return true;
}

bool ascending(const Json& list) {
    return std::adjacent_find(list.begin(), list.end(), [](const Json& a, const Json& b) { return a >= b; }) ==
           list.end();
}

enum class ListKind { other, per_layer, indices };

ListKind list_kind(std::string_view key, const Json& value, int64_t layers) {
    // Nemotron-H writes one letter a layer.
    if (value.is_string() && key == "hybrid_override_pattern" &&
        int64_t(value.get_ref<const std::string&>().size()) == layers)
        return ListKind::per_layer;
    if (!value.is_array() || among(other_lists, key) || key.ends_with("_token_id") || key.ends_with("_token_ids"))
        return ListKind::other;
    if (among(index_keys, key)) return layer_numbers(value, layers) ? ListKind::indices : ListKind::other;
    const bool named_indices =
        key.ends_with("_layers") || key.ends_with("_idxs") || key.ends_with("_indices") || key.ends_with("_ids");
    const bool numbers = named_indices && layer_numbers(value, layers) && ascending(value);
    // [0, 1] of two layers may be two flags; [0, 1, 2] of three is a list of all of them.
    if (int64_t(value.size()) == layers) return numbers && layers > 2 ? ListKind::indices : ListKind::per_layer;
    return numbers ? ListKind::indices : ListKind::other;
}

/// The setting of one model that an output layer is taken from: its own, or the donor's if it has none.
struct SourceList {
    const Json* list = nullptr;
    int64_t layers = 0;
};

class LayerSettings {
  public:
    LayerSettings(Json& object, std::span<const Json* const> models, Sources sources,
                  std::vector<std::string>& warnings)
        : object_(object),
          before_(object),
          models_(models),
          sources_(sources),
          warnings_(warnings),
          layers_(layer_count(object)) {}

    void rewrite() {
        for (auto& [key, value] : object_.items()) {
            const ListKind kind = list_kind(key, value, layers_);
            if (kind == ListKind::per_layer) value = value.is_string() ? per_layer_text(key) : per_layer(key);
            if (kind == ListKind::indices) value = indices(key);
        }
        object_[count_key(object_)] = int64_t(sources_.size());
        bool moved = false;
        for (size_t i = 0; i < sources_.size(); ++i) moved = moved || sources_[i].second != int64_t(i);
        for (const char* key : positional_keys)
            if (moved) warn_of_position(key);
    }

  private:
    /// Of the kind that the donor's has.
    SourceList source(const std::string& key, int model, ListKind kind) {
        if (const Json* root = models_[size_t(model)]) {
            const Json* settings = text_settings(*root);
            const int64_t layers = layer_count(*settings);
            const auto found = settings->find(key);
            if (found != settings->end() && found->type() == before_[key].type() &&
                list_kind(key, *found, layers) == kind)
                return {&*found, layers};
        }
        const std::string text =
            fmt::format("config.json: {} is not in model {}: the donor's entries are taken for its layers",
                        printable(key), model + 1);
        if (!among(warnings_, text)) warnings_.push_back(text);
        return {&before_[key], layers_};
    }

    void check_layer(const std::string& key, int64_t layer, const SourceList& from, int model) {
        check(layer < from.layers, "config.json: {} is needed for layer {} of model {}, but has {} layers only",
              printable(key), layer, model + 1, from.layers);
    }

    Json per_layer(const std::string& key) {
        Json result = Json::array();
        for (const auto& [model, layer] : sources_) {
            const SourceList from = source(key, model, ListKind::per_layer);
            check_layer(key, layer, from, model);
            result.push_back((*from.list)[size_t(layer)]);
        }
        return result;
    }

    Json per_layer_text(const std::string& key) {
        std::string result;
        for (const auto& [model, layer] : sources_) {
            const SourceList from = source(key, model, ListKind::per_layer);
            check_layer(key, layer, from, model);
            result += from.list->get_ref<const std::string&>()[size_t(layer)];
        }
        return result;
    }

    Json indices(const std::string& key) {
        Json result = Json::array();
        for (size_t i = 0; i < sources_.size(); ++i) {
            const auto& [model, layer] = sources_[i];
            const SourceList from = source(key, model, ListKind::indices);
            if (std::find(from.list->begin(), from.list->end(), Json(layer)) != from.list->end())
                result.push_back(int64_t(i));
        }
        return result;
    }

    void warn_of_position(const char* key) {
        const auto found = object_.find(key);
        if (found == object_.end() || !found->is_number_integer() || object_.contains("layer_types")) return;
        const int64_t value = found->get<int64_t>();
        // One in one, or none: the same for every layer.
        if (value == 0 || (value == 1 && std::string_view(key) != "first_k_dense_replace")) return;
        warnings_.push_back(
            fmt::format("config.json: {} = {} counts layers by position and was left as it is: check it against "
                        "the new order of the layers",
                        key, value));
    }

    Json& object_;
    const Json before_;
    std::span<const Json* const> models_;
    Sources sources_;
    std::vector<std::string>& warnings_;
    int64_t layers_;
};

/// Whether the count of a config can only mean the layers of this tower.
bool counts_tower(const Json& root, std::string_view tower) {
    const std::string_view last = tower.substr(tower.rfind('.') + 1);  // npos + 1 is 0
    // Others hold groups of shared layers, or parts of a layer.
    if (!among(std::initializer_list<std::string_view>{"layers", "layer", "h", "blocks", "block"}, last)) return false;
    if (const auto both = root.find("is_encoder_decoder"); both != root.end() && *both == true) return false;
    for (const auto& [key, value] : root.items()) {
        if (value.is_object() && key.ends_with("_config") && key != "quantization_config") return false;
        // Layers of multi-token prediction lie behind the counted ones.
        const bool more = key.find("nextn") != key.npos || key.find("mtp") != key.npos ||
                          key.find("share") != key.npos || key == "num_hidden_groups" || key == "encoder_layers" ||
                          key == "decoder_layers" || key == "num_decoder_layers" || key == "num_encoder_layers";
        if (more && !value.is_null() && value != 0 && value != false) return false;
    }
    return true;
}

}  // namespace

const Json* text_settings(const Json& root) {
    for (const char* key : {"text_config", "llm_config", "language_config"})
        if (const auto found = root.find(key); found != root.end() && found->is_object()) return &*found;
    if (const auto found = root.find("thinker_config"); found != root.end() && found->is_object())
        return text_settings(*found);
    return &root;
}

Json* text_settings(Json& root) { return const_cast<Json*>(text_settings(const_cast<const Json&>(root))); }

void set_layer_settings(Json& root, std::span<const Json* const> models, Sources sources,
                        std::vector<std::string>& warnings) {
    Json* text = text_settings(root);
    const bool nested = text != &root && count_key(*text), at_root = count_key(root);
    if (nested) LayerSettings(*text, models, sources, warnings).rewrite();
    if (at_root) LayerSettings(root, models, sources, warnings).rewrite();
    if (!nested && !at_root)
        warnings.push_back(fmt::format("config.json: no layer count was found ({}): set it to {} by hand",
                                       fmt::join(count_keys, ", "), sources.size()));
    const auto encoder_decoder = root.find("is_encoder_decoder");
    if (encoder_decoder != root.end() && *encoder_decoder == true)
        warnings.push_back("config.json: layer counts of an encoder-decoder model may need a look after slicing");
}

void correct_layer_count(Json& root, const std::string& tower, int64_t layers, std::vector<std::string>& warnings) {
    const char* key = count_key(root);
    if (!key || layers < 1 || layers > most_layers || layer_count(root) == layers || !counts_tower(root, tower)) return;
    const int64_t before = layer_count(root);
    std::string lists;
    for (const auto& [name, value] : root.items())
        if (layers > before && list_kind(name, value, before) != ListKind::other)
            lists += (lists.empty() ? "" : ", ") + printable(name);
    if (!lists.empty()) {
        warnings.push_back(fmt::format(
            "config.json says {} {}, but the tensors have {} layers ({}): left as it is, since {} would need "
            "entries for the others",
            key, before, layers, printable(tower), lists));
        return;
    }
    if (layers < before) {
        std::vector<std::pair<int, int64_t>> sources;
        for (int64_t i = 0; i < layers; ++i) sources.emplace_back(0, i);
        const Json donor = root;
        const Json* models[] = {&donor};
        LayerSettings(root, models, sources, warnings).rewrite();
    } else {
        root[key] = layers;
    }
    warnings.push_back(fmt::format("config.json says {} {}, but the tensors have {} layers ({}): a merge corrects it",
                                   key, before, layers, printable(tower)));
}

}  // namespace amalgam
