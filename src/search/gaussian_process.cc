#include "src/search/gaussian_process.h"

#include <algorithm>
#include <cmath>

#include "kernels/elementary.h"

namespace amalgam {
namespace {

using Vector = std::vector<double>;

constexpr double lengths[] = {0.5, 1, 2, 4, 8};  ///< times the typical distance
constexpr double noises[] = {1e-3, 1e-2, 1e-1, 1};

double squared_distance(const Vector& a, const Vector& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

double kernel(double squared, double length) { return exact_exp(-squared / (2 * length * length)); }

/// The lower triangle of a symmetric matrix becomes its Cholesky factor. False if it is not positive definite.
bool factorise(Vector& matrix, size_t n) {
    for (size_t j = 0; j < n; ++j)
        for (size_t i = j; i < n; ++i) {
            double sum = matrix[i * n + j];
            for (size_t k = 0; k < j; ++k) sum -= matrix[i * n + k] * matrix[j * n + k];
            if (i == j && !(sum > 0)) return false;
            matrix[i * n + j] = i == j ? std::sqrt(sum) : sum / matrix[j * n + j];
        }
    return true;
}

}  // namespace

GaussianProcess::GaussianProcess(std::vector<Vector> points, const Vector& values) : points_(std::move(points)) {
    const size_t n = values.size();
    if (n < 2) return;
    for (double value : values) prior_ += value / double(n);
    Vector centred(values), squared(n * n), apart;
    for (double& value : centred) value -= prior_;
    if (std::all_of(values.begin(), values.end(), [&](double value) { return value == values[0]; })) return;
    for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < i; ++j) {
            squared[i * n + j] = squared[j * n + i] = squared_distance(points_[i], points_[j]);
            apart.push_back(squared[i * n + j]);
        }
    const auto middle = apart.begin() + std::ptrdiff_t(apart.size() / 2);
    std::nth_element(apart.begin(), middle, apart.end());
    typical_ = std::sqrt(*middle);
    if (!(typical_ > 0)) return;
    for (double length : lengths)
        for (double noise : noises) fit(squared, centred, length * typical_, noise);
}

void GaussianProcess::fit(const Vector& squared, const Vector& centred, double length, double noise) {
    const size_t n = centred.size();
    Vector factor(n * n);
    for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j <= i; ++j) factor[i * n + j] = kernel(squared[i * n + j], length) + (i == j ? noise : 0);
    if (!factorise(factor, n)) return;
    Vector solved(centred);
    double logarithms = 0, misfit = 0;
    for (size_t i = 0; i < n; ++i) {
        for (size_t k = 0; k < i; ++k) solved[i] -= factor[i * n + k] * solved[k];
        solved[i] /= factor[i * n + i];
        logarithms += exact_log(factor[i * n + i]);
        misfit += solved[i] * solved[i];
    }
    if (!(misfit > 0)) return;
    const double evidence = -0.5 * double(n) * exact_log(misfit / double(n)) - logarithms;
    if (!weights_.empty() && !(evidence > evidence_)) return;
    for (size_t i = n; i-- > 0;) {
        for (size_t k = i + 1; k < n; ++k) solved[i] -= factor[k * n + i] * solved[k];
        solved[i] /= factor[i * n + i];
    }
    weights_ = std::move(solved);
    length_ = length;
    noise_ = noise;
    evidence_ = evidence;
}

double GaussianProcess::expect(const Vector& at, Vector* gradient) const {
    double sum = prior_;
    if (gradient) gradient->assign(at.size(), 0);
    for (size_t k = 0; k < weights_.size(); ++k) {
        const double part = weights_[k] * kernel(squared_distance(at, points_[k]), length_);
        sum += part;
        if (!gradient) continue;
        for (size_t i = 0; i < at.size(); ++i) (*gradient)[i] += part * (points_[k][i] - at[i]) / (length_ * length_);
    }
    return sum;
}

}  // namespace amalgam
