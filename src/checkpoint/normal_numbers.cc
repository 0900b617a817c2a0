#include "src/checkpoint/normal_numbers.h"

#include <algorithm>
#include <cmath>

#include "kernels/element.h"
#include "kernels/target.h"

namespace amalgam {
namespace {

constexpr int64_t pairs_of_block = random_block / 2;
constexpr int lanes = 256;

/// The output function of SplitMix64 (Steele, Lea, Flood 2014), which makes its counter an address.
AMALGAM_BODY uint64_t mix(uint64_t key, uint64_t counter) {
    uint64_t x = key + counter * 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

void draw(uint64_t key, uint64_t first, uint32_t* high, uint32_t* low) {
    AMALGAM_LANES
    for (int i = 0; i < lanes; ++i) {
        const uint64_t word = mix(key, first + uint64_t(i) + 1);
        high[i] = uint32_t(word >> 32);
        low[i] = uint32_t(word);
    }
}

/// Natural logarithm of a normal number, to about 1e-7 of its magnitude or of one.
AMALGAM_BODY float logarithm(float x) {
    const int32_t bits = int32_t(bits_of(x));
    const int32_t exponent = (bits - 0x3f3504f3) >> 23;  // so that the rest lies around one
    const float rest = float_of(uint32_t(bits - exponent * (1 << 23))) - 1.0f;
    const float s = rest / (2.0f + rest), t = s * s;
    const float series = 1.0f + t * (1.0f / 3 + t * (1.0f / 5 + t * (1.0f / 7 + t * (1.0f / 9))));
    return float(exponent) * 0.693147181f + 2.0f * s * series;
}

/// The pair of Box and Muller (1958).
AMALGAM_BODY void normal_pair(uint32_t high, uint32_t low, float& first, float& second) {
    const float uniform = (float(int32_t(high >> 9)) + 0.5f) * (1.0f / 8388608);
    const float radius = std::sqrt(-2.0f * logarithm(uniform));
    // Low word: the quarter of the circle in two bits, the place around the quarter's axis in the others.
    const uint32_t quarter = low >> 30;
    const float angle = (float(int32_t((low & 0x3fffffffu) >> 7)) - 4194304.0f) * (1.57079633f / 8388608);
    const float square = angle * angle;
    const float sine = angle * (1.0f - square * (1.0f / 6 - square * (1.0f / 120 - square * (1.0f / 5040))));
    const float cosine =
        1.0f - square * (0.5f - square * (1.0f / 24 - square * (1.0f / 720 - square * (1.0f / 40320))));
    const bool swapped = (quarter & 1) != 0;
    const uint32_t sign = (quarter >> 1) << 31;
    first = float_of(bits_of(radius * (swapped ? -sine : cosine)) ^ sign);
    second = float_of(bits_of(radius * (swapped ? cosine : sine)) ^ sign);
}

}  // namespace

void normal_numbers(uint64_t key, int64_t block, int64_t count, float* values) {
    uint32_t high[lanes], low[lanes];
    float first[lanes], second[lanes];
    // The first half of a block holds the pairs' first numbers, the second half their second ones: no shuffling.
    for (int64_t pair = 0; pair < std::min(count, pairs_of_block); pair += lanes) {
        draw(key, uint64_t(block * pairs_of_block + pair), high, low);
        AMALGAM_LANES
        for (int i = 0; i < lanes; ++i) normal_pair(high[i], low[i], first[i], second[i]);
        std::copy_n(first, std::min<int64_t>(lanes, count - pair), values + pair);
        const int64_t rest = std::clamp<int64_t>(count - pairs_of_block - pair, 0, lanes);
        std::copy_n(second, rest, values + (rest > 0 ? pairs_of_block + pair : 0));
    }
}

void random_words(uint64_t key, int64_t block, int64_t count, uint32_t* words) {
    uint32_t high[lanes], low[lanes];
    for (int64_t pair = 0; pair < std::min(count, pairs_of_block); pair += lanes) {
        draw(key, uint64_t(block * pairs_of_block + pair), high, low);
        std::copy_n(high, std::min<int64_t>(lanes, count - pair), words + pair);
        const int64_t rest = std::clamp<int64_t>(count - pairs_of_block - pair, 0, lanes);
        std::copy_n(low, rest, words + (rest > 0 ? pairs_of_block + pair : 0));
    }
}

}  // namespace amalgam
