// Functions that optimisers are tried on, and a loop that asks and tells.
#pragma once
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "src/search/optimiser.h"

namespace amalgam::sample {

using Point = std::vector<double>;
using Function = std::function<double(const Point&)>;

inline double condition_power(size_t i, size_t n) { return double(i) / double(n - 1); }

inline double sphere(const Point& x) {
    double sum = 0;
    for (double value : x) sum += value * value;
    return sum;
}

inline double ellipsoid(const Point& x) {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) sum += std::pow(1e6, condition_power(i, x.size())) * x[i] * x[i];
    return sum;
}

inline double cigar(const Point& x) { return x[0] * x[0] + 1e6 * (sphere(x) - x[0] * x[0]); }
inline double tablet(const Point& x) { return 1e6 * x[0] * x[0] + (sphere(x) - x[0] * x[0]); }

inline double rosenbrock(const Point& x) {
    double sum = 0;
    for (size_t i = 0; i + 1 < x.size(); ++i) sum += 100 * std::pow(x[i] * x[i] - x[i + 1], 2) + std::pow(x[i] - 1, 2);
    return sum;
}

inline double different_powers(const Point& x) {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) sum += std::pow(std::abs(x[i]), 2 + 4 * condition_power(i, x.size()));
    return std::sqrt(sum);
}

inline double rastrigin(const Point& x) {
    double sum = 0;
    for (double value : x) sum += value * value + 10 - 10 * std::cos(2 * M_PI * value);
    return sum;
}

/// `function` after a rotation drawn from `seed`.
inline Function rotated(Function function, size_t n, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<double> normal;
    std::vector<Point> rows(n, Point(n));
    for (size_t i = 0; i < n; ++i) {
        for (double& value : rows[i]) value = normal(engine);
        for (size_t j = 0; j < i; ++j) {
            double dot = 0;
            for (size_t k = 0; k < n; ++k) dot += rows[i][k] * rows[j][k];
            for (size_t k = 0; k < n; ++k) rows[i][k] -= dot * rows[j][k];
        }
        const double length = std::sqrt(sphere(rows[i]));
        for (double& value : rows[i]) value /= length;
    }
    return [function = std::move(function), rows](const Point& x) {
        Point turned(x.size());
        for (size_t i = 0; i < x.size(); ++i)
            for (size_t j = 0; j < x.size(); ++j) turned[i] += rows[i][j] * x[j];
        return function(turned);
    };
}

/// Continuous genes without bounds.
inline std::vector<Gene> free_genes(size_t n, double start, double sigma) {
    constexpr double infinite = std::numeric_limits<double>::infinity();
    std::vector<Gene> genes;
    for (size_t i = 0; i < n; ++i)
        genes.push_back({.name = "x" + std::to_string(i),
                         .kind = Gene::Kind::continuous,
                         .low = -infinite,
                         .high = infinite,
                         .start = start,
                         .sigma = sigma});
    return genes;
}

inline std::vector<Gene> bounded_genes(size_t n, double low, double high) {
    std::vector<Gene> genes = free_genes(n, (low + high) / 2, (high - low) / 6);
    for (Gene& gene : genes) gene.low = low, gene.high = high;
    return genes;
}

inline std::vector<Outcome> minimise(const std::vector<Candidate>& candidates, const Function& function) {
    std::vector<Outcome> outcomes;
    for (const Candidate& candidate : candidates) outcomes.push_back({.objectives = {-function(candidate.genome)}});
    return outcomes;
}

/// Evaluations until `function` is below `target`; -1 if it never is.
inline int64_t evaluations_to(Optimiser& optimiser, const Function& function, double target, int64_t most) {
    int64_t used = 0;
    while (optimiser.stopped().empty() && used < most) {
        const std::vector<Candidate> candidates = optimiser.ask();
        const std::vector<Outcome> outcomes = minimise(candidates, function);
        for (const Outcome& outcome : outcomes) {
            ++used;
            if (-outcome.objectives[0] < target) return used;
        }
        optimiser.tell(outcomes);
    }
    return -1;
}

}  // namespace amalgam::sample
