// A model on disk: a Hugging Face folder, or a single safetensors file.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/files.h"
#include "src/checkpoint/tensor.h"

namespace amalgam {

/// Where a model reference points, after looking in the working directory, the recipe's folder and the Hugging Face
/// cache. `reference` is a path or `org/name[@revision]`. Throws Error naming every place tried, with the download
/// command for something that looks like a hub name.
std::string locate_model(Files& files, const std::string& reference, const std::string& recipe_folder);

/// "hf download org/name --revision c0ffee" for a folder of the Hugging Face cache, "" for any other.
std::string download_command(const std::string& folder);

struct CheckpointFile {
    std::string path;
    uint64_t bytes = 0;
    uint64_t header_hash = 0;  ///< XXH64 of the length word and the header
};

/// All tensors of a model and its config, nothing of their values.
struct Checkpoint {
    std::string path;    ///< folder or file as located
    std::string config;  ///< text of config.json, "" if there is none
    std::vector<CheckpointFile> files;
    std::vector<TensorInfo> tensors;  ///< sorted by name
    std::vector<std::string> warnings;

    /// nullptr if there is no such tensor.
    const TensorInfo* find(std::string_view name) const;
};

/// Opens a folder (single file, or sharded with index, any shard names) or one .safetensors file and checks it whole:
/// headers, index against files, no tensor twice. Throws Error that begins with the path. Quantised checkpoints are
/// refused, unless `refuse` is false. Names in `files` are never outside of the folder, except through symbolic links.
/// A single file stands alone: the config.json beside it is not read.
Checkpoint open_checkpoint(Files& files, const std::string& path, bool refuse = true);

/// Throws Error if the checkpoint holds quantised weights (GPTQ, AWQ, bitsandbytes, FP8 or integers with scales, ...),
/// naming the tensors or config entries that show it. Plain FP8 tensors without scales are not quantised in this sense.
void refuse_quantised(const Checkpoint& checkpoint);

/// config.json as Hugging Face's Python writes it may hold a bare NaN, Infinity or -Infinity, which is not JSON. This
/// makes them strings that no config holds by itself, for a JSON parser; restore_nonfinite() undoes it in what is
/// written.
std::string quote_nonfinite(std::string_view config);
std::string restore_nonfinite(std::string_view config);

/// Tensor names with an all-digit component: prefix before it (the tower), the number, and the rest.
struct LayerName {
    std::string tower;  ///< "model.layers"; "" if the name has no layer number
    int64_t layer = -1;
    std::string rest;  ///< "self_attn.q_proj.weight"
};
LayerName layer_name(std::string_view tensor);

/// Natural order: digit runs compare as numbers, so layers.2 comes before layers.10. Total order.
bool natural_less(std::string_view a, std::string_view b);

}  // namespace amalgam
