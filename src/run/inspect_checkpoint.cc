#include "src/run/inspect_checkpoint.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/checkpoint/config_settings.h"
#include "src/checkpoint/output_config.h"
#include "src/checkpoint/safetensors.h"

namespace amalgam {
namespace {

void group_tensors(CheckpointFacts& facts) {
    std::map<Dtype, Amount> dtypes;
    std::map<std::pair<std::string, int64_t>, Amount> layers;
    for (const TensorInfo& tensor : facts.checkpoint.tensors) {
        facts.tensors.push_back(&tensor);
        facts.all.add(tensor);
        dtypes[tensor.dtype].add(tensor);
        const LayerName name = layer_name(tensor.name);
        (name.layer < 0 ? facts.outside : layers[{name.tower, name.layer}]).add(tensor);
    }
    std::sort(facts.tensors.begin(), facts.tensors.end(),
              [](const TensorInfo* a, const TensorInfo* b) { return natural_less(a->name, b->name); });
    facts.dtypes.assign(dtypes.begin(), dtypes.end());
    std::stable_sort(facts.dtypes.begin(), facts.dtypes.end(),
                     [](const auto& a, const auto& b) { return a.second.bytes > b.second.bytes; });
    for (const auto& [place, amount] : layers) facts.layers.push_back({place.first, place.second, amount});
}

/// What a merge that takes the configuration from here would correct.
void compare_config(CheckpointFacts& facts) {
    const std::vector<TensorInfo>& tensors = facts.checkpoint.tensors;
    const OnlyTower tower = only_tower(tensors);
    ConfigChanges changes;
    changes.tower = tower.name();
    changes.layers = tower.layers();
    changes.donor = changes.written = vocabulary_tensors(tensors);
    const auto warn = [&](const std::string& text) {
        facts.checkpoint.warnings.push_back(printable(facts.checkpoint.path) + ": " + text);
    };
    try {
        for (const std::string& text : output_config({&facts.checkpoint.config, 1}, 0, changes).warnings) warn(text);
    } catch (const Error& error) {
        warn(error.what());
    }
}

void read_settings(CheckpointFacts& facts) {
    const ConfigSettings settings(facts.checkpoint.config);
    const auto add = [&](const char* name, std::initializer_list<const char*> keys) {
        if (std::string value = settings.value(keys); !value.empty()) facts.config.emplace_back(name, std::move(value));
    };
    add("architecture", {"architectures"});
    add("model type", {"model_type"});
    add("layers", {"num_hidden_layers", "n_layer", "num_layers", "n_layers"});
    add("hidden size", {"hidden_size", "n_embd", "d_model"});
    add("feed-forward size", {"intermediate_size", "n_inner", "d_ff"});
    add("heads", {"num_attention_heads", "n_head", "num_heads"});
    add("key/value heads", {"num_key_value_heads"});
    add("head size", {"head_dim"});
    add("experts", {"num_local_experts", "num_experts", "n_routed_experts"});
    add("vocabulary", {"vocab_size"});
    add("context", {"max_position_embeddings", "n_positions"});
    add("rope theta", {"rope_theta"});
    add("tied embeddings", {"tie_word_embeddings"});
    add("dtype", {"torch_dtype", "dtype"});
}

}  // namespace

CheckpointFacts inspect_checkpoint(Files& files, const std::string& path) {
    CheckpointFacts facts;
    facts.checkpoint = open_checkpoint(files, path, false);
    try {
        refuse_quantised(facts.checkpoint);
    } catch (const Error& error) {
        facts.quantised = error.what();
    }
    for (const CheckpointFile& file : facts.checkpoint.files)
        facts.metadata.merge(read_safetensors_header(files, file.path).metadata);
    group_tensors(facts);
    compare_config(facts);
    read_settings(facts);
    return facts;
}

}  // namespace amalgam
