// NSGA-II, differential evolution, random points, grids, greedy soups.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "src/search/optimisers.h"
#include "src/search/pareto.h"
#include "tests/search/optimisers/sample.h"

namespace amalgam {
namespace {

using sample::Point;
using testing::ElementsAre;
using testing::IsEmpty;

OptimiserSettings settings_of(uint64_t seed, int64_t population = 0) {
    OptimiserSettings settings;
    settings.seed = seed;
    settings.population = population;
    return settings;
}

double fact(const Optimiser& optimiser, const std::string& name) {
    for (const auto& [known, value] : optimiser.facts())
        if (known == name) return value;
    ADD_FAILURE() << "no fact " << name;
    return 0;
}

/// ZDT1, whose front is f2 = 1 - sqrt(f1): the best hypervolume above (1.1, 1.1) is 1.21 - 1/3.
Key zdt1(const Point& x) {
    double sum = 0;
    for (size_t i = 1; i < x.size(); ++i) sum += x[i];
    const double g = 1 + 9 * sum / double(x.size() - 1);
    return {-x[0], -g * (1 - std::sqrt(x[0] / g))};
}

TEST(Nsga2, CoversTheFrontOfZdt1) {
    const auto optimiser = make_optimiser("nsga2", sample::bounded_genes(30, 0, 1), settings_of(1, 100));
    std::vector<Key> told;
    for (int generation = 0; generation < 250; ++generation) {
        std::vector<Outcome> outcomes;
        for (const Candidate& candidate : optimiser->ask()) {
            told.push_back(zdt1(candidate.genome));
            outcomes.push_back({.objectives = told.back()});
        }
        optimiser->tell(outcomes);
    }
    const double area = hypervolume(told, {-1.1, -1.1});
    EXPECT_GT(area, 0.8767 - 0.005);
    EXPECT_LT(area, 1.21 - 1. / 3);
    EXPECT_EQ(fact(*optimiser, "front"), 100);
}

TEST(Nsga2, FindsWholeNumbersDespiteFailures) {
    std::vector<Gene> genes = sample::bounded_genes(4, -1, 1);
    for (int i = 0; i < 4; ++i) {
        genes.push_back({.name = "i", .kind = Gene::Kind::integer, .low = 0, .high = 9, .start = 4});
        genes.push_back({.name = "b", .kind = Gene::Kind::binary});
    }
    const auto optimiser = make_optimiser("nsga2", genes, settings_of(5));
    double best = 1e9;
    for (int generation = 0; generation < 150; ++generation) {
        std::vector<Outcome> outcomes;
        for (const Candidate& candidate : optimiser->ask()) {
            double value = 0;
            for (size_t i = 0; i < candidate.genome.size(); ++i)
                value += std::abs(candidate.genome[i] - (i < 4 ? 0.25 : i % 2 == 0 ? 7 : 1));
            outcomes.push_back({.objectives = {-value}});
            outcomes.back().valid = candidate.genome[0] < 0.5;
            outcomes.back().missing = generation > 5 && outcomes.size() % 9 == 0;
            if (outcomes.back().valid && !outcomes.back().missing) best = std::min(best, value);
        }
        optimiser->tell(outcomes);
    }
    EXPECT_LT(best, 0.1);
    EXPECT_EQ(fact(*optimiser, "failed members"), 0);
}

TEST(DifferentialEvolution, FindsTheBottom) {
    for (const auto& [function, most] :
         {std::pair<sample::Function, int64_t>(sample::sphere, 15000), {sample::rastrigin, 60000}}) {
        std::vector<int64_t> used;
        for (uint64_t seed = 0; seed < 7; ++seed) {
            const auto optimiser = make_optimiser("de", sample::bounded_genes(5, -5, 5), settings_of(seed));
            used.push_back(sample::evaluations_to(*optimiser, function, 1e-8, most));
        }
        std::sort(used.begin(), used.end());
        EXPECT_GT(used[3], 0);
    }
}

TEST(DifferentialEvolution, NoMemberGetsWorse) {
    const auto optimiser = make_optimiser("de", sample::bounded_genes(3, -5, 5), settings_of(2, 8));
    std::vector<double> values(8, 1e9);
    for (int generation = 0; generation < 40; ++generation) {
        const auto candidates = optimiser->ask();
        std::vector<Outcome> outcomes = sample::minimise(candidates, sample::ellipsoid);
        outcomes[3].missing = generation > 0;
        optimiser->tell(outcomes);
    }
    // Member 3 was waited for only once.
    const std::string state = optimiser->save();
    EXPECT_NE(state.find("members 24 "), std::string::npos);
    EXPECT_LT(sample::ellipsoid(optimiser->mean()), 1e5);
}

TEST(Random, IsUniform) {
    std::vector<Gene> genes = sample::bounded_genes(2, -2, 6);
    genes.push_back({.name = "i", .kind = Gene::Kind::integer, .low = 1, .high = 4, .start = 2});
    const auto optimiser = make_optimiser("random", genes, settings_of(3, 100));
    std::vector<double> values;
    std::vector<int> counts(5);
    for (int generation = 0; generation < 100; ++generation) {
        for (const Candidate& candidate : optimiser->ask()) {
            values.push_back(candidate.genome[1]);
            ++counts[size_t(candidate.genome[2])];
        }
        optimiser->tell(std::vector<Outcome>(100, {.objectives = {0}}));
    }
    std::sort(values.begin(), values.end());
    for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR((values[i] + 2) / 8, double(i) / 1e4, 1.95 / 100);
    for (size_t i = 1; i <= 4; ++i) EXPECT_NEAR(counts[i], 2500, 4 * 43.3);
}

TEST(Grid, AsksEveryPointOnce) {
    std::vector<Gene> genes = sample::bounded_genes(1, 0, 1);
    genes.push_back({.name = "i", .kind = Gene::Kind::integer, .low = -1, .high = 2, .start = 0});
    genes.push_back({.name = "b", .kind = Gene::Kind::binary});
    OptimiserSettings settings = settings_of(0, 7);
    settings.steps = 3;
    const auto optimiser = make_optimiser("grid", genes, settings);
    optimiser->inject({{0.3, 0, 1}});
    std::multiset<Point> seen;
    int64_t missing = 0, injected = 0;
    while (optimiser->stopped().empty()) {
        const auto candidates = optimiser->ask();
        ASSERT_FALSE(candidates.empty());
        ASSERT_LE(candidates.size(), 7u);
        std::vector<Outcome> outcomes(candidates.size(), {.objectives = {1}});
        if (optimiser->generation() < 2) outcomes[2].missing = true;
        for (size_t i = 0; i < candidates.size(); ++i) {
            missing += outcomes[i].missing;
            injected += candidates[i].injected;
            if (!outcomes[i].missing && !candidates[i].injected) seen.insert(candidates[i].genome);
        }
        optimiser->tell(outcomes);
    }
    EXPECT_EQ(missing, 2);
    EXPECT_EQ(injected, 1);
    std::multiset<Point> all;
    for (double x : {0., 0.5, 1.})
        for (double i : {-1, 0, 1, 2})
            for (double b : {0, 1}) all.insert({x, i, b});
    EXPECT_EQ(seen, all);
}

/// Models are points of a plane, the score of a soup the distance of their average from a target.
struct Soup {
    std::vector<Point> models;
    Point target;

