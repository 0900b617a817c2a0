// Checkpoints made of random numbers, for tests and benchmarks: a base and experts that differ from it by small noise.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/dtype.h"
#include "src/checkpoint/layout.h"

namespace amalgam {

struct SynthesizeOptions {
    std::string folder;  ///< made if it is not there; receives the folders base, expert-1, expert-2, ...
    int experts = 3;     ///< besides the base; 0 to 4,096
    uint64_t seed = 0;
    Dtype dtype = Dtype::bf16;  ///< one that is computed with

    // Shape of a Llama decoder. All at least 1; heads divide hidden, kv_heads divide heads.
    int64_t hidden = 256, mlp = 688, layers = 4, vocabulary = 1000, heads = 8, kv_heads = 4;
    bool tied = false;  ///< no lm_head

    /// Not 0: instead of a Llama, one tensor `flat.weight` of so many elements (rows of 4,096, if that divides them; else a
    /// vector) and no config.json.
    int64_t flat_elements = 0;

    double base_scale = 0.02;     ///< standard deviation of the base's weights; norms lie around 1
    double expert_scale = 0.002;  ///< of an expert's difference to the base, before rounding to dtype
    double untouched = 0;  ///< share of an expert's elements, drawn at random, that are the base's to the last bit

    uint64_t shard_bytes = 5'000'000'000;  ///< as in layout_output()
    int threads = 0;                       ///< 0: one a core
};

struct SynthesizeReport {
    std::vector<std::string> folders;  ///< base first
    int64_t parameters = 0;            ///< of one model
    uint64_t bytes = 0;                ///< of all files
};

/// Tensors of one model, in the order of the file.
std::vector<OutputTensor> synthesized_tensors(const SynthesizeOptions& options);

/// config.json of a model; "" for a flat one.
std::string synthesized_config(const SynthesizeOptions& options);

/// Writes the models. The bytes depend on seed, shape, dtype, scales and `untouched`, never on threads, and an expert's or
/// tensor's never on how many others there are. Each model is made in NAME.partial and renamed when all are complete.
/// Memory: about a megabyte a thread, whatever the size. Files are not synced to disk.
/// `progress`, if given, is called from any thread, one call at a time, with bytes done and bytes in all.
/// Throws Error for options out of range, a model folder that exists, and for what the file system refuses.
SynthesizeReport synthesize(const SynthesizeOptions& options,
                            const std::function<void(uint64_t done, uint64_t all)>& progress = {});

}  // namespace amalgam
