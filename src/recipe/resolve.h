// A recipe made concrete: which tensors of which files make which tensor of the output, with every number filled in.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/method_info.h"
#include "src/base/files.h"
#include "src/checkpoint/checkpoint.h"
#include "src/plan/tensor_task.h"
#include "src/recipe/recipe.h"

namespace amalgam {

struct MergeModel {
    std::string reference;  ///< as in the recipe
    Checkpoint checkpoint;
    int group = -1;  ///< of ranks, on whose disks alone it lies (the recipe's `group`); -1: everywhere
};

/// Everything needed to plan and carry out a merge; plain data.
struct Merge {
    const MethodInfo* method = nullptr;
    Compat compat = Compat::mergekit;
    uint64_t seed = 0;
    std::vector<MergeModel> models;  ///< each checkpoint once, in order of first mention
    std::vector<TensorTask> tasks;   ///< output tensors in natural order of their names

    int config_donor = 0;     ///< model whose config.json is the output's: the base, else the first
    int tokenizer_donor = 0;  ///< model whose tokenizer and generation files are carried over
    /// For recipes with slices: (model, layer) each output layer's configuration comes from; empty otherwise.
    std::vector<std::pair<int, int64_t>> layer_sources;
    std::optional<Dtype> config_dtype;  ///< for config.json, if all floating-point tensors have one dtype
    std::vector<std::string> warnings;  ///< the recipe's among them
};

struct ResolveOptions {
    bool skip_on_mismatch = false;  ///< --on-mismatch skip: leave a model out of tensors whose shape does not fit
    bool take_integers = false;     ///< --integers base: take integer tensors from the base even if models disagree
};

/// Opens the models and resolves the recipe. Tensors are matched by name, no list of architectures; precedence,
/// filters, gradients and missing tensors as in mergekit 1.1 and 2, awkward input as in the design's table.
/// Throws Error naming file, line, model and tensor.
Merge resolve(Files& files, const Recipe& recipe, const ResolveOptions& options = {});

}  // namespace amalgam