    double score(const Point& genome) const {
        Point sum(2);
        double weight = 0;
        for (size_t i = 0; i < models.size(); ++i) {
            weight += genome[i];
            for (size_t c = 0; c < 2; ++c) sum[c] += genome[i] * models[i][c];
        }
        return -std::hypot(sum[0] / weight - target[0], sum[1] / weight - target[1]);
    }
};

std::vector<size_t> members(const Point& genome) {
    std::vector<size_t> found;
    for (size_t i = 0; i < genome.size(); ++i)
        if (genome[i] > 0) found.push_back(i);
    return found;
}

// Singles: 0.8, 1, 1, failed, 5; (1, 0), (0, -1) and (-0.8, 0) balance, (5, 0) does not.
TEST(GreedySoup, AddsWhatIsNotWorse) {
    const Soup soup{{{0, -1}, {1, 0}, {5, 0}, {9, 9}, {-0.8, 0}}, {0, 0}};
    for (int64_t batch : {1, 2, 3}) {
        const auto optimiser = make_optimiser("greedy-soup", sample::bounded_genes(5, 0, 1), settings_of(0, batch));
        std::vector<size_t> sizes;
        while (optimiser->stopped().empty()) {
            const auto candidates = optimiser->ask();
            sizes.push_back(candidates.size());
            std::vector<Outcome> outcomes;
            for (const Candidate& candidate : candidates) {
                outcomes.push_back({.objectives = {soup.score(candidate.genome)}});
                outcomes.back().valid = candidate.genome[3] == 0;
            }
            optimiser->tell(outcomes);
        }
        EXPECT_THAT(members(optimiser->mean()), ElementsAre(0, 1, 4));
        EXPECT_DOUBLE_EQ(optimiser->mean()[0], 1. / 3);
        if (batch == 1) {
            EXPECT_THAT(sizes, ElementsAre(5, 1, 1, 1));
        }
    }
}

TEST(GreedySoup, SwitchesGroupsAndWaitsForTheMissing) {
    std::vector<Gene> genes = sample::bounded_genes(6, 0, 1);
    for (size_t i = 0; i < 6; ++i) genes[i].group = i % 3 == 0 ? "a" : i % 3 == 1 ? "b" : "c";
    const auto optimiser = make_optimiser("greedy-soup", genes, settings_of(0));
    auto candidates = optimiser->ask();
    ASSERT_EQ(candidates.size(), 3u);
    EXPECT_THAT(candidates[1].genome, ElementsAre(0, 1, 0, 0, 1, 0));
    optimiser->tell({{.objectives = {1}}, {.missing = true}, {.objectives = {3}}});
    candidates = optimiser->ask();
    ASSERT_EQ(candidates.size(), 1u);
    EXPECT_THAT(candidates[0].genome, ElementsAre(0, 1, 0, 0, 1, 0));
    optimiser->tell({{.objectives = {2}}});
    // c, b, a: b joins although it is only as good.
    EXPECT_THAT(optimiser->ask()[0].genome, ElementsAre(0, 0.5, 0.5, 0, 0.5, 0.5));
    optimiser->tell({{.missing = true}});
    EXPECT_THAT(optimiser->ask()[0].genome, ElementsAre(0, 0.5, 0.5, 0, 0.5, 0.5));
    optimiser->tell({{.objectives = {3}}});
    optimiser->tell({{.objectives = {2.9}}});
    EXPECT_EQ(optimiser->stopped(), "every model was tried");
    EXPECT_THAT(optimiser->mean(), ElementsAre(0, 0.5, 0.5, 0, 0.5, 0.5));
    EXPECT_THAT(optimiser->ask(), IsEmpty());
}

TEST(Populations, InjectedGenomesTakePlaces) {
    const Point genome{0.1, 0.9, 0.4};
    for (const OptimiserInfo& info : all_optimisers()) {
        const auto optimiser = make_optimiser(std::string(info.name), sample::bounded_genes(3, 0, 1), settings_of(1));
        const size_t before = optimiser->ask().size();
        optimiser->inject({genome});
        EXPECT_FALSE(optimiser->ask()[0].injected) << "the generation was asked for already";
        optimiser->tell(std::vector<Outcome>(before, {.objectives = {1}}));
        const auto candidates = optimiser->ask();
        EXPECT_EQ(candidates[0].genome, genome) << info.name;
        EXPECT_TRUE(candidates[0].injected);
        if (info.name != "greedy-soup") {
            EXPECT_EQ(candidates.size(), before);
        }
    }
}

}  // namespace
}  // namespace amalgam
