// Any bytes as an index or config.json: Error, or names that stay inside the folder.
#include <cstdlib>

#include "src/base/error.h"
#include "src/checkpoint/checkpoint.h"
#include "src/checkpoint/safetensors.h"

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

void check_file_name(const std::string& name) {
    require(!name.empty() && name.front() != '/' && name.back() != '/');
    require(("/" + name + "/").find("/../") == std::string::npos);
    require(("/" + name + "/").find("/./") == std::string::npos);
    for (char c : name) require(static_cast<unsigned char>(c) >= 0x20);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
    const std::string text(reinterpret_cast<const char*>(bytes), size);
    try {
        const auto index = amalgam::parse_index(text);
        require(!index.empty());
        for (const auto& [tensor, file] : index) {
            check_file_name(file);
            const amalgam::LayerName layer = amalgam::layer_name(tensor);
            require(layer.layer >= -1 && layer.tower.size() + layer.rest.size() <= tensor.size());
            require(!(amalgam::natural_less(tensor, file) && amalgam::natural_less(file, tensor)));
        }
    } catch (const amalgam::Error& error) {
        require(!std::string(error.what()).empty());
    }
    if (text.find("amalgam:nonfinite:") == std::string::npos)
        require(amalgam::restore_nonfinite(amalgam::quote_nonfinite(text)) == text);
    return 0;
}
