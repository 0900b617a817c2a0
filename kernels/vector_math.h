// exp and its relatives in float32, as sums, products and selects, so that loops over them vectorise. Errors are a few
// units in the last place. NaN gives NaN.
#pragma once
#include <cstdint>
#include <cstring>

#include "kernels/element.h"
#include "kernels/target.h"

namespace amalgam {

/// Below -87.3 it is 0, above 88.7 infinity.
AMALGAM_BODY float vector_exp(float x) {
    const float low = -87.33654f, high = 88.72283f;
    float inside = x < low ? low : x;
    inside = inside > high ? high : inside;
    // Nearest whole number by way of the rounding of a large sum.
    const float shift = 12582912.0f;  // 1.5 * 2^23
    const float shifted = inside * 1.44269504f + shift;
    const float power = shifted - shift;
    const float rest = (inside - power * 0.693359375f) - power * -2.12194440e-4f;
    float sum = 1.9875691500e-4f;
    sum = sum * rest + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1.0f;
    // 2^power in two factors: 2^128 is no float, yet times a sum below 1 the result may be.
    const int32_t whole = int32_t(bits_of(shifted)) - int32_t(bits_of(shift));
    const int32_t half = whole >> 1;
    const float first = float_of(uint32_t(half + 127) << 23), second = float_of(uint32_t(whole - half + 127) << 23);
    float result = sum * first * second;
    result = x > high ? float_of(0x7f800000u) : result;
    result = x < low ? 0.0f : result;
    return x == x ? result : x;
}

AMALGAM_BODY float vector_tanh(float x) {
    const float size = x < 0 ? -x : x;
    const float e = vector_exp(-2 * size);
    const float large = (1 - e) / (1 + e);
    // Where 1 - e would cancel: the odd series.
    const float square = x * x;
    const float small =
        size *
        (1 + square * (-0.333333333f + square * (0.133333333f + square * (-0.0539682540f + square * 0.0218694885f))));
    const float result = size < 0.2f ? small : large;
    return x < 0 ? -result : result;
}

}  // namespace amalgam
