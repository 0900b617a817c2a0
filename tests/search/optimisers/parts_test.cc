#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>

#include "src/base/error.h"
#include "src/search/box.h"
#include "src/search/cma_constants.h"
#include "src/search/normal_distribution.h"
#include "src/search/optimisers.h"
#include "src/search/pareto.h"
#include "src/search/random_draws.h"
#include "src/search/ranking.h"
#include "src/search/symmetric_eigen.h"
#include "tests/search/optimisers/sample.h"

namespace amalgam {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pointwise;

constexpr double infinite = std::numeric_limits<double>::infinity();

// Values of the formulas by another program, to six digits.
TEST(CmaConstants, AreThoseOfTheTutorial) {
    struct Row {
        int64_t genes, population, parents;
        double mu, mu_negative, sigma_rate, damping, path_rate, rank_one, rank_mu, length;
    };
    const Row rows[] = {
        {2, 6, 3, 2.028611, 2.431919, .446205, 1.446205, .624555, .154815, .085593, 1.254273},
        {5, 8, 4, 2.600179, 3.207072, .365088, 1.365088, .450200, .047292, .047859, 2.128524},
        {10, 10, 5, 3.167299, 3.989115, .284429, 1.284429, .294990, .015284, .023552, 3.084727},
        {20, 12, 6, 3.729459, 4.774595, .199428, 1.199428, .171767, .004372, .009217, 4.416767},
        {40, 15, 7, 4.540915, 5.889051, .132031, 1.132031, .093009, .001169, .003405, 6.285215},
        {192, 19, 9, 5.647567, 7.481941, .037738, 1.037738, .020552, .000054, .000216, 13.838382},
    };
    for (const Row& row : rows) {
        EXPECT_EQ(default_population(row.genes), row.population);
        const CmaConstants c = cma_constants(row.genes, row.population, {});
        EXPECT_EQ(c.parents, row.parents);
        EXPECT_NEAR(c.mu_effective, row.mu, 6e-7);
        EXPECT_NEAR(c.mu_effective_negative, row.mu_negative, 6e-7);
        EXPECT_NEAR(c.sigma_rate, row.sigma_rate, 6e-7);
        EXPECT_NEAR(c.sigma_damping, row.damping, 6e-7);
        EXPECT_NEAR(c.path_rate, row.path_rate, 6e-7);
        EXPECT_NEAR(c.rank_one_rate, row.rank_one, 6e-7);
        EXPECT_NEAR(c.rank_mu_rate, row.rank_mu, 6e-7);
        EXPECT_NEAR(c.expected_length, row.length, 6e-7);
        double sum = 0;
        for (int64_t i = 0; i < c.parents; ++i) sum += c.weights[size_t(i)];
        EXPECT_NEAR(sum, 1, 1e-15);
    }
}

TEST(CmaConstants, WeightsOfTenCandidates) {
    CmaConstants c = cma_constants(10, 10, {});
    // Those of a text whose rank-mu rate has no 1/4.
    const double mu = c.mu_effective;
    c.rank_mu_rate = 2 * (mu + 1 / mu - 2) / (144 + mu);
    EXPECT_NEAR(c.rank_mu_rate, .020154, 6e-7);
    set_weights(c, true);
    EXPECT_THAT(c.weights, Pointwise(DoubleNear(6e-7), {.456273, .270753, .162231, .085234, .025510, -.085321, -.236477,
                                                        -.367414, -.482908, -.586222}));
    set_weights(c, false);
    EXPECT_THAT(std::vector<double>(c.weights.begin() + 5, c.weights.end()), testing::Each(0.));
    const CmaConstants separate = cma_constants(10, 10, {.active = true, .diagonal = true});
    EXPECT_NEAR(separate.rank_one_rate, 4 * .015284, 3e-6);
    EXPECT_NEAR(separate.rank_mu_rate, 4 * .023552, 3e-6);
    const CmaConstants many = cma_constants(3, 500, {.active = true, .diagonal = true});
    EXPECT_LE(many.rank_one_rate + many.rank_mu_rate, 1);
}

// Of the box [0, 1] the margins are 0.05: identity on [0.05, 0.95], parabolas to -0.05 and 1.05, and back from there.
TEST(Box, IsAParabolaNearItsBounds) {
    const Box box(0, 1);
    EXPECT_EQ(box.to_box(0.3), 0.3);
    EXPECT_EQ(box.to_box(0.05), 0.05);
    EXPECT_NEAR(box.to_box(0), 0.05 * 0.05 / 0.2, 1e-15);
    EXPECT_NEAR(box.to_box(-0.05), 0, 1e-15);
    EXPECT_NEAR(box.to_box(1.05), 1, 1e-15);
    EXPECT_NEAR(box.to_box(1), 1 - 0.0125, 1e-15);
    EXPECT_NEAR(box.to_box(-0.4), 0.3, 1e-15);
    EXPECT_NEAR(box.to_box(2.5 - 0.7), 1 - 0.7 + 0.0, 1e-12) << "mirrored at 1.05";
    EXPECT_NEAR(box.to_box(0.3 + 2.2 * 5), 0.3, 1e-12) << "the period is 2.2";
    const Box upward(2, infinite);
    EXPECT_EQ(upward.to_box(50), 50);
    EXPECT_NEAR(upward.to_box(1.9), 2, 1e-15);
    EXPECT_NEAR(upward.to_box(1.9 - 30), 1.9 + 30, 1e-12);
    EXPECT_EQ(Box(-infinite, infinite).to_box(-1e30), -1e30);
}

TEST(Box, StaysWithinAndComesBack) {
    for (const auto& [low, high] : {std::pair(0., 1.), {-3., 7.}, {5., 5.01}, {-infinite, 2.}, {1000., 1010.}}) {
        const Box box(low, high);
        for (int i = -2000; i <= 2000; ++i) {
            const double near = 0.013 * i + (std::isfinite(low) ? low : 0), value = box.to_box(near);
            ASSERT_GE(value, low);
            ASSERT_LE(value, high);
            const double raw = box.from_box(value, near);
            ASSERT_NEAR(box.to_box(raw), value, 1e-9 * (1 + std::abs(value)));
            // Rounding of the value counts for its root at a bound.
            ASSERT_NEAR(raw, near, 1e-5 * (1 + std::abs(near))) << low << " " << high << " " << value;
        }
    }
}

TEST(NormalDistribution, InvertsItself) {
    EXPECT_NEAR(normal_exceeded_with(0.025), 1.959963984540054, 1e-14);
    EXPECT_NEAR(normal_exceeded_with(1e-10), 6.361340902404056, 1e-13);
    EXPECT_NEAR(normal_exceeded_with(0.4999), 2.506628300880358e-4, 1e-16 / 1e-3);
    EXPECT_EQ(normal_exceeded_with(0.5), 0);
    EXPECT_NEAR(normal_exceeded_with(0.9), -1.2815515655446004, 1e-14);
    EXPECT_NEAR(normal_below(1), 0.841344746068543, 1e-15);
}

TEST(Draws, AreNormalAndIndependent) {
    const int64_t count = 40000;
    std::vector<double> values, uniforms;
    double mean = 0, squares = 0, fourth = 0, neighbours = 0;
    for (int64_t i = 0; i < count; ++i) {
        const double z = Draws(7, i / 1000).normal(Draw::population, i / 10 % 100, i % 10);
        mean += z / double(count);
        squares += z * z / double(count);
        fourth += z * z * z * z / double(count);
        if (i > 0) neighbours += z * values.back() / double(count);
        values.push_back(z);
        uniforms.push_back(Draws(7, i / 1000).uniform(Draw::restart, i / 10 % 100, i % 10));
    }
    EXPECT_NEAR(mean, 0, 0.025);
    EXPECT_NEAR(squares, 1, 0.036);
    EXPECT_NEAR(fourth, 3, 0.25);
    EXPECT_NEAR(neighbours, 0, 0.025);
    // Kolmogorov and Smirnov: 1.95 / sqrt(count) is exceeded once in a thousand times.
    std::sort(values.begin(), values.end());
    std::sort(uniforms.begin(), uniforms.end());
    for (int64_t i = 0; i < count; ++i) {
        ASSERT_NEAR(normal_below(values[size_t(i)]), double(i) / double(count), 1.95 / 200);
        ASSERT_NEAR(uniforms[size_t(i)], double(i) / double(count), 1.95 / 200);
    }
}

TEST(Draws, EveryPartOfTheAddressCounts) {
    const std::set<double> all{
        Draws(1, 0).uniform(Draw::population, 0, 0),         Draws(2, 0).uniform(Draw::population, 0, 0),
        Draws(1, 1).uniform(Draw::population, 0, 0),         Draws(1, 0).uniform(Draw::restart, 0, 0),
        Draws(1, 0).uniform(Draw::population, 1, 0),         Draws(1, 0).uniform(Draw::population, 0, 1),
        Draws(1ull << 63, 0).uniform(Draw::population, 0, 0)};
    EXPECT_EQ(all.size(), 7u);
}

TEST(Ranking, OrdersFailuresLastAndTiesByPoint) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const std::vector<Outcome> outcomes{{.objectives = {0.5, 1}}, {.valid = false, .objectives = {9, 9}},
                                        {.objectives = {0.7, 0}}, {.objectives = {0.5, 2}},
                                        {.objectives = {nan, 0}}, {.missing = true, .objectives = {8, 8}},
                                        {.objectives = {0.5, 1}}, {.objectives = {infinite, 0}}};
    std::vector<Key> keys;
    std::vector<bool> missing;
    for (const Outcome& outcome : outcomes) {
        keys.push_back(key_of(outcome));
        missing.push_back(outcome.missing);
    }
    const Ranking ranking = rank(keys, missing, {{5}, {4}, {0}, {0}, {3}, {0}, {1}, {2}});
    EXPECT_THAT(ranking.order, ElementsAre(2, 3, 6, 0, 7, 4, 1));
    EXPECT_THAT(ranking.blocks, ElementsAre(0, 1, 2, 2, 3, 3, 3));
    EXPECT_THAT(average_ties({7, 6, 5, 3, 2, 1, -3}, ranking.blocks), ElementsAre(7, 6, 4, 4, 0, 0, 0));
}

