// Random masks written once more from their definition: the design's section 3 and Philox's paper, one element at a
// time, in 32-bit words.
#pragma once
#include <array>
#include <cstdint>

#include "kernels/random.h"

namespace amalgam::test {

using Words4 = std::array<uint32_t, 4>;
using Words2 = std::array<uint32_t, 2>;

/// Philox4x32-10.
inline Words4 philox_reference(Words4 counter, Words2 key) {
    for (int round = 0; round < 10; ++round) {
        const uint64_t first = uint64_t(0xD2511F53u) * counter[0], second = uint64_t(0xCD9E8D57u) * counter[2];
        counter = {uint32_t(second >> 32) ^ counter[1] ^ key[0], uint32_t(second),
                   uint32_t(first >> 32) ^ counter[3] ^ key[1], uint32_t(first)};
        key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
    }
    return counter;
}

/// The 16 random bits of an element in the first draw or the refinement.
inline uint32_t draw_reference(const MaskAddress& address, int64_t element, bool refinement) {
    const uint64_t call = uint64_t(element) / 8;  // bits 0 to 47
    const uint32_t high = uint32_t(call >> 32) | uint32_t(address.position) << 16 | uint32_t(refinement) << 31;
    const Words4 words =
        philox_reference({uint32_t(call), high, uint32_t(address.tensor_hash), uint32_t(address.tensor_hash >> 32)},
                         {uint32_t(address.seed), uint32_t(address.seed >> 32)});
    const int j = int(element % 8);
    return words[size_t(j / 2)] >> (16 * (j % 2)) & 0xffff;
}

/// Kept if the 32 bits of both draws, the first one above, are below the threshold.
inline bool keeps_reference(const MaskAddress& address, int64_t element, uint32_t threshold) {
    return (draw_reference(address, element, false) << 16 | draw_reference(address, element, true)) < threshold;
}

}  // namespace amalgam::test
