// Settings of config.json that speak of layers one by one, for output_config.cc.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace amalgam {

/// The object that holds the language model's settings: text_config, llm_config, language_config (also within
/// thinker_config), else the root itself.
nlohmann::ordered_json* text_settings(nlohmann::ordered_json& root);
const nlohmann::ordered_json* text_settings(const nlohmann::ordered_json& root);

/// Makes the layer count and all per-layer settings of `root` those of the layers in `sources`: (model, layer) for each
/// output layer; `models` are the configs of all models, nullptr for one that has none (the entries of `root` stand in).
/// Throws Error if a layer lies outside of a list it is needed from.
void set_layer_settings(nlohmann::ordered_json& root, std::span<const nlohmann::ordered_json* const> models,
                        std::span<const std::pair<int, int64_t>> sources, std::vector<std::string>& warnings);

/// Corrects a layer count that is not that of the tensors, `layers` in the only tower, called `tower`; and with it settings
/// of layers one by one, if layers are fewer. Left alone are counts that may mean something else: of models with several
/// parts, an encoder and a decoder, layers that are shared, or layers behind the counted ones.
void correct_layer_count(nlohmann::ordered_json& root, const std::string& tower, int64_t layers,
                         std::vector<std::string>& warnings);

}  // namespace amalgam
