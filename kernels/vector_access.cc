#include "kernels/vector_access.h"

#include <stdexcept>
#include <string>

namespace amalgam {

void fail_misaligned(const void* address, int bytes) {
    throw std::logic_error("an access of " + std::to_string(bytes) + " bytes at an address that is " +
                           std::to_string(reinterpret_cast<uintptr_t>(address) % uintptr_t(bytes)) +
                           " bytes past a multiple of its size: a GPU stops there");
}

}  // namespace amalgam
