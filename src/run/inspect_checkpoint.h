// What a checkpoint holds, from its headers alone.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "src/base/files.h"
#include "src/checkpoint/checkpoint.h"

namespace amalgam {

/// How much a group of tensors holds.
struct Amount {
    int64_t tensors = 0;
    int64_t parameters = 0;  ///< elements
    uint64_t bytes = 0;

    void add(const TensorInfo& tensor) {
        ++tensors;
        parameters += tensor.elements();
        bytes += tensor.bytes();
    }
    bool operator==(const Amount&) const = default;
};

struct LayerAmount {
    std::string tower;  ///< "model.layers"
    int64_t layer = 0;
    Amount amount;
};

struct CheckpointFacts {
    Checkpoint checkpoint;
    std::vector<const TensorInfo*> tensors;       ///< in natural order of their names; points into checkpoint
    std::map<std::string, std::string> metadata;  ///< of all files; the first file that has a key counts
    Amount all;
    std::vector<std::pair<Dtype, Amount>> dtypes;             ///< most bytes first
    std::vector<LayerAmount> layers;                          ///< by tower, then by number
    Amount outside;                                           ///< tensors of no layer
    std::vector<std::pair<std::string, std::string>> config;  ///< settings of config.json that say what the model is
    std::string quantised;  ///< why a merge would refuse the checkpoint; "": it would not

    CheckpointFacts() = default;
    CheckpointFacts(CheckpointFacts&&) = default;
    CheckpointFacts& operator=(CheckpointFacts&&) = default;
};

/// `path` is a file or folder. Throws Error that begins with the path for anything the strict reader refuses.
CheckpointFacts inspect_checkpoint(Files& files, const std::string& path);

}  // namespace amalgam
