#include "src/search/cma_model.h"

#include <algorithm>
#include <cmath>

#include "kernels/elementary.h"
#include "src/base/error.h"
#include "src/search/symmetric_eigen.h"

namespace amalgam {
namespace {

constexpr double most_sigma = 1e32, least_sigma = 1e-290;

double squared_length(const Vector& vector) {
    double sum = 0;
    for (double value : vector) sum += value * value;
    return sum;
}

Vector weighted_sum(const std::vector<Vector>& rows, const Vector& weights, size_t size) {
    Vector sum(size);
    for (size_t k = 0; k < rows.size(); ++k) {
        if (weights[k] == 0) continue;
        for (size_t i = 0; i < size; ++i) sum[i] += weights[k] * rows[k][i];
    }
    return sum;
}

}  // namespace

void CmaModel::start(Vector mean, double sigma) {
    const auto n = size_t(genes_);
    mean_ = std::move(mean);
    sigma_ = sigma;
    sigma_path_.assign(n, 0);
    path_.assign(n, 0);
    lengths_.assign(n, 1);
    covariance_.assign(diagonal_ ? n : n * n, diagonal_ ? 1 : 0);
    if (!diagonal_) {
        for (int64_t i = 0; i < genes_; ++i) entry(i, i) = 1;
        axes_ = covariance_;
    }
    generation_ = decomposed_ = 0;
}

Vector CmaModel::step(const Vector& z) const {
    Vector y(size_t(genes_), 0);
    if (diagonal_) {
        for (size_t i = 0; i < y.size(); ++i) y[i] = lengths_[i] * z[i];
        return y;
    }
    Vector scaled(z);
    for (size_t j = 0; j < scaled.size(); ++j) scaled[j] *= lengths_[j];
    for (size_t i = 0; i < y.size(); ++i)
        for (size_t j = 0; j < y.size(); ++j) y[i] += axes_[i * y.size() + j] * scaled[j];
    return y;
}

Vector CmaModel::whiten(const Vector& y) const {
    const size_t n = y.size();
    Vector white(n);
    if (diagonal_) {
        for (size_t i = 0; i < n; ++i) white[i] = y[i] / lengths_[i];
        return white;
    }
    Vector along(n);
    for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < n; ++j) along[j] += axes_[i * n + j] * y[i];
    for (size_t j = 0; j < n; ++j) along[j] /= lengths_[j];
    for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < n; ++j) white[i] += axes_[i * n + j] * along[j];
    return white;
}

void CmaModel::learn(const CmaSteps& generation, const CmaConstants& c) {
    const auto n = size_t(genes_);
    const Vector shift = weighted_sum(generation.steps, generation.mean_weights, n);
    const Vector white = whiten(shift);
    for (size_t i = 0; i < n; ++i) mean_[i] += sigma_ * shift[i];
    // The paths keep these steps: they are drawn as often in one direction as in the other, and without them sigma
    // would take genes without a part for ones that have converged.
    for (size_t i = 0; i < generation.idle_shift.size(); ++i) mean_[i] -= sigma_ * generation.idle_shift[i];

    const double sigma_gain = std::sqrt(c.sigma_rate * (2 - c.sigma_rate) * c.mu_effective);
    for (size_t i = 0; i < n; ++i) sigma_path_[i] = (1 - c.sigma_rate) * sigma_path_[i] + sigma_gain * white[i];
    const double length = std::sqrt(squared_length(sigma_path_));
    const double ripe = 1 - exact_exp(2 * double(generation_ + c.path_start) * exact_log(1 - c.sigma_rate));
    const bool moving = length / std::sqrt(ripe) < (1.4 + 2 / (double(n) + 1)) * c.expected_length;

    const double path_gain = moving ? std::sqrt(c.path_rate * (2 - c.path_rate) * c.mu_effective) : 0;
    for (size_t i = 0; i < n; ++i) path_[i] = (1 - c.path_rate) * path_[i] + path_gain * shift[i];
    learn_covariance(generation, c, moving ? 0 : c.path_rate * (2 - c.path_rate));

    double growth = c.sigma_rate / c.sigma_damping * (length / c.expected_length - 1);
    if (generation.foreign) growth = std::min(growth, 1.);
    scale_sigma(exact_exp(growth));
    ++generation_;
    const double lazy = 1 / (10 * double(n) * (c.rank_one_rate + c.rank_mu_rate));
    if (double(generation_ - decomposed_) >= std::max(1., std::floor(lazy))) decompose();
}

