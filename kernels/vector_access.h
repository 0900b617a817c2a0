// Loads and stores of up to 16 bytes at once, for the short packs of a GPU's threads.
#pragma once
#include <cstdint>
#include <cstring>

#include "kernels/target.h"

namespace amalgam {

/// Throws std::logic_error: a GPU would stop at this access.
[[noreturn]] void fail_misaligned(const void* address, int bytes);

template <int Bytes>
AMALGAM_BODY bool is_aligned(const void* address) {
    return reinterpret_cast<uintptr_t>(address) % Bytes == 0;
}

/// `Bytes` of 1, 2, 4, 8 or 16 as 32-bit words, little end first; the address is a multiple of `Bytes`.
template <int Bytes>
AMALGAM_BODY void load_words(const void* address, uint32_t* words) {
#if defined(__CUDA_ARCH__)
    if constexpr (Bytes == 16) {
        const uint4 loaded = __ldca(static_cast<const uint4*>(address));
        words[0] = loaded.x, words[1] = loaded.y, words[2] = loaded.z, words[3] = loaded.w;
    } else if constexpr (Bytes == 8) {
        const uint2 loaded = __ldca(static_cast<const uint2*>(address));
        words[0] = loaded.x, words[1] = loaded.y;
    } else if constexpr (Bytes == 4) {
        words[0] = __ldca(static_cast<const unsigned*>(address));
    } else if constexpr (Bytes == 2) {
        words[0] = __ldca(static_cast<const unsigned short*>(address));
    } else {
        words[0] = __ldca(static_cast<const unsigned char*>(address));
    }
#else
    if (!is_aligned<Bytes>(address)) fail_misaligned(address, Bytes);
    if constexpr (Bytes < 4) words[0] = 0;
    std::memcpy(words, address, Bytes);
#endif
}

template <int Bytes>
AMALGAM_BODY void store_words(void* address, const uint32_t* words) {
#if defined(__CUDA_ARCH__)
    if constexpr (Bytes == 16)
        __stwb(static_cast<uint4*>(address), make_uint4(words[0], words[1], words[2], words[3]));
    else if constexpr (Bytes == 8)
        __stwb(static_cast<uint2*>(address), make_uint2(words[0], words[1]));
    else if constexpr (Bytes == 4)
        __stwb(static_cast<unsigned*>(address), words[0]);
    else if constexpr (Bytes == 2)
        __stwb(static_cast<unsigned short*>(address), static_cast<unsigned short>(words[0]));
    else
        __stwb(static_cast<unsigned char*>(address), static_cast<unsigned char>(words[0]));
#else
    if (!is_aligned<Bytes>(address)) fail_misaligned(address, Bytes);
    std::memcpy(address, words, Bytes);
#endif
}

}  // namespace amalgam
