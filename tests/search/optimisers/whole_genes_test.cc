// Binary and integer genes of CMA-ES.
#include <gmock/gmock.h>

#include <cmath>

#include "src/search/cma.h"
#include "src/search/normal_distribution.h"
#include "tests/search/optimisers/sample.h"

namespace amalgam {
namespace {

std::vector<Gene> genes_of(size_t continuous, size_t integers, size_t binaries) {
    std::vector<Gene> genes = sample::free_genes(continuous, 1, 0.5);
    for (size_t i = 0; i < integers; ++i)
        genes.push_back({.name = "i" + std::to_string(i),
                         .kind = Gene::Kind::integer,
                         .low = -10,
                         .high = 10,
                         .start = 6,
                         .sigma = 2});
    for (size_t i = 0; i < binaries; ++i)
        genes.push_back({.name = "b" + std::to_string(i), .kind = Gene::Kind::binary, .start = 0.5, .sigma = 0.5});
    return genes;
}

/// Best where continuous genes are 0, integers 0, binaries 1.
double mixed(const std::vector<double>& genome, size_t continuous, size_t integers) {
    double sum = 0;
    for (size_t i = 0; i < genome.size(); ++i)
        sum += i < continuous              ? std::pow(100., double(i) / double(continuous)) * genome[i] * genome[i]
               : i < continuous + integers ? genome[i] * genome[i]
                                           : 1 - genome[i];
    return sum;
}

TEST(WholeGenes, AreWholeAndWithinBounds) {
    OptimiserSettings settings;
    settings.sigma_scale = 10;
    for (const char* name : {"cma", "sep-cma"}) {
        const auto optimiser = make_optimiser(name, genes_of(2, 3, 3), settings);
        for (int generation = 0; generation < 20; ++generation) {
            const auto candidates = optimiser->ask();
            for (const Candidate& candidate : candidates)
                for (size_t i = 2; i < 8; ++i) {
                    EXPECT_EQ(candidate.genome[i], std::round(candidate.genome[i]));
                    EXPECT_LE(std::abs(candidate.genome[i]), i < 5 ? 10 : 1);
                }
            optimiser->tell(sample::minimise(candidates, [](const auto& x) { return mixed(x, 2, 3); }));
        }
    }
}

TEST(WholeGenes, EveryNeighbourKeepsItsMargin) {
    OptimiserSettings settings;
    CmaOptimiser optimiser("cma", genes_of(3, 3, 3), settings, false);
    const double share = 1. / (9 * 10), rounding = 1e-9;
    for (int generation = 0; generation < 150 && optimiser.stopped().empty(); ++generation) {
        optimiser.tell(sample::minimise(optimiser.ask(), [](const auto& x) { return mixed(x, 3, 3); }));
        for (size_t i = 3; i < 9; ++i) {
            const double unit = i < 6 ? 2 : 0.5, mean = optimiser.model().mean()[i] * unit;
            const double deviation = optimiser.model().sigma() * optimiser.model().deviation(int64_t(i)) *
                                     optimiser.margin().stretch(int64_t(i)) * unit;
            if (i >= 6) {
                const double flip = normal_below(-std::abs(mean - 0.5) / deviation);
                ASSERT_GE(flip, share * (1 - rounding)) << "generation " << generation;
                continue;
            }
            const double value = std::floor(mean + 0.5);
            ASSERT_GE(normal_below((value - 0.5 - mean) / deviation), share / 2 * (1 - rounding)) << generation;
            ASSERT_GE(normal_below((mean - value - 0.5) / deviation), share / 2 * (1 - rounding)) << generation;
        }
    }
}

TEST(WholeGenes, AreFound) {
    for (const char* name : {"cma", "sep-cma"}) {
        int found = 0;
        for (uint64_t seed = 0; seed < 20; ++seed) {
            OptimiserSettings settings;
            settings.seed = seed;
            const auto optimiser = make_optimiser(name, genes_of(5, 5, 10), settings);
            found += sample::evaluations_to(
                         *optimiser, [](const auto& x) { return mixed(x, 5, 5); }, 1e-8, 20000) > 0;
        }
        EXPECT_GE(found, 19) << name;
    }
}

// A shortest path to the optimum leads through a change of one binary gene that looks bad for a narrow distribution: a
// margin of probability is what makes it. LeadingOnes needs every bit in turn.
TEST(WholeGenes, LeadingOnesIsSolved) {
    for (uint64_t seed = 0; seed < 5; ++seed) {
        OptimiserSettings settings;
        settings.seed = seed;
        const auto optimiser = make_optimiser("cma", genes_of(0, 0, 16), settings);
        const sample::Function leading = [](const sample::Point& x) {
            size_t ones = 0;
            while (ones < x.size() && x[ones] == 1) ++ones;
            return 16. - double(ones);
        };
        EXPECT_GT(sample::evaluations_to(*optimiser, leading, 0.5, 10000), 0) << seed;
    }
}

TEST(WholeGenes, InjectedOnesKeepTheirValues) {
    const auto optimiser = make_optimiser("cma", genes_of(2, 2, 2), {});
    const std::vector<double> genome{0.5, -3, 10, -10, 1, 0};
    optimiser->inject({genome});
    EXPECT_EQ(optimiser->ask()[0].genome, genome);
}

}  // namespace
}  // namespace amalgam