void CmaModel::learn_covariance(const CmaSteps& generation, const CmaConstants& c, double stalled) {
    const auto n = size_t(genes_);
    double sum = 0;
    for (double weight : generation.covariance_weights) sum += weight;
    const double keep = 1 + c.rank_one_rate * stalled - c.rank_one_rate - c.rank_mu_rate * sum;
    Vector weights = generation.covariance_weights;
    for (size_t k = 0; k < weights.size(); ++k) {
        if (weights[k] < 0) {
            const double squared = squared_length(whiten(generation.steps[k]));
            weights[k] = squared > 0 ? weights[k] * double(n) / squared : 0;
        }
        weights[k] *= c.rank_mu_rate;
    }
    if (diagonal_) {
        for (size_t i = 0; i < n; ++i) {
            double value = keep * covariance_[i] + c.rank_one_rate * path_[i] * path_[i];
            for (size_t k = 0; k < weights.size(); ++k)
                value += weights[k] * generation.steps[k][i] * generation.steps[k][i];
            covariance_[i] = value;
        }
        return;
    }
    for (size_t i = 0; i < n; ++i) {
        double* row = &covariance_[i * n];
        for (size_t j = 0; j <= i; ++j) row[j] = keep * row[j] + c.rank_one_rate * path_[i] * path_[j];
        for (size_t k = 0; k < weights.size(); ++k) {
            const Vector& y = generation.steps[k];
            const double factor = weights[k] * y[i];
            for (size_t j = 0; j <= i; ++j) row[j] += factor * y[j];
        }
        for (size_t j = 0; j < i; ++j) covariance_[j * n + i] = row[j];
    }
}

void CmaModel::decompose() {
    decomposed_ = generation_;
    Vector values = covariance_, axes;
    const bool solved = diagonal_ || symmetric_eigen(genes_, covariance_, axes, values);
    const double largest = solved ? *std::max_element(values.begin(), values.end()) : 0;
    if (!(largest > 1e-290) || !(largest < 1e290)) {
        start(mean_, sigma_);
        return;
    }
    const double least = largest * 1e-20;
    for (size_t i = 0; i < values.size(); ++i) {
        if (diagonal_) covariance_[i] = std::max(values[i], least);
        lengths_[i] = std::sqrt(std::max(values[i], least));
    }
    if (!diagonal_) axes_ = std::move(axes);
}

double CmaModel::deviation(int64_t i) const {
    const auto place = size_t(diagonal_ ? i : i * genes_ + i);
    return std::sqrt(std::max(covariance_[place], 0.));
}

Vector CmaModel::axis(int64_t j) const {
    Vector found(size_t(genes_), 0);
    if (diagonal_) {
        found[size_t(j)] = 1;
        return found;
    }
    for (size_t i = 0; i < found.size(); ++i) found[i] = axes_[i * found.size() + size_t(j)];
    return found;
}

double CmaModel::condition() const {
    const auto [least, most] = std::minmax_element(lengths_.begin(), lengths_.end());
    const double ratio = *most / *least;
    return ratio * ratio;
}

void CmaModel::scale_sigma(double factor) { sigma_ = std::clamp(sigma_ * factor, least_sigma, most_sigma); }

bool CmaModel::replace_scaled(Vector mean, Vector scaled_covariance, double factor) {
    Vector values = scaled_covariance, axes;
    if (!diagonal_ && !symmetric_eigen(genes_, scaled_covariance, axes, values)) return false;
    // Below the smallest normal number a logarithm has no meaning.
    if (!(*std::min_element(values.begin(), values.end()) > 1e-300)) return false;
    double logarithms = 0;
    for (double value : values) logarithms += exact_log(value);
    const double sigma = exact_exp(logarithms / 2 / double(genes_));
    mean_ = std::move(mean);
    covariance_ = std::move(scaled_covariance);
    for (double& value : covariance_) value /= sigma * sigma;
    sigma_ = sigma;
    scale_sigma(factor);
    decompose();
    return true;
}

void CmaModel::exchange(OptimiserState& state) {
    state.number("sigma", sigma_);
    state.count("run_generation", generation_, 0, int64_t(1) << 48);
    state.count("decomposed", decomposed_, 0, generation_);
    state.numbers("mean", mean_, genes_);
    state.numbers("sigma_path", sigma_path_, genes_);
    state.numbers("path", path_, genes_);
    state.numbers("lengths", lengths_, genes_);
    state.numbers("covariance", covariance_, diagonal_ ? genes_ : genes_ * genes_);
    state.numbers("axes", axes_, diagonal_ ? 0 : genes_ * genes_);
    if (!state.reading()) return;
    check(sigma_ >= least_sigma && sigma_ <= most_sigma && *std::min_element(lengths_.begin(), lengths_.end()) > 0,
          "state of an optimiser: sigma or a length is not positive: the state is damaged");
}

}  // namespace amalgam
