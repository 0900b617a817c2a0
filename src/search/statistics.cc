#include "src/search/statistics.h"

#include <algorithm>
#include <cmath>

namespace amalgam {

namespace {
constexpr double z95 = 1.959963984540054;
}

std::pair<double, double> wilson_interval(double right, int64_t items) {
    if (items <= 0) return {0, 1};
    const double n = double(items), share = right / n, square = z95 * z95 / n;
    const double middle = (share + square / 2) / (1 + square);
    const double half = z95 * std::sqrt(share * (1 - share) / n + square / (4 * n)) / (1 + square);
    return {std::max(0., middle - half), std::min(1., middle + half)};
}

std::pair<double, double> mean_interval(std::span<const double> scores) {
    if (scores.empty()) return {0, 1};
    double sum = 0;
    for (double score : scores) sum += score;
    if (std::all_of(scores.begin(), scores.end(), [](double score) { return score == 0 || score == 1; }))
        return wilson_interval(sum, int64_t(scores.size()));
    const double n = double(scores.size()), mean = sum / n;
    double squares = 0;
    for (double score : scores) squares += (score - mean) * (score - mean);
    const double half = n > 1 ? z95 * std::sqrt(squares / (n - 1) / n) : 1;
    return {std::max(0., mean - half), std::min(1., mean + half)};
}

std::pair<double, double> weighted_interval(double score, std::span<const TaskItems> tasks) {
    double weights = 0, below = 0, above = 0;
    for (const TaskItems& task : tasks) weights += task.weight;
    for (const TaskItems& task : tasks) {
        double mean = 0;
        for (double item : task.first) mean += item / double(task.first.size());
        const auto [low, high] = mean_interval(task.first);
        const double share = task.weight / weights;
        below += std::pow(share * (mean - low), 2);
        above += std::pow(share * (high - mean), 2);
    }
    return {std::max(0., score - std::sqrt(below)), std::min(1., score + std::sqrt(above))};
}

double sign_flip_test(std::span<const TaskItems> tasks) {
    double difference = 0, squares = 0;
    for (const TaskItems& task : tasks) {
        const double share = task.weight / double(task.first.size());
        for (size_t item = 0; item < task.first.size(); ++item) {
            const double own = share * (task.first[item] - task.second[item]);
            difference += own;
            squares += own * own;
        }
    }
    return squares == 0 ? 1 : std::erfc(std::abs(difference) / std::sqrt(2 * squares));
}

double sign_test(std::span<const double> first, std::span<const double> second) {
    int64_t more = 0, less = 0;
    for (size_t item = 0; item < first.size(); ++item) {
        more += first[item] > second[item];
        less += first[item] < second[item];
    }
    const int64_t all = more + less, tail = std::min(more, less);
    if (all == 0) return 1;
    // The sum of the lower tail of the binomial distribution at one half, term by term from its logarithm.
    double sum = 0;
    for (int64_t k = 0; k <= tail; ++k)
        sum += std::exp(std::lgamma(double(all) + 1) - std::lgamma(double(k) + 1) - std::lgamma(double(all - k) + 1) -
                        double(all) * std::log(2.));
    return std::min(1., 2 * sum);
}

}  // namespace amalgam