TEST(Pareto, FrontsAndCrowdingByHand) {
    const std::vector<Key> keys{{1, 5}, {2, 4}, {5, 1}, {1, 4}, {0, 0}, {}, {2, 4}, {4, 2}};
    const std::vector<int64_t> fronts = fronts_of(keys);
    EXPECT_THAT(fronts, ElementsAre(0, 0, 0, 1, 2, 3, 0, 0));
    const std::vector<double> crowding = crowding_of(keys, fronts);
    EXPECT_EQ(crowding[0], infinite);
    EXPECT_EQ(crowding[2], infinite);
    EXPECT_DOUBLE_EQ(crowding[7], (5. - 2) / 4 + (4. - 1) / 4);
    EXPECT_DOUBLE_EQ(hypervolume({{1, 5}, {2, 4}, {5, 1}, {1, 4}, {-1, 9}}, {0, 0}), 5 * 1 + 2 * 3 + 1 * 1);
}

TEST(SymmetricEigen, PutsTheMatrixBackTogether) {
    const std::vector<double> matrix{4, 1, 0.5, 1, 3, -0.2, 0.5, -0.2, 2};
    std::vector<double> vectors, values;
    ASSERT_TRUE(symmetric_eigen(3, matrix, vectors, values));
    for (size_t i = 0; i < 3; ++i)
        for (size_t j = 0; j < 3; ++j) {
            double sum = 0;
            for (size_t k = 0; k < 3; ++k) sum += vectors[3 * i + k] * values[k] * vectors[3 * j + k];
            EXPECT_NEAR(sum, matrix[3 * i + j], 1e-14);
        }
    EXPECT_FALSE(symmetric_eigen(2, {1, NAN, NAN, 1}, vectors, values));
}

