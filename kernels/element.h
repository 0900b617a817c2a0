// Conversions between stored elements and float or double, as integer arithmetic and selects: the same bits on every
// processor, and loops over them vectorise.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/dtype.h"
#include "kernels/target.h"

namespace amalgam {

AMALGAM_BODY uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
AMALGAM_BODY uint64_t bits_of(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
AMALGAM_BODY float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
AMALGAM_BODY double double_of(uint64_t bits) {
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

/// bytes_of() of the dtypes that are computed with; device code cannot read the table.
AMALGAM_BODY int stored_bytes(Dtype dtype) {
    switch (dtype) {
        case Dtype::f64: return 8;
        case Dtype::f32: return 4;
        case Dtype::bf16:
        case Dtype::f16: return 2;
        default: return 1;
    }
}

/// Place of the lowest set bit of a number that is not 0.
AMALGAM_BODY int lowest_bit(uint64_t bits) {
#if defined(__CUDA_ARCH__)
    return __ffsll(static_cast<long long>(bits)) - 1;
#else
    return __builtin_ctzll(bits);
#endif
}

/// Unsigned integer that holds the bits of a float or double.
template <class T>
using BitsOf = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

template <class T>
constexpr BitsOf<T> sign_mask = BitsOf<T>(1) << (8 * sizeof(T) - 1);
/// Bits of infinity: what is larger without the sign is a NaN.
template <class T>
constexpr BitsOf<T> infinity_bits = sizeof(T) == 4 ? BitsOf<T>(0x7f800000u) : BitsOf<T>(0x7ff0000000000000ull);
template <class T>
constexpr BitsOf<T> canonical_nan_bits = sizeof(T) == 4 ? BitsOf<T>(0x7fc00000u) : BitsOf<T>(0x7ff8000000000000ull);

/// Bits of |value| as an integer.
template <class T>
AMALGAM_BODY BitsOf<T> magnitude_bits(T value) {
    return bits_of(value) & ~sign_mask<T>;
}

/// Order of magnitudes (design 3): bits of |value|, and one key above infinity for every NaN: which payload a NaN has
/// after a subtraction differs between processors.
template <class T>
AMALGAM_BODY BitsOf<T> order_key(T value) {
    const BitsOf<T> bits = magnitude_bits(value);
    return bits < infinity_bits<T> + 1 ? bits : infinity_bits<T> + 1;
}

template <class T>
AMALGAM_BODY bool is_finite(T value) {
    return magnitude_bits(value) < infinity_bits<T>;
}

/// Small formats with an exponent of `Exponent` and a significand of `Mantissa` bits, IEEE-like below the top exponent.
template <int Exponent, int Mantissa>
struct SmallFloat {
    static constexpr int bias = (1 << (Exponent - 1)) - 1;
    static constexpr int width = 1 + Exponent + Mantissa;

    /// Finite values exactly; the top exponent is the caller's business.
    static AMALGAM_BODY float expand(uint32_t stored) {
        uint32_t magnitude = (stored & ((1u << (width - 1)) - 1)) << (23 - Mantissa);
        // A power of two rescales the exponent, and turns subnormal numbers into normal ones on the way.
        float value = float_of(magnitude) * float_of(uint32_t(127 + 127 - bias) << 23);
        return float_of(bits_of(value) | (stored >> (width - 1)) << 31);
    }
    /// Nearest, ties to even, of a magnitude that does not overflow; without the sign.
    static AMALGAM_BODY uint32_t shrink(uint32_t magnitude) {
        constexpr uint32_t smallest_normal = uint32_t(127 + 1 - bias) << 23;
        constexpr uint32_t adder = uint32_t(127 + 1 - bias - Mantissa + 23) << 23;
        uint32_t odd = (magnitude >> (23 - Mantissa)) & 1;
        uint32_t normal =
            (magnitude - (uint32_t(127 - bias) << 23) + (1u << (22 - Mantissa)) - 1 + odd) >> (23 - Mantissa);
        uint32_t subnormal = bits_of(float_of(magnitude) + float_of(adder)) - adder;
        return magnitude < smallest_normal ? subnormal : normal;
    }
};
using Half = SmallFloat<5, 10>;
using E4M3 = SmallFloat<4, 3>;
using E5M2 = SmallFloat<5, 2>;

AMALGAM_BODY float float_from_bf16(uint16_t stored) { return float_of(uint32_t(stored) << 16); }
AMALGAM_BODY float float_from_f16(uint16_t stored) {
    float value = Half::expand(stored);
    bool special = (stored & 0x7c00) == 0x7c00;
    uint32_t wide = (uint32_t(stored & 0x8000) << 16) | 0x7f800000u | (uint32_t(stored & 0x3ff) << 13);
    return special ? float_of(wide) : value;
}
AMALGAM_BODY float float_from_e5m2(uint8_t stored) { return float_from_f16(uint16_t(uint16_t(stored) << 8)); }
AMALGAM_BODY float float_from_e4m3(uint8_t stored) {
    float value = E4M3::expand(stored);
    return (stored & 0x7f) == 0x7f ? float_of(canonical_nan_bits<float>) : value;
}

AMALGAM_BODY uint16_t bf16_from_float(float value) {
    uint32_t bits = bits_of(value);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return uint16_t((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}
AMALGAM_BODY uint16_t f16_from_float(float value) {
    uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffffu;
    uint32_t sign = (bits >> 16) & 0x8000;
    uint32_t result = Half::shrink(magnitude);
    result = magnitude >= 0x47800000u ? 0x7c00u : result;  // from 65,536 on: infinity
    return uint16_t(magnitude > 0x7f800000u ? 0x7e00u : (result | sign));
}
/// Overflow goes to the largest finite number, infinity too.
AMALGAM_BODY uint8_t e4m3_from_float(float value) {
    uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffffu;
    uint32_t clamped = magnitude < 0x43e00000u ? magnitude : 0x43e00000u;  // 448
    uint32_t result = E4M3::shrink(clamped) | ((bits >> 24) & 0x80);
    return uint8_t(magnitude > 0x7f800000u ? 0x7fu : result);
}
AMALGAM_BODY uint8_t e5m2_from_float(float value) {
    uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffffu;
    uint32_t clamped = magnitude < 0x47600000u ? magnitude : 0x47600000u;  // 57,344
    uint32_t result = E5M2::shrink(clamped) | ((bits >> 24) & 0x80);
    return uint8_t(magnitude > 0x7f800000u ? 0x7fu : result);
}

/// Whether a value would be cut by the largest finite number of an FP8 format.
AMALGAM_BODY bool saturates(Dtype dtype, float value) {
    uint32_t magnitude = bits_of(value) & 0x7fffffffu;
    // From the midpoint to the number that would come next on; E4M3's own midpoint rounds down, to the even 448.
    uint32_t limit = dtype == Dtype::f8_e4m3 ? 0x43e80001u : 0x47700000u;
    return magnitude >= limit && magnitude <= 0x7f800000u;
}

/// Double to float, to odd: a second rounding to a shorter format then gives what one rounding would have given.
AMALGAM_BODY float narrow_to_odd(double value) {
    float nearest = static_cast<float>(value);
    uint32_t bits = bits_of(nearest), magnitude = bits & 0x7fffffffu;
    double back = static_cast<double>(nearest);
    double size = value < 0 ? -value : value, back_size = back < 0 ? -back : back;
    uint32_t toward_zero = back_size > size ? bits - 1 : bits;
    bool inexact = back != value && magnitude <= 0x7f800000u && value == value;
    return float_of(inexact ? (toward_zero | 1u) : bits);
}

AMALGAM_BODY bool saturates(Dtype dtype, double value) { return saturates(dtype, narrow_to_odd(value)); }

/// Magnitudes from these bits on become infinities when they are written (or are not finite to begin with).
template <class T>
AMALGAM_BODY BitsOf<T> overflow_bits(Dtype dtype) {
    if constexpr (sizeof(T) == 4) {
        return dtype == Dtype::f16 ? 0x477ff000u : dtype == Dtype::bf16 ? 0x7f7f8000u : infinity_bits<float>;
    } else {
        return dtype == Dtype::f16    ? 0x40effe0000000000ull
               : dtype == Dtype::bf16 ? 0x47eff00000000000ull
               : dtype == Dtype::f32  ? 0x47effffff0000000ull
                                      : infinity_bits<double>;
    }
}

}  // namespace amalgam
