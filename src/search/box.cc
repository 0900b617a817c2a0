#include "src/search/box.h"

#include <algorithm>
#include <cmath>

namespace amalgam {

Box::Box(double low, double high) : low_(low), high_(high) {
    const double half = (high - low) / 2;
    if (std::isfinite(low)) low_margin_ = std::min(half, std::max(1., std::abs(low)) / 20);
    if (std::isfinite(high)) high_margin_ = std::min(half, std::max(1., std::abs(high)) / 20);
}

double Box::to_box(double raw) const {
    const bool has_low = std::isfinite(low_), has_high = std::isfinite(high_);
    const double first = low_ - low_margin_, last = high_ + high_margin_;
    double x = raw;
    if (has_low && has_high && (x < first || x > last)) {
        const double width = last - first;
        double place = std::fmod(x - first, 2 * width);
        if (place < 0) place += 2 * width;
        x = first + (place > width ? 2 * width - place : place);
    } else if (has_low && x < first) {
        x = 2 * first - x;
    } else if (has_high && x > last) {
        x = 2 * last - x;
    }
    if (has_low && x < low_ + low_margin_) {
        x = low_ + (x - first) * (x - first) / (4 * low_margin_);
    } else if (has_high && x > high_ - high_margin_) {
        x = high_ - (last - x) * (last - x) / (4 * high_margin_);
    }
    return std::clamp(x, low_, high_);
}

double Box::inverse(double value) const {
    value = std::clamp(value, low_, high_);
    if (std::isfinite(low_) && value < low_ + low_margin_)
        return low_ - low_margin_ + 2 * std::sqrt(low_margin_ * (value - low_));
    if (std::isfinite(high_) && value > high_ - high_margin_)
        return high_ + high_margin_ - 2 * std::sqrt(high_margin_ * (high_ - value));
    return value;
}

double Box::from_box(double value, double near) const {
    const double raw = inverse(value);
    const bool has_low = std::isfinite(low_), has_high = std::isfinite(high_);
    const double first = low_ - low_margin_, last = high_ + high_margin_;
    const auto nearer = [near](double a, double b) { return std::abs(b - near) < std::abs(a - near) ? b : a; };
    if (has_low && has_high) {
        const double period = 2 * (last - first), mirrored = 2 * first - raw;
        const double same = raw + period * std::round((near - raw) / period);
        return nearer(same, mirrored + period * std::round((near - mirrored) / period));
    }
    if (has_low) return nearer(raw, 2 * first - raw);
    if (has_high) return nearer(raw, 2 * last - raw);
    return raw;
}

}  // namespace amalgam
