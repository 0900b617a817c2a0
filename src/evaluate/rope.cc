#include "src/evaluate/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace amalgam {
namespace {

/// Long waves are stretched by the factor, short ones kept, those in between blended.
double llama3_frequency(const RopeScaling& scaling, double frequency) {
    const double wave = 2 * std::numbers::pi / frequency;
    if (wave > scaling.original_context / scaling.low_frequency_factor) return frequency / scaling.factor;
    if (wave < scaling.original_context / scaling.high_frequency_factor) return frequency;
    const double share = (scaling.original_context / wave - scaling.low_frequency_factor) /
                         (scaling.high_frequency_factor - scaling.low_frequency_factor);
    return (1 - share) * frequency / scaling.factor + share * frequency;
}

/// The pairs between which YaRN goes over from kept to stretched frequencies.
struct YarnRange {
    double low, high;
};

YarnRange yarn_range(const RopeScaling& scaling, int64_t head_dim) {
    const auto pair_of = [&](double turns) {
        return double(head_dim) * std::log(scaling.original_context / (turns * 2 * std::numbers::pi)) /
               (2 * std::log(scaling.theta));
    };
    YarnRange range = {pair_of(scaling.beta_fast), pair_of(scaling.beta_slow)};
    if (scaling.truncate) range = {std::floor(range.low), std::ceil(range.high)};
    range = {std::max(range.low, 0.0), std::min(range.high, double(head_dim - 1))};
    if (range.low == range.high) range.high += 0.001;
    return range;
}

double yarn_magnitude(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1; }

double yarn_attention_factor(const RopeScaling& scaling) {
    if (scaling.attention_factor > 0) return scaling.attention_factor;
    if (scaling.mscale > 0 && scaling.mscale_all_dim > 0)
        return yarn_magnitude(scaling.factor, scaling.mscale) / yarn_magnitude(scaling.factor, scaling.mscale_all_dim);
    return yarn_magnitude(scaling.factor, 1);
}

}  // namespace

Rope make_rope(const RopeScaling& scaling, int64_t head_dim) {
    Rope rope;
    const YarnRange range = scaling.kind == RopeKind::yarn ? yarn_range(scaling, head_dim) : YarnRange{};
    for (int64_t pair = 0; pair < head_dim / 2; ++pair) {
        double frequency = std::pow(scaling.theta, -2.0 * double(pair) / double(head_dim));
        if (scaling.kind == RopeKind::linear) frequency /= scaling.factor;
        if (scaling.kind == RopeKind::llama3) frequency = llama3_frequency(scaling, frequency);
        if (scaling.kind == RopeKind::yarn) {
            const double stretched = std::clamp((double(pair) - range.low) / (range.high - range.low), 0.0, 1.0);
            frequency = frequency / scaling.factor * stretched + frequency * (1 - stretched);
        }
        rope.frequencies.push_back(float(frequency));
    }
    if (scaling.kind == RopeKind::yarn) rope.factor = float(yarn_attention_factor(scaling));
    return rope;
}

}  // namespace amalgam
