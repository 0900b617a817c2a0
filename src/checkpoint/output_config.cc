#include "src/checkpoint/output_config.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/checkpoint/checkpoint.h"
#include "src/checkpoint/layer_lists.h"

namespace amalgam {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t max_config_bytes = 16 << 20;
constexpr int max_depth = 100;
/// Ordered objects look a key up by walking over all: twenty thousand labels of a classifier are fine, a million are not.
constexpr int64_t max_keys = 100'000;

Json parse_config(const std::string& text, int model) {
    check(text.size() <= max_config_bytes, "config.json of model {} has {} bytes, more than any real one", model + 1,
          text.size());
    int64_t keys = 0;
    const auto bounds = [&](int depth, Json::parse_event_t event, Json&) {
        check(depth <= max_depth, "config.json of model {} is nested more than {} deep", model + 1, max_depth);
        if (event == Json::parse_event_t::key) ++keys;
        check(keys <= max_keys, "config.json of model {} has more than {} keys", model + 1, max_keys);
        return true;
    };
    try {
        Json config = Json::parse(quote_nonfinite(text), bounds);
        check(config.is_object(), "config.json of model {} is no JSON object", model + 1);
        return config;
    } catch (const Json::exception& error) {
        fail("config.json of model {} is not valid JSON ({}): repair it or take the configuration from another model",
             model + 1, printable(error.what()));
    }
}

std::string_view text_of(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? std::string_view(found->get_ref<const std::string&>())
                                                       : std::string_view();
}

/// The objects that may hold settings of the language model: its own and, where that is nested, the root.
std::vector<Json*> text_objects(Json& root) {
    std::vector<Json*> objects = {text_settings(root)};
    if (objects[0] != &root) objects.push_back(&root);
    return objects;
}

// ---- dtype

void set_nested_dtype(Json& object, const std::string& name) {
    for (const char* key : {"torch_dtype", "dtype"})
        if (const auto found = object.find(key); found != object.end() && (found->is_string() || found->is_null()))
            *found = name;
    for (auto& [key, value] : object.items())
        if (value.is_object() && key.ends_with("_config") && key != "quantization_config")
            set_nested_dtype(value, name);
}

void set_dtype(Json& root, Dtype dtype) {
    const std::string name(info(dtype).config_name);
    if (name.empty()) return;
    if (!root.contains("torch_dtype") && !root.contains("dtype")) {
        const std::string_view version = text_of(root, "transformers_version");
        const bool old =
            version.empty() || version.starts_with("4.") || version.starts_with("3.") || version.starts_with("2.");
        root[old ? "torch_dtype" : "dtype"] = name;
    }
    set_nested_dtype(root, name);
}

// ---- vocabulary

bool language_model(const Json& root) {
    const auto found = root.find("architectures");
    if (found == root.end() || !found->is_array()) return false;
    return std::any_of(found->begin(), found->end(), [](const Json& entry) {
        const std::string name = entry.is_string() ? entry.get<std::string>() : "";
        return name.ends_with("ForCausalLM") || name.ends_with("LMHeadModel") ||
               name.ends_with("ForConditionalGeneration");
    });
}

void set_vocabulary(Json& root, const ConfigChanges& changes, std::vector<std::string>& warnings) {
    const std::optional<int64_t> rows = changes.written.rows(), donor_rows = changes.donor.rows();
    if (!rows) return;
    const std::optional<int64_t> head_rows = changes.written.head_rows();
    const bool exact = head_rows ? *head_rows == *rows : language_model(root);
    for (Json* object : text_objects(root)) {
        const auto found = object->find("vocab_size");
        if (found == object->end() || !found->is_number_integer()) continue;
        const int64_t old = found->get<int64_t>();
        if (!exact && !donor_rows) continue;
        const int64_t next = exact ? *rows : old + (*rows - *donor_rows);
        if (next == old) continue;
        if (exact && donor_rows == rows)
            warnings.push_back(fmt::format(
                "config.json says vocab_size {}, but the embedding has {} rows: a merge corrects it", old, next));
        *found = next;
    }
}

void set_tied(Json& root, const ConfigChanges& changes, std::vector<std::string>& warnings) {
    constexpr const char* name = "tie_word_embeddings";
    if (!changes.written.has_embedding()) return;
    const bool head = changes.written.has_head();
    if (!head && !language_model(root)) return;
    const auto encoder_decoder = root.find("is_encoder_decoder");
    if (encoder_decoder != root.end() && *encoder_decoder == true) {
        // Here the key also decides how the decoder's output is scaled: it describes more than what is stored.
        if (head != changes.donor.has_head())
            warnings.push_back(
                fmt::format("config.json: {} is left as it was, though a head is {}written", name, head ? "" : "not "));
        return;
    }
    bool there = false;
    for (Json* object : text_objects(root)) {
        const auto found = object->find(name);
        if (found == object->end() || !found->is_boolean()) continue;
        there = true;
        *found = !head;
    }
    if (!there && head != changes.donor.has_head())
        for (Json* object : text_objects(root)) (*object)[name] = !head;
}

// ---- layers

void set_layers(Json& root, std::span<const std::string> configs, int donor, const ConfigChanges& changes,
                std::vector<std::string>& warnings) {
    std::vector<Json> parsed(configs.size());
    std::vector<const Json*> roots(configs.size());
    const Json before = root;
    for (const auto& [model, layer] : changes.layer_sources) {
        check(model >= 0 && size_t(model) < configs.size() && layer >= 0,
              "layer {} of model {} is asked for, of {} models", layer, model + 1, configs.size());
        if (roots[size_t(model)] || configs[size_t(model)].empty()) continue;
        if (model != donor) parsed[size_t(model)] = parse_config(configs[size_t(model)], model);
        roots[size_t(model)] = model == donor ? &before : &parsed[size_t(model)];
    }
    set_layer_settings(root, roots, changes.layer_sources, warnings);
}

}  // namespace

