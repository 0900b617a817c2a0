// Where every byte of an output checkpoint goes, before any of it is computed. Pure.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/dtype.h"

namespace amalgam {

/// A tensor to be written.
struct OutputTensor {
    std::string name;
    Dtype dtype = Dtype::f32;
    std::vector<int64_t> shape;  ///< row-major; empty: one element
};

/// Data sections begin at a multiple of this, so that direct input and output need no bounce copy.
constexpr uint64_t data_alignment = 4096;

/// The safetensors files of a checkpoint. Tensors lie in the order given, without holes, within and across files.
struct OutputLayout {
    struct File {
        std::string name;         ///< "model.safetensors", or "model-00002-of-00007.safetensors"
        std::string header;       ///< the file's first data_begin bytes: length word, JSON, blanks
        uint64_t data_begin = 0;  ///< a multiple of data_alignment
        uint64_t bytes = 0;       ///< size of the whole file
    };
    /// Of one tensor, in the order given.
    struct Place {
        int file = 0;        ///< index into files
        uint64_t begin = 0;  ///< first byte, counted from the start of the file
        uint64_t bytes = 0;
    };

    std::vector<File> files;    ///< at least one
    std::vector<Place> places;  ///< one a tensor
    std::string index;          ///< text of model.safetensors.index.json; "" if there is one file only
    uint64_t tensor_bytes = 0;  ///< data of all tensors
    uint64_t file_bytes = 0;    ///< all files with their headers
};

constexpr const char* index_file_name = "model.safetensors.index.json";

/// Fills files greedily in the order given: a file is closed when it holds a tensor and the next would take its data
/// beyond `shard_bytes`; so a larger tensor gets a file of its own. 0 means no limit. Linear in the number of tensors.
/// Throws Error for a name that is used twice, not UTF-8 or reserved, for a size that is no whole number of bytes or
/// does not fit 63 bits, and for a header beyond what readers accept (a smaller shard size helps).
OutputLayout layout_output(std::span<const OutputTensor> tensors, uint64_t shard_bytes);

}  // namespace amalgam
