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

/// One task of several: its weight in the score (of any sum) and the scores of its items, of two candidates or of one.
struct TaskItems {
    double weight = 1;
    std::span<const double> first, second;
};

/// 95 % interval of a score that is the weighted mean of tasks, from the interval of each (the method of variance estimates
/// recovery of Zou and Donner 2008, https://doi.org/10.1002/sim.3095): of one task that of its mean, shifted to a score that
/// is no mean of items.
std::pair<double, double> weighted_interval(double score, std::span<const TaskItems> tasks);

/// Two-sided test of the weighted mean difference over tasks: how probable one as large is if in each item the signs were
/// drawn by a coin, by the normal approximation. 1 if they never differ.
double sign_flip_test(std::span<const TaskItems> tasks);

/// Exact two-sided sign test on the items where two candidates differ (McNemar's test for right and wrong): the probability of
/// a difference at least as large if neither is better. 1 if they never differ. The spans have the same length.
double sign_test(std::span<const double> first, std::span<const double> second);

}  // namespace amalgam
