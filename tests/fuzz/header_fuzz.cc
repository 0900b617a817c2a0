// Any bytes as a safetensors file: Error or a header that keeps the format's promises.
#include <cstdlib>
#include <set>

#include "src/checkpoint/safetensors.h"
#include "tests/fuzz/one_file.h"

namespace {

using amalgam::SafetensorsHeader;

void require(bool condition) {
    if (!condition) std::abort();
}

void check_promises(const SafetensorsHeader& header, uint64_t file_bytes) {
    uint64_t next = header.data_begin;
    std::set<std::string> names;
    for (const amalgam::TensorInfo& tensor : header.tensors) {
        require(tensor.begin == next && tensor.end >= tensor.begin);
        require(names.insert(tensor.name).second);
        const auto bits = static_cast<uint64_t>(amalgam::info(tensor.dtype).bits);
        require(static_cast<uint64_t>(tensor.elements()) * bits == tensor.bytes() * 8);
        for (int64_t dimension : tensor.shape) require(dimension >= 0);
        next = tensor.end;
    }
    require(next == file_bytes && header.file_bytes == file_bytes);
}

template <class Read>
void expect_error_or_promises(uint64_t file_bytes, Read read) {
    SafetensorsHeader header;
    try {
        header = read();
    } catch (const amalgam::Error& error) {
        require(!std::string(error.what()).empty());
        return;
    }
    check_promises(header, file_bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
    const std::string file(reinterpret_cast<const char*>(bytes), size);
    amalgam::OneFile files(file);
    expect_error_or_promises(size, [&] { return amalgam::read_safetensors_header(files, "file"); });
    // Most changes break the length word: the same again with what looks like the header.
    const size_t end = file.rfind('}');
    if (size < 8 || end == std::string::npos || end < 8) return 0;
    expect_error_or_promises(
        size, [&] { return amalgam::parse_safetensors_header(std::string_view(file).substr(8, end - 7), size); });
    return 0;
}
