// What the bits of every computed dtype mean, by definition: long double and powers of two, no tricks with bits.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels/dtype.h"

namespace amalgam::test {

struct Format {
    int exponent, mantissa;
    bool has_infinity;  ///< false and saturates: E4M3FN spends the top exponent on numbers, its last code is the NaN
    bool saturates;     ///< overflow gives the largest finite number
    uint64_t canonical_nan;
    int width() const { return 1 + exponent + mantissa; }
    int bias() const { return (1 << (exponent - 1)) - 1; }
    uint64_t sign_bit() const { return uint64_t(1) << (width() - 1); }
};

inline Format format_of(Dtype dtype) {
    switch (dtype) {
        case Dtype::bf16: return {8, 7, true, false, 0x7fc0};
        case Dtype::f16: return {5, 10, true, false, 0x7e00};
        case Dtype::f8_e4m3: return {4, 3, false, true, 0x7f};
        case Dtype::f8_e5m2: return {5, 2, true, true, 0x7f};
        case Dtype::f32: return {8, 23, true, false, 0x7fc00000};
        default: return {11, 52, true, false, 0x7ff8000000000000};
    }
}

inline const std::vector<Dtype>& computed_dtypes() {
    static const std::vector<Dtype> all = {Dtype::bf16, Dtype::f16,     Dtype::f32,
                                           Dtype::f64,  Dtype::f8_e4m3, Dtype::f8_e5m2};
    return all;
}

inline std::string name_of(Dtype dtype) { return std::string(info(dtype).name); }

/// The number behind a code; exact, since a long double holds a double.
inline long double decode(Dtype dtype, uint64_t code) {
    const Format format = format_of(dtype);
    const uint64_t mantissa_mask = (uint64_t(1) << format.mantissa) - 1;
    const uint64_t mantissa = code & mantissa_mask;
    const int exponent = int((code >> format.mantissa) & ((uint64_t(1) << format.exponent) - 1));
    const long double sign = code & format.sign_bit() ? -1 : 1;
    if (exponent == (1 << format.exponent) - 1) {
        if (format.has_infinity) {
            if (mantissa == 0) return sign * std::numeric_limits<long double>::infinity();
            return std::numeric_limits<long double>::quiet_NaN();
        }
        if (mantissa == mantissa_mask) return std::numeric_limits<long double>::quiet_NaN();
    }
    const int lowest = 1 - format.bias() - format.mantissa;
    if (exponent == 0) return sign * std::ldexp(static_cast<long double>(mantissa), lowest);
    return sign * std::ldexp(static_cast<long double>(mantissa + mantissa_mask + 1), lowest + exponent - 1);
}

inline long double largest(Dtype dtype) {
    const Format format = format_of(dtype);
    uint64_t infinity_code = ((uint64_t(1) << format.exponent) - 1) << format.mantissa;
    if (!format.has_infinity) infinity_code |= (uint64_t(1) << format.mantissa) - 1;
    return decode(dtype, infinity_code - 1);
}

/// Nearest, ties to even, as if the exponent had no upper end.
inline long double round_unbounded(Dtype dtype, long double value) {
    const Format format = format_of(dtype);
    if (value == 0 || !std::isfinite(value)) return value;
    const int exponent = std::max(std::ilogb(value), 1 - format.bias());
    return std::ldexp(std::nearbyint(std::ldexp(value, format.mantissa - exponent)), exponent - format.mantissa);
}

/// Whether a number is cut to, or turns into an infinity beyond, the largest finite number.
inline bool overflows(Dtype dtype, long double value) {
    return !std::isnan(value) && std::fabs(round_unbounded(dtype, value)) > largest(dtype);
}

/// The code a number rounds to: one rounding to nearest even; NaN is the canonical one.
inline uint64_t encode(Dtype dtype, long double value) {
    const Format format = format_of(dtype);
    if (std::isnan(value)) return format.canonical_nan;
    const uint64_t sign = std::signbit(value) ? format.sign_bit() : 0;
    long double rounded = std::fabs(round_unbounded(dtype, value));
    if (rounded > largest(dtype)) {
        if (!format.saturates) return sign | ((uint64_t(1) << format.exponent) - 1) << format.mantissa;
        rounded = largest(dtype);
    }
    if (rounded == 0) return sign;
    const int exponent = std::ilogb(rounded);
    const int lowest = 1 - format.bias();
    if (exponent < lowest) return sign | uint64_t(std::ldexp(rounded, format.mantissa - lowest));
    const uint64_t significand = uint64_t(std::ldexp(rounded, format.mantissa - exponent));
    return sign | ((uint64_t(exponent - lowest) << format.mantissa) + significand);
}

}  // namespace amalgam::test
