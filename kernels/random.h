// Random masks that are addressed, never streamed: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy
// as 1, 2, 3"), counter and key as the design's section 3 lays them out.
#pragma once
#include <cstdint>

#include "kernels/target.h"

namespace amalgam {

/// Where the draws of one tensor and one model stand.
struct MaskAddress {
    uint64_t seed = 0;         ///< of the recipe: the key
    uint64_t tensor_hash = 0;  ///< XXH64 of the output tensor's name: counter words 2 and 3
    uint64_t position = 0;     ///< of the model in the recipe: bits 48 to 62 of counter words 0 and 1
};

constexpr uint64_t refinement_bit = uint64_t(1) << 63;

/// A share as 32 bits: an element is kept if its 32 random bits are below.
AMALGAM_BODY uint32_t keep_threshold(double share) {
    double scaled = share * 4294967296.0;
    return scaled <= 0 ? 0u : scaled >= 4294967295.0 ? 0xffffffffu : static_cast<uint32_t>(scaled);
}

/// Ten rounds for `Calls` consecutive counters: the draws of 8 x Calls elements. `words` receives the four words of each
/// call in order: on a little-endian machine its 16-bit halves are the draws of the elements in order.
template <int Calls>
AMALGAM_BODY void philox(const MaskAddress& address, uint64_t first_call, uint64_t extra, uint32_t* words) {
    uint64_t x0[Calls], x1[Calls], x2[Calls], x3[Calls];
    const uint64_t place = (address.position << 48) | extra;
    AMALGAM_LANES
    for (int c = 0; c < Calls; ++c) {
        uint64_t counter = (first_call + uint64_t(c)) | place;
        x0[c] = counter & 0xffffffffu;
        x1[c] = counter >> 32;
        x2[c] = address.tensor_hash & 0xffffffffu;
        x3[c] = address.tensor_hash >> 32;
    }
    uint32_t key0 = uint32_t(address.seed), key1 = uint32_t(address.seed >> 32);
    for (int round = 0; round < 10; ++round) {
        AMALGAM_LANES
        for (int c = 0; c < Calls; ++c) {
            uint64_t product0 = (x0[c] & 0xffffffffu) * 0xD2511F53ull;
            uint64_t product1 = (x2[c] & 0xffffffffu) * 0xCD9E8D57ull;
            x0[c] = (product1 >> 32) ^ (x1[c] & 0xffffffffu) ^ key0;
            x2[c] = (product0 >> 32) ^ (x3[c] & 0xffffffffu) ^ key1;
            x1[c] = product1;
            x3[c] = product0;
        }
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    AMALGAM_LANES
    for (int c = 0; c < Calls; ++c) {
        words[4 * c] = uint32_t(x0[c]);
        words[4 * c + 1] = uint32_t(x1[c]);
        words[4 * c + 2] = uint32_t(x2[c]);
        words[4 * c + 3] = uint32_t(x3[c]);
    }
}

/// The 16 random bits of one element.
AMALGAM_BODY uint32_t mask_draw(const MaskAddress& address, int64_t element, uint64_t extra) {
    uint32_t words[4];
    philox<1>(address, uint64_t(element) / 8, extra, words);
    const int lane = int(element & 7);
    uint32_t word = words[0];
    AMALGAM_UNROLL
    for (int i = 1; i < 4; ++i) word = lane / 2 == i ? words[i] : word;
    return (word >> (16 * (lane % 2))) & 0xffffu;
}

/// Whether one element stays, by the first draw and, on equality, the second.
AMALGAM_BODY bool mask_keeps(const MaskAddress& address, int64_t element, uint32_t threshold) {
    uint32_t draw = mask_draw(address, element, 0), high = threshold >> 16;
    if (draw != high) return draw < high;
    return mask_draw(address, element, refinement_bit) < (threshold & 0xffffu);
}

/// keep[i] = 1 if element first + i stays; first and N are multiples of 8.
template <int N>
AMALGAM_BODY void mask_pack(const MaskAddress& address, int64_t first, uint32_t threshold, uint32_t* keep) {
    static_assert(N % 8 == 0);
    alignas(64) uint32_t words[N / 2];
    philox<N / 8>(address, uint64_t(first) / 8, 0, words);
    const uint32_t high = threshold >> 16;
    uint32_t ties = 0;
    AMALGAM_UNROLL
    for (int i = 0; i < N / 2; ++i) {
        uint32_t low_half = words[i] & 0xffffu, high_half = words[i] >> 16;
        keep[2 * i] = low_half < high;
        keep[2 * i + 1] = high_half < high;
        ties |= uint32_t(low_half == high) | uint32_t(high_half == high);
    }
    if (ties) {  // once in 65,536 elements
        AMALGAM_UNROLL
        for (int group = 0; group < N; group += 8) {
            const uint32_t* draws = words + group / 2;
            uint32_t here = 0, second[4];
            AMALGAM_UNROLL
            for (int i = 0; i < 4; ++i)
                here |= uint32_t((draws[i] & 0xffffu) == high) | uint32_t((draws[i] >> 16) == high);
            if (!here) continue;
            philox<1>(address, uint64_t(first + group) / 8, refinement_bit, second);
            AMALGAM_UNROLL
            for (int i = 0; i < 8; ++i) {
                const uint32_t draw = (draws[i / 2] >> (16 * (i % 2))) & 0xffffu;
                const uint32_t refined = (second[i / 2] >> (16 * (i % 2))) & 0xffffu;
                keep[group + i] = draw == high ? uint32_t(refined < (threshold & 0xffffu)) : keep[group + i];
            }
        }
    }
}

}  // namespace amalgam
