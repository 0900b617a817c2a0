// What CMA-ES must not depend on, and how it moves where there is nothing to find or no end.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "src/search/cma.h"
#include "tests/search/optimisers/sample.h"

namespace amalgam {
namespace {

using sample::Function;
using sample::Point;

std::unique_ptr<CmaOptimiser> make(std::vector<Gene> genes, OptimiserSettings settings = {}, bool diagonal = false) {
    return std::make_unique<CmaOptimiser>(diagonal ? "sep-cma" : "cma", std::move(genes), settings, diagonal);
}

OptimiserSettings seeded(uint64_t seed) {
    OptimiserSettings settings;
    settings.seed = seed;
    return settings;
}

/// The model alone: its keys differ by construction.
std::vector<double> model_of(const CmaOptimiser& optimiser) {
    std::vector<double> all = optimiser.model().mean();
    for (const Vector* part :
         {&optimiser.model().covariance(), &optimiser.model().path(), &optimiser.model().sigma_path()})
        all.insert(all.end(), part->begin(), part->end());
    all.push_back(optimiser.model().sigma());
    return all;
}

class EveryCma : public testing::TestWithParam<std::tuple<bool, bool>> {
  protected:
    std::unique_ptr<CmaOptimiser> make_one(std::vector<Gene> genes, uint64_t seed = 3) const {
        OptimiserSettings settings = seeded(seed);
        settings.learning_rate_adaptation = std::get<1>(GetParam());
        return make(std::move(genes), settings, std::get<0>(GetParam()));
    }
};
INSTANTIATE_TEST_SUITE_P(All, EveryCma, testing::Combine(testing::Bool(), testing::Bool()));

TEST_P(EveryCma, MonotoneTransformsChangeNoBit) {
    auto plain = make_one(sample::bounded_genes(7, -2, 3)), other = make_one(sample::bounded_genes(7, -2, 3));
    const Function transformed = [](const Point& x) { return -1 / (1 + sample::ellipsoid(x)) + 5; };
    for (int i = 0; i < 60; ++i) {
        plain->tell(sample::minimise(plain->ask(), sample::ellipsoid));
        other->tell(sample::minimise(other->ask(), transformed));
        ASSERT_EQ(model_of(*plain), model_of(*other)) << "generation " << i;
    }
}

TEST_P(EveryCma, StaysPositiveDefinite) {
    auto optimiser = make_one(sample::free_genes(9, 1, 0.5));
    const Function function = sample::rotated(sample::cigar, 9, 5);
    for (int i = 0; i < 150; ++i) {
        optimiser->tell(sample::minimise(optimiser->ask(), function));
        const CmaModel& model = optimiser->model();
        ASSERT_GT(*std::min_element(model.lengths().begin(), model.lengths().end()), 0);
        if (model.diagonal()) continue;
        for (size_t r = 0; r < 9; ++r)
            for (size_t c = 0; c < 9; ++c) ASSERT_EQ(model.covariance()[9 * r + c], model.covariance()[9 * c + r]);
    }
}

TEST_P(EveryCma, TranslationMovesOnlyTheMean) {
    auto here = make_one(sample::free_genes(6, 1, 0.5)), there = make_one(sample::free_genes(6, 33, 0.5));
    const Function moved = [](Point x) {
        for (double& value : x) value -= 32;
        return sample::ellipsoid(x);
    };
    for (int i = 0; i < 25; ++i) {
        here->tell(sample::minimise(here->ask(), sample::ellipsoid));
        there->tell(sample::minimise(there->ask(), moved));
    }
    EXPECT_NEAR(there->model().sigma() / here->model().sigma(), 1, 1e-6);
    for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(there->mean()[i] - 32, here->mean()[i], 1e-6);
}

TEST(Cma, OrderOfArrivalChangesNoBit) {
    // The update is given the same generation in another order, also with ties.
    CmaModel one(4, false), other(4, false);
    one.start({0, 0, 0, 0}, 1);
    other.start({0, 0, 0, 0}, 1);
    const CmaConstants constants = cma_constants(4, 8, {});
    const Draws draws(5, 0);
    std::vector<Vector> points(8);
    std::vector<Key> keys;
    for (int64_t k = 0; k < 8; ++k) {
        for (int64_t i = 0; i < 4; ++i) points[size_t(k)].push_back(draws.normal(Draw::population, k, i));
        keys.push_back(k == 7 ? Key{} : Key{std::floor(double(k * 5 % 8) / 3)});
    }
    const auto learn = [&](CmaModel& model, const std::vector<int64_t>& order) {
        std::vector<Vector> ordered_points;
        std::vector<Key> ordered_keys;
        for (int64_t k : order) {
            ordered_points.push_back(points[size_t(k)]);
            ordered_keys.push_back(keys[size_t(k)]);
        }
        const Ranking ranking = rank(ordered_keys, std::vector<bool>(8), ordered_points);
        CmaSteps steps;
        for (int64_t place : ranking.order) steps.steps.push_back(ordered_points[size_t(place)]);
        Vector mean_weights = constants.weights;
        for (double& weight : mean_weights) weight = std::max(weight, 0.);
        steps.mean_weights = average_ties(mean_weights, ranking.blocks);
        steps.covariance_weights = average_ties(constants.weights, ranking.blocks);
        model.learn(steps, constants);
    };
    std::vector<int64_t> order(8);
    std::iota(order.begin(), order.end(), 0);
    learn(one, order);
    for (int64_t turn : {3, 5, 7}) {
        other.start({0, 0, 0, 0}, 1);
        std::vector<int64_t> turned;
        for (int64_t k = 0; k < 8; ++k) turned.push_back((k * turn + 2) % 8);
        learn(other, turned);
        EXPECT_EQ(one.mean(), other.mean());
        EXPECT_EQ(one.covariance(), other.covariance());
        EXPECT_EQ(one.sigma(), other.sigma());
    }
}

// With all candidates equal the mean stays where their average is, whatever their order, and sigma grows.
TEST(Cma, FlatObjectivesWidenTheSearch) {
    auto optimiser = make(sample::free_genes(5, 0, 1), seeded(9));
    const CmaConstants& c = optimiser->constants();
    const std::vector<Candidate> candidates = optimiser->ask();
    optimiser->tell(std::vector<Outcome>(candidates.size(), {.objectives = {0.25}}));
    for (size_t i = 0; i < 5; ++i) {
        double average = 0;
        for (const Candidate& candidate : candidates) average += candidate.raw[i] / double(candidates.size());
        EXPECT_NEAR(optimiser->model().mean()[i], average, 1e-12);
    }
    const double path =
        std::sqrt(std::inner_product(optimiser->model().sigma_path().begin(), optimiser->model().sigma_path().end(),
                                     optimiser->model().sigma_path().begin(), 0.));
    const double expected = std::exp(c.sigma_rate / c.sigma_damping * (path / c.expected_length - 1)) *
                            std::exp(0.2 + c.sigma_rate / c.sigma_damping);
    EXPECT_NEAR(optimiser->model().sigma(), expected, 1e-12);
}

TEST(Cma, RandomRanksKeepSigma) {
    // Drift of ln sigma a generation, over 60 runs of 100: its standard error is about 0.002.
    double drift = 0;
    for (uint64_t seed = 0; seed < 60; ++seed) {
        auto optimiser = make(sample::free_genes(8, 0, 1), seeded(seed));
        for (int i = 0; i < 100 && optimiser->stopped().empty(); ++i) {
            std::vector<Outcome> outcomes;
            for (size_t k = 0; k < optimiser->ask().size(); ++k)
                outcomes.push_back({.objectives = {Draws(seed + 1000, i).uniform(Draw::parent, int64_t(k), 0)}});
            optimiser->tell(outcomes);
        }
        drift += std::log(optimiser->model().sigma()) / 100 / 60;
    }
    EXPECT_NEAR(drift, 0, 0.01);
}

TEST(Cma, SigmaGrowsOnASlope) {
    for (bool diagonal : {false, true}) {
        auto optimiser = make(sample::free_genes(6, 0, 1), seeded(4), diagonal);
        const Function slope = [](const Point& x) { return x[0]; };
        double before = 0;
        for (int i = 1; i <= 40 && optimiser->stopped().empty(); ++i) {
            optimiser->tell(sample::minimise(optimiser->ask(), slope));
            if (i % 10 != 0) continue;
            const double length = optimiser->model().sigma() * optimiser->model().deviation(0);
            EXPECT_GT(length, 1.5 * before);
            before = length;
        }
        EXPECT_GT(before, 20);
    }
}

TEST(Cma, FailedCandidatesRankLast) {
    auto with = make(sample::free_genes(5, 1, 0.5), seeded(2)),
         without = make(sample::free_genes(5, 1, 0.5), seeded(2));
    for (int i = 0; i < 20; ++i) {
        std::vector<Outcome> good = sample::minimise(with->ask(), sample::sphere), failing = good;
        // The two worst fail in one run; in the other they are equally bad.
        std::vector<size_t> order(good.size());
        std::iota(order.begin(), order.end(), size_t(0));
        std::sort(order.begin(), order.end(),
                  [&](size_t a, size_t b) { return good[a].objectives < good[b].objectives; });
        failing[order[0]] = {.valid = false};
        failing[order[1]].objectives[0] = NAN;
        good[order[0]].objectives[0] = good[order[1]].objectives[0] = -1e9;
        with->tell(failing);
        without->tell(good);
        ASSERT_EQ(model_of(*with), model_of(*without));
    }
}

TEST(Cma, HoldsStillWhenMostFail) {
    auto optimiser = make(sample::free_genes(5, 1, 0.5), seeded(2));  // population 8, parents 4
    const std::vector<double> before = model_of(*optimiser);
    std::vector<Outcome> outcomes = sample::minimise(optimiser->ask(), sample::sphere);
    for (size_t k = 0; k < 5; ++k) outcomes[k].valid = false;
    for (int i = 0; i < 9; ++i) {
        const std::vector<Candidate> asked = optimiser->ask();
        optimiser->tell(outcomes);
        EXPECT_EQ(model_of(*optimiser), before);
        EXPECT_NE(optimiser->ask()[0].raw, asked[0].raw) << "others are drawn";
    }
    EXPECT_EQ(optimiser->stopped(), "");
    optimiser->tell(outcomes);
    EXPECT_THAT(optimiser->stopped(), testing::HasSubstr("failed"));
    EXPECT_TRUE(optimiser->ask().empty());
}

// A generation that two were not waited for is one of the others alone.
TEST(Cma, MissingCandidatesHaveNoWeight) {
    OptimiserSettings ten = seeded(2), eight = seeded(2);
    ten.population = 10;
    eight.population = 8;
    auto all = make(sample::free_genes(5, 1, 0.5), ten), fewer = make(sample::free_genes(5, 1, 0.5), eight);
    std::vector<Outcome> outcomes = sample::minimise(all->ask(), sample::sphere);
    outcomes.resize(8);
    fewer->tell(outcomes);
    outcomes.resize(10, {.missing = true});
    all->tell(outcomes);
    EXPECT_EQ(model_of(*all), model_of(*fewer));

    auto long_run = make(sample::free_genes(8, 1, 0.5), seeded(5));
    for (int i = 0; i < 400 && long_run->stopped().empty(); ++i) {
        outcomes = sample::minimise(long_run->ask(), sample::ellipsoid);
        outcomes[size_t(i * 7 % 10)].missing = true;
        long_run->tell(outcomes);
    }
    EXPECT_LT(sample::ellipsoid(long_run->mean()), 1e-3);
}

TEST(Cma, InjectedGenomesTakePlacesAndAreClipped) {
    auto optimiser = make(sample::bounded_genes(6, 0, 1), seeded(1));
    const Point best(6, 0.9), beyond{2, 0.5, 0.5, 0.5, 0.5, -1};
    optimiser->inject({best, beyond});
    const std::vector<Candidate> asked = optimiser->ask();
    ASSERT_EQ(asked.size(), 9u);
    EXPECT_EQ(asked[0].genome, best);
    EXPECT_TRUE(asked[0].injected);
    EXPECT_EQ(asked[1].genome, (Point{1, 0.5, 0.5, 0.5, 0.5, 0}));
    EXPECT_FALSE(asked[2].injected);
    std::vector<Outcome> outcomes(9, {.valid = false});
    for (size_t k = 0; k < 5; ++k) outcomes[k] = {.objectives = {-double(k)}};
    optimiser->tell(outcomes);
    // The first has the weight w1 and a length of sqrt(n) + 2n / (n + 2) instead of 2.4 sqrt(n).
    double drawn = 0;
    const CmaConstants& c = optimiser->constants();
    const double scale = (std::sqrt(6.) + 12. / 8) / std::sqrt(6.);
    const double second = std::min(1., (std::sqrt(6.) + 12. / 8) / (0.55 * 6 * std::sqrt(2.)));
    for (size_t k = 2; k < 4; ++k) drawn += c.weights[k] * (asked[k].raw[0] - 0.5) * 6;
    const double clipped = c.weights[0] * scale + c.weights[1] * second * 0.55 * 6;
    EXPECT_NEAR(optimiser->model().mean()[0] / 6, 0.5 + (clipped + drawn) / 6, 1e-12);
    EXPECT_EQ(optimiser->ask()[0].injected, false);
}

TEST(Cma, EndsOrStartsAgain) {
    auto once = make(sample::free_genes(4, 1, 0.5), seeded(1));
    EXPECT_GT(sample::evaluations_to(*once, sample::sphere, 1e-9, 100000), 0);
    for (int i = 0; i < 2000 && once->stopped().empty(); ++i) once->tell(sample::minimise(once->ask(), sample::sphere));
    EXPECT_NE(once->stopped(), "");
    for (Restarts kind : {Restarts::ipop, Restarts::bipop}) {
        OptimiserSettings settings = seeded(1);
        settings.restarts = kind;
        auto again = make(sample::bounded_genes(4, -5, 5), settings);
        std::vector<size_t> populations{again->ask().size()};
        int64_t restarts = 0;
        for (int i = 0; i < 20000 && restarts < 5; ++i) {
            again->tell(sample::minimise(again->ask(), sample::rastrigin));
            const auto facts = again->facts();
            if (int64_t(facts[3].second) == restarts) continue;
            ++restarts;
            populations.push_back(again->ask().size());
            EXPECT_EQ(again->stopped(), "");
        }
        ASSERT_EQ(restarts, 5);
        EXPECT_EQ(populations[1], 2 * populations[0]);
        if (kind == Restarts::ipop) {
            EXPECT_EQ(populations[5], 32 * populations[0]);
        } else {
            EXPECT_LE(populations[2], populations[0]) << "small: what a large run used is more than the first";
            EXPECT_GE(populations[2], 4u);
        }
    }
}

}  // namespace
}  // namespace amalgam
