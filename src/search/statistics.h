// How sure a score is, and whether one is better than another on the same items.
#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace amalgam {

/// Wilson's interval for a share of `right` among `items`, 95 %. (0, 1) for no items.
std::pair<double, double> wilson_interval(double right, int64_t items);

/// Interval of the mean of graded scores in [0, 1], 95 %: Wilson's for scores of 0 and 1, else that of the normal distribution,
/// within [0, 1].
std::pair<double, double> mean_interval(std::span<const double> scores);

/// Exact two-sided sign test on the items where two candidates differ (McNemar's test for right and wrong): the probability of
/// a difference at least as large if neither is better. 1 if they never differ. The spans have the same length.
double sign_test(std::span<const double> first, std::span<const double> second);

}  // namespace amalgam