// ---- VocabularyTensors

void VocabularyTensors::add(std::string_view name, std::span<const int64_t> shape) {
    constexpr std::string_view embeddings[] = {"embed_tokens", "wte",    "word_embeddings", "word_embedding",
                                               "embed_in",     "shared", "tok_embeddings",  "token_embedding",
                                               "embeddings"};
    constexpr std::string_view heads[] = {"lm_head", "embed_out", "output_layer"};
    if (shape.size() != 2 || !name.ends_with(".weight") || layer_name(name).layer >= 0) return;
    std::string_view last = name.substr(0, name.size() - std::string_view(".weight").size());
    last.remove_prefix(last.rfind('.') + 1);  // npos + 1 is 0
    const Shape size = {shape[0], shape[1]};
    if (std::find(std::begin(embeddings), std::end(embeddings), last) != std::end(embeddings))
        embeddings_.push_back(size);
    else if (std::find(std::begin(heads), std::end(heads), last) != std::end(heads))
        named_head_rows_ = size.first;
    else if (last.find("pos") == std::string_view::npos)
        others_.push_back(size);
}

std::optional<int64_t> VocabularyTensors::rows() const {
    if (embeddings_.empty()) return std::nullopt;
    for (const Shape& size : embeddings_)
        if (size.first != embeddings_[0].first) return std::nullopt;
    return embeddings_[0].first;
}

std::optional<int64_t> VocabularyTensors::head_rows() const {
    if (named_head_rows_) return named_head_rows_;
    for (const Shape& size : others_)
        if (std::find(embeddings_.begin(), embeddings_.end(), size) != embeddings_.end()) return size.first;
    return std::nullopt;
}

// ---- OnlyTower

void OnlyTower::add(std::string_view name) {
    const LayerName place = layer_name(name);
    if (place.layer < 0 || place.layer == std::numeric_limits<int64_t>::max() || towers_ > 1) return;
    if (towers_ == 0 || place.tower != name_) ++towers_;
    name_ = place.tower;
    layers_ = std::max(layers_, place.layer + 1);
}

OutputConfig output_config(std::span<const std::string> configs, int donor, const ConfigChanges& changes) {
    check(donor >= 0 && size_t(donor) < configs.size(), "config.json of model {} is asked for, of {} models", donor + 1,
          configs.size());
    OutputConfig result;
    if (configs[size_t(donor)].empty()) return result;
    Json root = parse_config(configs[size_t(donor)], donor);
    if (changes.dtype) set_dtype(root, *changes.dtype);
    if (!changes.layer_sources.empty()) set_layers(root, configs, donor, changes, result.warnings);
    if (changes.layer_sources.empty()) correct_layer_count(root, changes.tower, changes.layers, result.warnings);
    set_vocabulary(root, changes, result.warnings);
    set_tied(root, changes, result.warnings);
    result.text = restore_nonfinite(root.dump(2)) + "\n";
    return result;
}

}  // namespace amalgam
