// Models in memory for tests of resolving: names, shapes and dtypes as real ones have them, zeros as data.
#pragma once
#include <fmt/format.h>

#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/recipe/recipe.h"
#include "src/recipe/resolve.h"
#include "tests/base/memory_files.h"
#include "tests/checkpoint/small_checkpoint.h"

namespace amalgam {

struct SmallModel {
    int layers = 3;
    int vocabulary = 11;
    bool tied = false;
    std::string dtype = "F32";
    std::string prefix = "model.";
};

inline std::vector<SmallTensor> small_llama(const SmallModel& model) {
    std::vector<SmallTensor> tensors = {{model.prefix + "embed_tokens.weight", model.dtype, {model.vocabulary, 4}}};
    for (int i = 0; i < model.layers; ++i) {
        const std::string layer = fmt::format("{}layers.{}.", model.prefix, i);
        tensors.push_back({layer + "input_layernorm.weight", model.dtype, {4}});
        tensors.push_back({layer + "self_attn.q_proj.weight", model.dtype, {4, 4}});
        tensors.push_back({layer + "mlp.down_proj.weight", model.dtype, {4, 6}});
    }
    tensors.push_back({model.prefix + "norm.weight", model.dtype, {4}});
    if (!model.tied) tensors.push_back({"lm_head.weight", model.dtype, {model.vocabulary, 4}});
    return tensors;
}

class SmallModels {
  public:
    MemoryFiles files;

    void add(const std::string& name, const std::vector<SmallTensor>& tensors, const std::string& config = "{}") {
        files.contents[name + "/model.safetensors"] = small_safetensors(tensors);
        files.contents[name + "/config.json"] = config;
    }

    void add_llama(const std::string& name, const SmallModel& model = {}) {
        add(name, small_llama(model),
            fmt::format(R"({{"num_hidden_layers":{},"vocab_size":{},"tie_word_embeddings":{}}})", model.layers,
                        model.vocabulary, model.tied));
    }

    Merge resolve(const std::string& yaml, const ResolveOptions& options = {}) {
        return amalgam::resolve(files, parse_recipe(yaml, "r.yaml"), options);
    }

    std::string error_of(const std::string& yaml, const ResolveOptions& options = {}) {
        try {
            resolve(yaml, options);
        } catch (const Error& error) {
            return error.what();
        }
        return "no error";
    }
};

inline const TensorTask& task_of(const Merge& merge, const std::string& name) {
    for (const TensorTask& task : merge.tasks)
        if (task.name == name) return task;
    throw Error("no task " + name);
}

inline bool has_task(const Merge& merge, const std::string& name) {
    for (const TensorTask& task : merge.tasks)
        if (task.name == name) return true;
    return false;
}

/// Value of a per-model field of an input.
inline double field_of(const Merge& merge, const TaskInput& input, const std::string& name) {
    return input.fields[merge.method->field(name)];
}

inline double global_of(const Merge& merge, const TensorTask& task, const std::string& name) {
    return task.global[merge.method->field(name)];
}

/// "model 0 position 1 model.norm.weight" of every input, for comparisons.
inline std::vector<std::string> inputs_of(const Merge& merge, const TensorTask& task) {
    std::vector<std::string> texts;
    for (const TaskInput& input : task.inputs)
        texts.push_back(
            fmt::format("{}:{} {}", input.position, merge.models[input.model].reference, input.tensor.name));
    return texts;
}

inline std::string base_of(const Merge& merge, const TensorTask& task) {
    if (!task.base) return "none";
    return fmt::format("{}:{} {}", task.base->position, merge.models[task.base->model].reference,
                       task.base->tensor.name);
}

}  // namespace amalgam
