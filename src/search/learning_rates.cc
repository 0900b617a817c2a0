#include "src/search/learning_rates.h"

#include <algorithm>
#include <cmath>

#include "kernels/elementary.h"
#include "src/base/error.h"

namespace amalgam {
namespace {

constexpr double target = 1.4, mean_memory = 0.1, covariance_memory = 0.03, damping = 0.1;

/// sigma^2 C.
Vector full_covariance(const CmaModel& model) {
    Vector scaled = model.covariance();
    for (double& value : scaled) value *= model.sigma() * model.sigma();
    return scaled;
}

}  // namespace

LearningRates::LearningRates(int64_t genes, bool diagonal) : genes_(genes), diagonal_(diagonal) { reset(); }

void LearningRates::reset() {
    mean_ = {Vector(size_t(genes_), 0), 0, 1};
    covariance_ = {Vector(size_t(diagonal_ ? genes_ : genes_ * genes_), 0), 0, 1};
}

void LearningRates::follow(Signal& signal, const Vector& step, double memory) {
    double power = 0, common = 0;
    for (size_t i = 0; i < step.size(); ++i) {
        signal.average[i] = (1 - memory) * signal.average[i] + memory * step[i];
        power += step[i] * step[i];
        common += signal.average[i] * signal.average[i];
    }
    signal.power = (1 - memory) * signal.power + memory * power;
    const double noise = signal.power - common;
    const double ratio = noise > 0 ? (common - memory / (2 - memory) * signal.power) / noise : 0;
    const double excess = std::clamp(ratio / (target * signal.rate) - 1, -1., 1.);
    signal.rate = std::min(1., signal.rate * exact_exp(std::min(damping * signal.rate, memory) * excess));
}

void LearningRates::adapt(const CmaModel& before, CmaModel& after) {
    const auto n = size_t(genes_);
    Vector mean_step(n);
    for (size_t i = 0; i < n; ++i) mean_step[i] = after.mean()[i] - before.mean()[i];
    const Vector old = full_covariance(before);
    Vector covariance_step = full_covariance(after);
    for (size_t i = 0; i < old.size(); ++i) covariance_step[i] -= old[i];

    // In the coordinates where the old distribution is the standard one.
    const double sigma = before.sigma(), root_two = std::sqrt(2.);
    Vector local = before.whiten(mean_step);
    for (double& value : local) value /= sigma;
    Vector local_covariance(covariance_step);
    if (diagonal_) {
        for (size_t i = 0; i < n; ++i) local_covariance[i] /= old[i] * root_two;
    } else {
        // Rows, then columns: the matrix is symmetric.
        for (int side = 0; side < 2; ++side) {
            Vector turned(n * n);
            for (size_t i = 0; i < n; ++i) {
                const auto row = local_covariance.begin() + int64_t(i * n);
                const Vector white = before.whiten(Vector(row, row + int64_t(n)));
                for (size_t j = 0; j < n; ++j) turned[j * n + i] = white[j] / sigma;
            }
            local_covariance = std::move(turned);
        }
        for (double& value : local_covariance) value /= root_two;
    }
    const double old_mean_rate = mean_.rate;
    follow(mean_, local, mean_memory);
    follow(covariance_, local_covariance, covariance_memory);

    Vector mean = before.mean(), covariance = old;
    for (size_t i = 0; i < n; ++i) mean[i] += mean_.rate * mean_step[i];
    for (size_t i = 0; i < old.size(); ++i) covariance[i] += covariance_.rate * covariance_step[i];
    after.replace_scaled(std::move(mean), std::move(covariance), old_mean_rate / mean_.rate);
}

void LearningRates::exchange(OptimiserState& state) {
    state.numbers("mean_signal", mean_.average, genes_);
    state.number("mean_power", mean_.power);
    state.number("mean_rate", mean_.rate);
    state.numbers("covariance_signal", covariance_.average, int64_t(diagonal_ ? genes_ : genes_ * genes_));
    state.number("covariance_power", covariance_.power);
    state.number("covariance_rate", covariance_.rate);
    if (!state.reading()) return;
    check(mean_.rate > 0 && mean_.rate <= 1 && covariance_.rate > 0 && covariance_.rate <= 1,
          "state of an optimiser: a learning rate is not within 0 and 1: the state is damaged");
}

}  // namespace amalgam