TEST(OptimiserTable, SetsOptionsByName) {
    OptimiserSettings settings;
    const OptimiserInfo& cma = find_optimiser("cma");
    set_option(settings, cma, "population", "24");
    set_option(settings, cma, "restarts", "bipop");
    set_option(settings, cma, "active", "false");
    set_option(settings, cma, "sigma_scale", "0.5");
    EXPECT_EQ(settings.population, 24);
    EXPECT_EQ(settings.restarts, Restarts::bipop);
    EXPECT_FALSE(settings.active);
    EXPECT_EQ(settings.sigma_scale, 0.5);
    for (const OptimiserInfo& info : all_optimisers())
        for (const OptimiserOption* option : info.options) {
            OptimiserSettings same = settings;
            set_option(same, info, option->name, default_text(*option));
        }
}

TEST(OptimiserTable, IsThatOfTheDocumentation) {
    std::ifstream file(AMALGAM_SOURCE_DIR "/docs/search.md");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    EXPECT_THAT(text, HasSubstr(optimisers_markdown()));
}

TEST(OptimiserTable, NamesWhatIsWrong) {
    OptimiserSettings settings;
    const auto message = [](auto&& action) -> std::string {
        try {
            action();
        } catch (const Error& error) {
            return error.what();
        }
        return "";
    };
    const OptimiserInfo& cma = find_optimiser("cma");
    EXPECT_THAT(message([] { find_optimiser("cme"); }), HasSubstr("did you mean \"cma\""));
    EXPECT_THAT(message([&] { set_option(settings, cma, "populaton", "3"); }),
                HasSubstr("did you mean \"population\""));
    EXPECT_THAT(message([&] { set_option(settings, cma, "population", "3.5"); }), HasSubstr("whole number"));
    EXPECT_THAT(message([&] { set_option(settings, cma, "population", "-1"); }), HasSubstr("from 0"));
    EXPECT_THAT(message([&] { set_option(settings, cma, "sigma_scale", "nan"); }), HasSubstr("sigma_scale"));
    EXPECT_THAT(message([&] { set_option(settings, cma, "restarts", "bipo"); }), HasSubstr("did you mean \"bipop\""));
    EXPECT_THAT(message([&] { set_option(settings, cma, "active", "yes"); }), HasSubstr("neither true nor false"));
    EXPECT_THAT(message([&] { set_option(settings, cma, "steps", "4"); }), HasSubstr("has no option \"steps\""));
    const auto free = sample::free_genes(2, 0, 1);
    for (const OptimiserInfo& info : all_optimisers())
        EXPECT_EQ(message([&] { make_optimiser(std::string(info.name), free, settings); }).empty(), !info.needs_bounds);
    for (Gene gene : {Gene{.low = 1, .high = 1}, Gene{.start = 2}, Gene{.sigma = 0}, Gene{.start = NAN},
                      Gene{.kind = Gene::Kind::integer, .low = 0.5, .high = 3, .start = 1},
                      Gene{.kind = Gene::Kind::binary, .low = 0, .high = 2}, Gene{.low = NAN}}) {
        gene.name = "the gene";
        EXPECT_THAT(message([&] { make_optimiser("cma", {gene}, settings); }), HasSubstr("the gene"));
    }
    EXPECT_THAT(message([&] { make_optimiser("cma", {}, settings); }), HasSubstr("0 genes"));
    settings.population = 3;
    EXPECT_THAT(message([&] { make_optimiser("cma", free, settings); }), HasSubstr("population 3"));
}

}  // namespace
}  // namespace amalgam
