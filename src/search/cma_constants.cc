#include "src/search/cma_constants.h"

#include <algorithm>
#include <cmath>

#include "kernels/elementary.h"

namespace amalgam {
namespace {

/// ln((population + 1) / 2) - ln i for i = 1 ...
std::vector<double> raw_weights(int64_t population) {
    std::vector<double> weights;
    for (int64_t i = 1; i <= population; ++i)
        weights.push_back(exact_log(double(population + 1) / 2) - exact_log(double(i)));
    return weights;
}

double effective(const std::vector<double>& weights, int64_t first, int64_t end) {
    double sum = 0, squares = 0;
    for (int64_t i = first; i < end; ++i) {
        sum += weights[size_t(i)];
        squares += weights[size_t(i)] * weights[size_t(i)];
    }
    return sum * sum / squares;
}

}  // namespace

int64_t default_population(int64_t genes) { return 4 + int64_t(3 * exact_log(double(genes))); }

CmaConstants cma_constants(int64_t genes, int64_t population, const CmaVariant& variant) {
    CmaConstants c;
    c.genes = genes;
    c.population = population;
    c.parents = population / 2;
    const std::vector<double> raw = raw_weights(population);
    c.mu_effective = effective(raw, 0, c.parents);
    c.mu_effective_negative = effective(raw, c.parents, population);
    const double n = double(genes), mu = c.mu_effective;
    c.sigma_rate = (mu + 2) / (n + mu + 5);
    c.sigma_damping = 1 + 2 * std::max(0., std::sqrt((mu - 1) / (n + 1)) - 1) + c.sigma_rate;
    c.path_rate = (4 + mu / n) / (n + 4 + 2 * mu / n);
    c.rank_one_rate = 2 / ((n + 1.3) * (n + 1.3) + mu);
    double rank_mu = 2 * (0.25 + mu + 1 / mu - 2) / ((n + 2) * (n + 2) + mu);
    if (variant.diagonal) {
        c.rank_one_rate = std::min(1., c.rank_one_rate * (n + 2) / 3);
        rank_mu *= (n + 2) / 3;
    }
    c.rank_mu_rate = std::min(1 - c.rank_one_rate, rank_mu);
    c.expected_length = std::sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n));
    set_weights(c, variant.active);
    return c;
}

void set_weights(CmaConstants& c, bool active) {
    c.weights = raw_weights(c.population);
    double positive = 0, negative = 0;
    for (double weight : c.weights) (weight >= 0 ? positive : negative) += std::abs(weight);
    double scale = 0;
    if (active && c.rank_mu_rate > 0) {
        const double rate = c.rank_mu_rate;
        scale = std::min({1 + c.rank_one_rate / rate, 1 + 2 * c.mu_effective_negative / (c.mu_effective + 2),
                          (1 - c.rank_one_rate - rate) / (double(c.genes) * rate)});
        scale = std::max(scale, 0.);
    }
    for (double& weight : c.weights) weight = weight >= 0 ? weight / positive : scale * weight / negative;
}

}  // namespace amalgam
