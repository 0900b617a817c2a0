#include "src/search/stopping.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"

namespace amalgam {
namespace {

constexpr double least_range = 1e-12;

bool within(const Key& a, const Key& b) {
    for (size_t i = 0; i < a.size(); ++i)
        if (!(std::abs(a[i] - b[i]) < least_range)) return false;
    return true;
}

Key median(std::vector<Key> keys) {
    const auto middle = keys.begin() + int64_t(keys.size() / 2);
    std::nth_element(keys.begin(), middle, keys.end(), better);
    return *middle;
}

bool narrow(const CmaModel& model, double start_sigma) {
    const double least = 1e-12 * start_sigma;
    for (int64_t i = 0; i < int64_t(model.mean().size()); ++i) {
        if (!(model.sigma() * model.deviation(i) < least)) return false;
        if (!(model.sigma() * std::abs(model.path()[size_t(i)]) < least)) return false;
    }
    return true;
}

/// A step of sigma along an axis or in a coordinate is lost in rounding.
bool no_effect(const CmaModel& model) {
    const auto n = int64_t(model.mean().size());
    for (int64_t i = 0; i < n; ++i) {
        const double mean = model.mean()[size_t(i)];
        if (mean + 0.2 * model.sigma() * model.deviation(i) == mean) return true;
    }
    const int64_t j = model.generation() % n;
    const Vector axis = model.axis(j);
    const double length = 0.1 * model.sigma() * model.lengths()[size_t(j)];
    for (size_t i = 0; i < axis.size(); ++i)
        if (model.mean()[i] + length * axis[i] != model.mean()[i]) return false;
    return true;
}

}  // namespace

StopRules::StopRules(int64_t genes, int64_t population, bool patient)
    : flat_window_(10 + (30 * genes + population - 1) / population),
      window_(120 + 30 * genes / population),
      patient_(patient) {}

void StopRules::record(const std::vector<Key>& sorted) {
    best_.push_back(sorted.front());
    median_.push_back(sorted[sorted.size() / 2]);
    worst_ = sorted.back();
    if (int64_t(best_.size()) > std::max(window_, flat_window_)) {
        best_.erase(best_.begin());
        median_.erase(median_.begin());
    }
}

bool StopRules::flat() const {
    if (int64_t(best_.size()) < flat_window_) return false;
    const Key& newest = best_.back();
    return within(newest, worst_) &&
           std::all_of(best_.end() - flat_window_, best_.end(), [&](const Key& key) { return within(key, newest); });
}

bool StopRules::stagnated() const {
    if (int64_t(best_.size()) < window_) return false;
    const int64_t share = window_ * 3 / 10;
    for (const std::vector<Key>* keys : {&best_, &median_}) {
        const auto first = keys->end() - window_;
        if (better(median({keys->end() - share, keys->end()}), median({first, first + share}))) return false;
    }
    return true;
}

std::string StopRules::reason(const CmaModel& model, double start_sigma) const {
    const double longest = *std::max_element(model.lengths().begin(), model.lengths().end());
    if (flat()) return "all candidates of the last generations are equal";
    if (narrow(model, start_sigma)) return "sigma fell below 1e-12 of its start";
    if (model.sigma() * longest > 1e4 * start_sigma) return "sigma grew above 10,000 times its start";
    if (model.condition() > 1e14) return "the covariance's condition is above 1e14";
    if (no_effect(model)) return "a step of sigma is lost in rounding";
    if (!patient_ && stagnated()) return "no progress over the last generations";
    return "";
}

void StopRules::exchange(OptimiserState& state, int64_t objectives) {
    const int64_t most = std::max(window_, flat_window_);
    state.rows("best_keys", best_, objectives, most);
    state.rows("median_keys", median_, objectives, most);
    std::vector<Key> worst;
    if (!worst_.empty()) worst.push_back(worst_);
    state.rows("worst_key", worst, objectives, 1);
    worst_ = worst.empty() ? Key{} : worst[0];
    if (!state.reading()) return;
    check(best_.size() == median_.size() && best_.empty() == worst_.empty(),
          "state of an optimiser: the last generations do not fit together: the state is damaged");
}

}  // namespace amalgam
