#include "src/search/normal_distribution.h"

#include <cmath>

namespace amalgam {
namespace {

constexpr double root_half = 0.70710678118654752440, root_two_pi = 2.50662827463100050242;

}  // namespace

double normal_below(double x) { return 0.5 * std::erfc(-x * root_half); }

double normal_exceeded_with(double probability) {
    if (probability > 0.5) return -normal_exceeded_with(1 - probability);
    if (probability == 0.5) return 0;
    // The asymptotic tail is a start from which Halley's method converges from every side.
    const double t = std::sqrt(-2 * std::log(probability));
    double x = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
    for (int step = 0; step < 3; ++step) {
        const double error = 0.5 * std::erfc(x * root_half) - probability;
        const double newton = error * root_two_pi * std::exp(x * x / 2);
        x += newton / (1 + x * newton / 2);
    }
    return x;
}

}  // namespace amalgam
