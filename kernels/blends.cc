#include "kernels/blends.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "kernels/elementary.h"

namespace amalgam::blends {

namespace {
double norm(const Gram& gram, int64_t i) { return std::sqrt(std::max(gram(i, i), 0.)); }
double clamp_cosine(double c) { return c < -1 ? -1. : c > 1 ? 1. : c; }

/// Squared length of a combination of the vectors behind a Gram matrix. Where the terms cancel, what is left of them
/// may be their rounding alone: that is 0, and no direction.
double squared_length(const Gram& gram, const std::vector<double>& a) {
    constexpr double noise = 64 * std::numeric_limits<double>::epsilon();
    double total = 0, sizes = 0;
    for (size_t i = 0; i < a.size(); ++i)
        for (size_t j = 0; j < a.size(); ++j) {
            double term = a[i] * a[j] * gram(int64_t(i), int64_t(j));
            total += term;
            sizes += std::fabs(term);
        }
    return total > noise * sizes ? total : 0.;
}
/// Dot product of vector i with a combination.
double dot(const Gram& gram, int64_t i, const std::vector<double>& a) {
    double total = 0;
    for (size_t j = 0; j < a.size(); ++j) total += a[j] * gram(i, int64_t(j));
    return total;
}
}  // namespace

std::vector<double> slerp(const Gram& gram, double t) {
    constexpr double zero = 1e-8, parallel = 0.9995;
    double first = norm(gram, 0), second = norm(gram, 1);
    double cosine = gram(0, 1) / ((first > zero ? first : 1) * (second > zero ? second : 1));
    if (std::fabs(cosine) > parallel) return {1 - t, t};
    double angle = exact_acos(cosine), sine = exact_sin(angle);
    return {exact_sin(angle - angle * t) / sine, exact_sin(angle * t) / sine};
}

std::vector<double> nuslerp(const Gram& gram, double first_weight, double second_weight) {
    double total = first_weight + second_weight;
    double t = std::fabs(total) < 1e-6 ? 0.5 : second_weight / total;
    double cosine = clamp_cosine(gram(0, 1) / (std::max(norm(gram, 0), 1e-7) * std::max(norm(gram, 1), 1e-7)));
    double angle = exact_acos(cosine), sine = exact_sin(angle);
    // The cosine of exact opposites is -1 but for its rounding, which the angle turns into 1e-8 and the quotients into
    // factors of 10^8 that cancel.
    if (std::fabs(sine) < 1e-8 || cosine < -1 + 1e-14) return {1 - t, t};
    // t may lie outside [0, 1] if a weight is negative; sin is odd, and its argument stays within two turns.
    auto sin_any = [](double x) {
        constexpr double pi = 3.14159265358979311600;
        bool negative = x < 0;
        if (negative) x = -x;
        while (x > pi) {
            x -= pi;
            negative = !negative;
        }
        double value = exact_sin(x);
        return negative ? -value : value;
    };
    return {sin_any((1 - t) * angle) / sine, sin_any(t * angle) / sine};
}

std::vector<double> multislerp(const Gram& gram, std::span<const double> weights, bool normalize, double eps) {
    const size_t n = weights.size();
    std::vector<double> w(weights.begin(), weights.end()), length(n), mean(n), result(n);
    double total = 0;
    for (double weight : w) total += weight;
    if (normalize)
        for (double& weight : w) weight /= total;
    for (size_t i = 0; i < n; ++i) {
        length[i] = norm(gram, int64_t(i));
        mean[i] = w[i] / (length[i] + eps);
    }
    double mean_length = std::sqrt(squared_length(gram, mean));
    if (mean_length < eps) {
        if (n != 2) throw std::domain_error("the weighted directions cancel each other");
        return w;
    }
    for (double& factor : mean) factor /= mean_length;
    // Tangent at the mean: sum of w_i (u_i - (u_i . m) m).
    std::vector<double> tangent(n);
    double along = 0, mean_norm = 0;
    for (size_t i = 0; i < n; ++i) {
        double unit = 1 / (length[i] + eps);
        tangent[i] += w[i] * unit;
        along += w[i] * unit * dot(gram, int64_t(i), mean);
        mean_norm += w[i] * length[i];
    }
    for (size_t i = 0; i < n; ++i) tangent[i] -= along * mean[i];
    double tau = std::sqrt(squared_length(gram, tangent)) + eps;
    // Any angle: reduce by whole turns, then by symmetry, to [0, pi].
    constexpr double pi = 3.14159265358979311600;
    double angle = std::fmod(tau, 2 * pi);
    double cosine = angle <= pi ? exact_cos(angle) : exact_cos(2 * pi - angle);
    double sine = angle <= pi ? exact_sin(angle) : -exact_sin(2 * pi - angle);
    for (size_t i = 0; i < n; ++i) result[i] = (mean[i] * cosine + tangent[i] * (sine / tau)) * mean_norm;
    return result;
}

std::vector<double> karcher(const Gram& gram, int max_iter, double tol) {
    const size_t n = size_t(gram.size());
    std::vector<double> length(n), point(n), result(n);
    size_t live = 0;
    double scale = 0;
    for (size_t i = 0; i < n; ++i) {
        length[i] = norm(gram, int64_t(i));
        live += length[i] > tol;
        scale += length[i] / double(n);
    }
    if (!live) return result;
    const double alpha = 1 / double(live);
    for (size_t i = 0; i < n; ++i) point[i] = length[i] > tol ? alpha / length[i] : 0;
    double point_length = std::sqrt(squared_length(gram, point));
    if (point_length <= tol) {
        size_t first =
            size_t(std::find_if(length.begin(), length.end(), [&](double l) { return l > tol; }) - length.begin());
        std::fill(point.begin(), point.end(), 0.);
        point[first] = 1 / length[first];
    } else {
        for (double& factor : point) factor /= point_length;
    }
    for (int iteration = 0; iteration < max_iter; ++iteration) {
        std::vector<double> step(n);
        double along = 0;
        for (size_t i = 0; i < n; ++i) {
            if (length[i] <= tol) continue;
            double cosine = clamp_cosine(dot(gram, int64_t(i), point) / length[i]);
            double angle = exact_acos(cosine);
            if (angle < tol) continue;
            double sine = exact_sin(angle);
            if (sine < 1e-7) continue;  // from the antipode every direction leads here, and none is sure
            double factor = alpha * angle / sine;
            step[i] += factor / length[i];
            along += factor * cosine;
        }
        for (size_t i = 0; i < n; ++i) step[i] -= along * point[i];
        double step_length = std::sqrt(squared_length(gram, step));
        if (step_length <= tol) break;
        constexpr double pi = 3.14159265358979311600;
        double angle = std::fmod(step_length, 2 * pi);
        double cosine = angle <= pi ? exact_cos(angle) : exact_cos(2 * pi - angle);
        double sine = angle <= pi ? exact_sin(angle) : -exact_sin(2 * pi - angle);
        for (size_t i = 0; i < n; ++i) point[i] = cosine * point[i] + sine / step_length * step[i];
        double renewed = std::sqrt(squared_length(gram, point));
        if (renewed > tol)
            for (double& factor : point) factor /= renewed;
    }
    for (size_t i = 0; i < n; ++i) result[i] = point[i] * scale;
    return result;
}

double model_stock(const Gram& gram) {
    const int64_t n = gram.size();
    double total = 0;
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = i + 1; j < n; ++j)
            total += clamp_cosine(gram(i, j) / std::max(norm(gram, i) * norm(gram, j), 1e-6));
    double cosine = total / (0.5 * double(n * (n - 1)));
    // At the pole the task vectors cancel each other: nothing is left to move the base by.
    const double divisor = 1 + double(n - 1) * cosine;
    return std::fabs(divisor) < 1e-6 ? 0 : double(n) * cosine / divisor;
}

}  // namespace amalgam::blends
