// Checkpoints small enough to be written in a test's own lines.
#pragma once
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <vector>

namespace amalgam {

struct SmallTensor {
    std::string name;
    std::string dtype = "F32";
    std::vector<int> shape = {2, 2};
};

/// The bytes of a safetensors file with zeros as data; names need no escapes. F4 and F6 are not known here.
inline std::string small_safetensors(const std::vector<SmallTensor>& tensors) {
    std::string entries;
    size_t end = 0;
    for (const SmallTensor& tensor : tensors) {
        const size_t digits = tensor.dtype.find_first_of("123468");
        size_t bytes = digits == std::string::npos ? 1 : std::stoul(tensor.dtype.substr(digits)) / 8;
        for (int dimension : tensor.shape) bytes *= static_cast<size_t>(dimension);
        entries +=
            fmt::format(R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", entries.empty() ? "" : ",",
                        tensor.name, tensor.dtype, fmt::join(tensor.shape, ","), end, end + bytes);
        end += bytes;
    }
    const std::string header = "{" + entries + "}";
    std::string bytes;
    for (int i = 0; i < 8; ++i) bytes += static_cast<char>(header.size() >> (8 * i) & 0xff);
    return bytes + header + std::string(end, '\0');
}

}  // namespace amalgam
