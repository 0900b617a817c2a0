#include "src/recipe/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "src/base/error.h"

namespace amalgam {
namespace {

bool contains_any(std::string_view name, std::initializer_list<std::string_view> parts) {
    return std::any_of(parts.begin(), parts.end(), [&](std::string_view part) { return name.find(part) != name.npos; });
}

/// `ending` is the end of `name` and begins a component there.
bool ends_with_component(std::string_view name, std::string_view ending) {
    if (!name.ends_with(ending)) return false;
    return name.size() == ending.size() || name[name.size() - ending.size() - 1] == '.';
}

bool ends_with_any(std::string_view name, std::initializer_list<std::string_view> endings) {
    return std::any_of(endings.begin(), endings.end(),
                       [&](std::string_view ending) { return ends_with_component(name, ending); });
}

std::optional<int64_t> positive_integer(const nlohmann::json& config, std::initializer_list<const char*> keys) {
    for (const char* key : keys) {
        const auto found = config.find(key);
        if (found != config.end() && found->is_number_integer() && found->get<int64_t>() > 0)
            return found->get<int64_t>();
    }
    return std::nullopt;
}

void read_config(ModelLayout& layout, const std::string& text) {
    const nlohmann::json config = nlohmann::json::parse(text, nullptr, false);
    if (!config.is_object()) return;
    const auto read = [&](const nlohmann::json& part) {
        if (!layout.layers)
            layout.layers = positive_integer(part, {"num_hidden_layers", "n_layer", "n_layers", "num_layers"});
        if (!layout.vocabulary) layout.vocabulary = positive_integer(part, {"vocab_size"});
        const auto tied = part.find("tie_word_embeddings");
        if (!layout.tied && tied != part.end() && tied->is_boolean()) layout.tied = tied->get<bool>();
    };
    // The language model of a model with several parts is the one whose layers recipes count.
    for (const char* key : {"text_config", "llm_config", "language_config"}) {
        const auto part = config.find(key);
        if (part != config.end() && part->is_object()) read(*part);
    }
    read(config);
}

std::string_view component(std::string_view name, size_t begin) {
    return name.substr(begin, name.find('.', begin) - begin);
}

/// "vision_tower." for the towers "vision_tower.blocks" and "model.layers"; "" if `other` does not depart from `main`.
std::string branch_of(std::string_view other, std::string_view main) {
    size_t at = 0;
    while (at < other.size() && at < main.size() && component(other, at) == component(main, at))
        at += component(other, at).size() + 1;
    if (at >= other.size()) return {};
    return std::string(other.substr(0, at)) + std::string(component(other, at)) + ".";
}

}  // namespace

const Tower* ModelLayout::tower(std::string_view name) const {
    for (const Tower& each : towers)
        if (each.name == name) return &each;
    return nullptr;
}

ModelLayout read_layout(const Checkpoint& checkpoint) {
    ModelLayout layout;
    layout.checkpoint = &checkpoint;
    read_config(layout, checkpoint.config);
    layout.places.resize(checkpoint.tensors.size());
    std::unordered_map<std::string, int> towers;
    for (size_t i = 0; i < checkpoint.tensors.size(); ++i) {
        const TensorInfo& tensor = checkpoint.tensors[i];
        LayerName name = layer_name(tensor.name);
        if (name.layer < 0 || name.layer == std::numeric_limits<int64_t>::max()) continue;
        TensorPlace& place = layout.places[i];
        const auto [found, is_new] = towers.try_emplace(std::move(name.tower), int(layout.towers.size()));
        if (is_new) layout.towers.push_back({found->first});
        place.tower = found->second;
        place.layer = name.layer;
        place.rest = std::string_view(tensor.name).substr(tensor.name.size() - name.rest.size());
        Tower& tower = layout.towers[place.tower];
        tower.layers = std::max(tower.layers, name.layer + 1);
        tower.bytes += tensor.bytes();
    }
    return layout;
}

int main_tower(const ModelLayout& layout, const std::string& reference) {
    check(!layout.towers.empty(), "{}: no tensor name has a layer number: it cannot be part of slices", reference);
    std::vector<int> candidates;
    for (int i = 0; i < int(layout.towers.size()); ++i)
        if (layout.layers && layout.towers[i].layers == *layout.layers) candidates.push_back(i);
    if (candidates.empty())
        for (int i = 0; i < int(layout.towers.size()); ++i) candidates.push_back(i);
    std::stable_sort(candidates.begin(), candidates.end(),
                     [&](int a, int b) { return layout.towers[a].bytes > layout.towers[b].bytes; });
    if (candidates.size() > 1) {
        const Tower& largest = layout.towers[candidates[0]];
        const Tower& second = layout.towers[candidates[1]];
        // An encoder and a decoder of the same depth are no main tower and side tower.
        if (largest.bytes / 2 < second.bytes)
            fail(
                "{}: layer ranges could count in {} ({} layers) or in {} ({} layers): slices need one tower that is "
                "the largest by far",
                reference, largest.name, largest.layers, second.name, second.layers);
    }
    return candidates[0];
}

Sections::Sections(const ModelLayout& layout, int main_tower) : layout_(layout), main_(main_tower) {
    for (int i = 0; i < int(layout.towers.size()); ++i) {
        if (i == main_tower) continue;
        std::string branch = branch_of(layout.towers[i].name, layout.towers[main_tower].name);
        if (!branch.empty()) branches_.push_back(std::move(branch));
    }
}

Section Sections::section(size_t tensor) const {
    const TensorPlace& place = layout_.places[tensor];
    if (place.tower >= 0) return place.tower == main_ ? Section::layers : Section::first;
    const std::string_view name = layout_.checkpoint->tensors[tensor].name;
    if (is_head(name) || contains_any(name, {"unembed", "output_embed"})) return Section::last;
    for (const std::string& branch : branches_)
        if (name.starts_with(branch)) return Section::first;
    const bool before =
        name.starts_with("emb.") ||
        contains_any(name, {"embed", "wte", "wpe", "cls_token", "mask_token", "dist_token", "register_token",
                            "token_type", "pre_layrnorm", "pre_layernorm", "norm_pre", "feature_projection"});
    return before ? Section::first : Section::last;
}

bool is_head(std::string_view name) {
    return ends_with_any(name, {"lm_head.weight", "embed_out.weight", "output_layer.weight", "lm_head.decoder.weight",
                                "cls.predictions.decoder.weight", "vocab_projector.weight"}) ||
           name == "output.weight";
}

const TensorInfo* find_embedding(const Checkpoint& checkpoint) {
    for (std::string_view name : {"model.embed_tokens.weight", "transformer.wte.weight",
                                  "model.language_model.embed_tokens.weight", "wte.weight", "shared.weight"})
        if (const TensorInfo* tensor = checkpoint.find(name)) return tensor;
    for (std::string_view ending :
         {"embed_tokens.weight", "word_embeddings.weight", "wte.weight", "tok_embeddings.weight", "embed_in.weight",
          "word_embedding.weight", "embeddings.weight", "embedding.weight"}) {
        const TensorInfo* found = nullptr;
        int count = 0;
        for (const TensorInfo& tensor : checkpoint.tensors)
            if (ends_with_component(tensor.name, ending)) {
                found = &tensor;
                ++count;
            }
        if (count == 1) return found;
        if (count > 1) return nullptr;
    }
    return nullptr;
}

bool is_optional_buffer(std::string_view name) {
    return ends_with_any(
        name, {"rotary_emb.inv_freq", "rotary_pos_emb.inv_freq", "attn.bias", "attn.masked_bias", "attention.bias",
               "attention.masked_bias", "embeddings.position_ids", "embeddings.token_type_ids"});
}

bool is_vocabulary(std::string_view name) {
    if (contains_any(name, {"pos", "wpe", "token_type", "patch", "type_embed"})) return false;
    return is_head(name) || contains_any(name, {"embed", "wte", "shared.weight"});
}

}  // namespace amalgam
