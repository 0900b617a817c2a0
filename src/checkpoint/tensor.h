// A tensor in a file.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/dtype.h"

namespace amalgam {

/// Name, type, shape and place of one stored tensor.
struct TensorInfo {
    std::string name;
    Dtype dtype = Dtype::f32;
    std::vector<int64_t> shape;  ///< row-major; empty: one element
    int file = 0;                ///< index into Checkpoint::files
    uint64_t begin = 0;          ///< first byte, counted from the start of the file
    uint64_t end = 0;            ///< one past the last byte

    /// A zero anywhere decides first: the other dimensions of an empty tensor may be as large as they like.
    int64_t elements() const {
        int64_t product = 1;
        for (int64_t dimension : shape)
            if (dimension == 0) return 0;
        for (int64_t dimension : shape) product *= dimension;
        return product;
    }
    uint64_t bytes() const { return end - begin; }
};

/// "[32000, 4096]"
std::string shape_text(const std::vector<int64_t>& shape);

}  // namespace amalgam
