// exp, log, sin, acos in double from +, -, x, / and square root alone: every processor gives the same bits, which a
// libm does not promise. Errors stay below 2 units in the last place, those of the arc functions below 6 (measured
// against libm in the tests).
#pragma once
#include <cmath>
#include <cstdint>

#include "kernels/element.h"

namespace amalgam {

/// e^x for x <= 0 and moderate positive x; below -700 it is 0.
AMALGAM_BODY double exact_exp(double x) {
    double clamped = x < -700 ? -700. : x > 700 ? 700. : x;
    // Adding and taking away 1.5 x 2^52 rounds to an integer without a rounding instruction.
    constexpr double rounder = 6755399441055744.0;
    double shifted = clamped * 1.4426950408889634074 + rounder;
    double power = shifted - rounder;
    int64_t exponent = static_cast<int64_t>(bits_of(shifted) - bits_of(rounder));
    double r = (clamped - power * 6.93147180369123816490e-01) - power * 1.90821492927058770002e-10;
    double sum = 1.0 / 6227020800.0;
    sum = sum * r + 1.0 / 479001600.0;
    sum = sum * r + 1.0 / 39916800.0;
    sum = sum * r + 1.0 / 3628800.0;
    sum = sum * r + 1.0 / 362880.0;
    sum = sum * r + 1.0 / 40320.0;
    sum = sum * r + 1.0 / 5040.0;
    sum = sum * r + 1.0 / 720.0;
    sum = sum * r + 1.0 / 120.0;
    sum = sum * r + 1.0 / 24.0;
    sum = sum * r + 1.0 / 6.0;
    sum = sum * r + 0.5;
    sum = sum * r * r + r + 1.0;
    double scaled = sum * double_of(uint64_t(1023 + exponent) << 52);
    return x < -700 ? 0. : x != x ? x : scaled;
}

/// Natural logarithm of a positive normal number.
AMALGAM_BODY double exact_log(double x) {
    uint64_t bits = bits_of(x);
    // The significand goes to [sqrt(1/2), sqrt(2)), where the series converges fast.
    uint64_t shifted = bits - 0x3fe6a09e667f3bcdull;
    int64_t exponent = static_cast<int64_t>(shifted) >> 52;
    double m = double_of(bits - (uint64_t(exponent) << 52));
    double s = (m - 1) / (m + 1), z = s * s;
    double sum = 2.0 / 23;
    sum = sum * z + 2.0 / 21;
    sum = sum * z + 2.0 / 19;
    sum = sum * z + 2.0 / 17;
    sum = sum * z + 2.0 / 15;
    sum = sum * z + 2.0 / 13;
    sum = sum * z + 2.0 / 11;
    sum = sum * z + 2.0 / 9;
    sum = sum * z + 2.0 / 7;
    sum = sum * z + 2.0 / 5;
    sum = sum * z + 2.0 / 3;
    double series = s * z * sum + 2 * s;
    double power = double(exponent);
    return power * 6.93147180369123816490e-01 + (series + power * 1.90821492927058770002e-10);
}

/// sin of an angle in [0, pi].
inline double exact_sin(double x) {
    constexpr double pi_high = 3.14159265358979311600, pi_low = 1.22464679914735317720e-16;
    if (x > pi_high / 2) x = (pi_high - x) + pi_low;
    double z = x * x, sum = 0;
    for (int k = 25; k >= 3; k -= 2) sum = (1 + sum) * (-z / (double(k) * double(k - 1)));
    return x + x * sum;
}

/// cos of an angle in [0, pi].
inline double exact_cos(double x) {
    constexpr double half_pi_high = 1.57079632679489655800, half_pi_low = 6.12323399573676603587e-17;
    double from_right_angle = (half_pi_high - x) + half_pi_low;
    return from_right_angle >= 0 ? exact_sin(from_right_angle) : -exact_sin(-from_right_angle);
}

/// Arc tangent of a number >= 0.
inline double exact_atan(double x) {
    constexpr double half_pi = 1.57079632679489655800, half_pi_low = 6.12323399573676603587e-17;
    if (x > 1) return (half_pi - exact_atan(1 / x)) + half_pi_low;
    // atan(x) = 2 atan(x / (1 + sqrt(1 + x^2))): three halvings leave an angle below 0.1.
    double factor = 1;
    for (int halving = 0; halving < 3; ++halving) {
        x = x / (1 + std::sqrt(1 + x * x));
        factor *= 2;
    }
    double z = x * x, sum = 0;
    for (int k = 19; k >= 3; k -= 2) sum = -z * (1.0 / k + sum);
    return factor * (x + x * sum);
}

/// Angle in [0, pi] whose cosine is c; c beyond [-1, 1] is cut.
inline double exact_acos(double c) {
    constexpr double pi = 3.14159265358979311600;
    if (!(c < 1)) return 0;
    if (c <= -1) return pi;
    double sine = std::sqrt((1 - c) * (1 + c));
    if (c == 0) return pi / 2;
    return c > 0 ? exact_atan(sine / c) : pi - exact_atan(sine / -c);
}

}  // namespace amalgam
