// Strict reader of safetensors headers (storage reference 1.1, 1.2).
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/files.h"
#include "src/checkpoint/tensor.h"

namespace amalgam {

constexpr uint64_t max_header_bytes = 100'000'000;
constexpr int64_t max_tensors_per_file = 1'000'000;

struct SafetensorsHeader {
    std::vector<TensorInfo> tensors;              ///< by position in the file; begin and end are absolute; file = 0
    std::map<std::string, std::string> metadata;  ///< of `__metadata__`
    std::vector<std::string> warnings;            ///< e.g. unknown fields of a tensor entry
    uint64_t data_begin = 0;                      ///< first byte of the data section
    uint64_t file_bytes = 0;                      ///< size of the whole file
    uint64_t header_hash = 0;                     ///< XXH64 of length word and header; by read_safetensors_header
};

/// Parses the JSON text of a header. `header` is the N bytes after the length word, `file_bytes` the size of the whole
/// file. Throws Error, without the file's name, for anything the format forbids. A dimension of an empty tensor that
/// int64_t cannot hold is stored as the largest it can, with a warning.
SafetensorsHeader parse_safetensors_header(std::string_view header, uint64_t file_bytes);

/// Reads and parses the header of one file. Throws Error that begins with the path.
SafetensorsHeader read_safetensors_header(Files& files, const std::string& path);

/// Parses `model.safetensors.index.json`: tensor name -> file name. Throws Error for duplicate names, absolute paths,
/// "..", empty or non-string entries.
std::map<std::string, std::string> parse_index(std::string_view json);

}  // namespace amalgam
