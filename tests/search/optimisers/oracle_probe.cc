// Runs an optimiser on an ellipsoid and prints, as lines of JSON, its points, their values and what it learned.
// oracle_probe KIND GENES GENERATIONS SEED, KIND one of cma, sep-cma, margin
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>

#include "src/search/cma.h"
#include "tests/search/optimisers/sample.h"

namespace {

using namespace amalgam;

constexpr double sigma = 0.5;

// Where the package differs from our text: no 1/4 in the rank-mu rate, one generation more in the path's length.
void match_cma(CmaConstants& c) {
    const double n = double(c.genes), mu = c.mu_effective;
    c.rank_mu_rate = std::min(1 - c.rank_one_rate - 1e-8, 2 * (mu - 2 + 1 / mu) / ((n + 2) * (n + 2) + mu));
    set_weights(c, true);
    c.path_start = 2;
}

// Its sep-CMA has rates of an older text, and no negative weights.
void match_sep_cma(CmaConstants& c) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < c.population; ++i) {
        double& weight = c.weights[size_t(i)];
        weight = i < c.parents ? std::log(double(c.parents + 1)) - std::log(double(i + 1)) : 0;
        sum += weight;
    }
    for (double& weight : c.weights) {
        weight /= sum;
        squares += weight * weight;
    }
    const double n = double(c.genes), mu = 1 / squares;
    c.mu_effective = mu;
    c.rank_one_rate = 2 / ((n + 1.3) * (n + 1.3) + mu);
    c.rank_mu_rate = (n + 2) / 3 *
                     (2 / mu / std::pow(n + std::sqrt(2.), 2) +
                      (1 - 1 / mu) * std::min(1., (2 * mu - 1) / ((n + 2) * (n + 2) + mu)));
    c.sigma_rate = (mu + 2) / (n + mu + 3);
    c.sigma_damping = 1 + 2 * std::max(0., std::sqrt((mu - 1) / (n + 1)) - 1) + c.sigma_rate;
    c.path_rate = 4 / (n + 4);
    c.path_start = 2;
}

std::vector<Gene> make_genes(const std::string& kind, size_t count) {
    std::vector<Gene> genes = sample::free_genes(count, kind == "margin" ? 1.2 : 1, sigma);
    // Whole numbers at the end, the last two of them binary.
    for (size_t i = count / 2; kind == "margin" && i < count; ++i) {
        const bool binary = i + 2 >= count;
        genes[i].kind = binary ? Gene::Kind::binary : Gene::Kind::integer;
        genes[i].low = binary ? 0 : -4;
        genes[i].high = binary ? 1 : 4;
        genes[i].start = binary ? 0.7 : 2.2;
    }
    return genes;
}

double value_of(const std::vector<double>& genome) {
    // Whole numbers have their best value off zero, in the middle and at an end.
    std::vector<double> shifted = genome;
    for (size_t i = 0; i < shifted.size(); ++i) shifted[i] -= i % 3 == 0 ? 0 : i % 3 == 1 ? 0.3 : -0.4;
    double sum = 0;
    for (size_t i = 0; i < shifted.size(); ++i)
        sum += std::pow(1e4, double(i) / double(shifted.size() - 1)) * shifted[i] * shifted[i];
    return sum;
}

void run(const std::string& kind, size_t count, int64_t generations, uint64_t seed) {
    OptimiserSettings settings;
    settings.seed = seed;
    const bool diagonal = kind == "sep-cma";
    CmaOptimiser optimiser(diagonal ? "sep-cma" : "cma", make_genes(kind, count), settings, diagonal);
    (diagonal ? match_sep_cma : match_cma)(optimiser.constants());
    for (int64_t generation = 0; generation < generations; ++generation) {
        nlohmann::json line;
        std::vector<Outcome> outcomes;
        const CmaModel before = optimiser.model();
        for (const Candidate& candidate : optimiser.ask()) {
            const double value = value_of(candidate.genome);
            outcomes.push_back({.objectives = {-value}});
            line["genomes"].push_back(candidate.genome);
            // The package tells points before they are stretched.
            std::vector<double> point;
            for (size_t i = 0; i < count; ++i) {
                const double mean = before.mean()[i] * sigma;
                point.push_back(mean + (candidate.raw[i] - mean) / optimiser.margin().stretch(int64_t(i)));
            }
            line["points"].push_back(point);
            line["values"].push_back(value);
        }
        optimiser.tell(outcomes);
        const CmaModel& model = optimiser.model();
        std::vector<double> mean, stretch;
        for (size_t i = 0; i < count; ++i) {
            mean.push_back(model.mean()[i] * sigma);
            stretch.push_back(optimiser.margin().stretch(int64_t(i)));
        }
        line["mean"] = mean;
        line["stretch"] = stretch;
        line["sigma"] = model.sigma() * sigma;
        line["covariance"] = model.covariance();
        line["sigma_path"] = model.sigma_path();
        line["path"] = model.path();
        std::cout << line.dump() << "\n";
    }
}

}  // namespace

int main(int count, char** words) {
    if (count != 5) return 2;
    run(words[1], size_t(std::atoi(words[2])), std::atoi(words[3]), uint64_t(std::atoi(words[4])));
    return 0;
}
