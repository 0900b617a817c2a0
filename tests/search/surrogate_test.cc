// The model of the objective against a second computation of its formulas, and the guesses made with it.
#include "src/search/surrogate.h"

#include <gmock/gmock.h>

#include <cmath>
#include <random>

#include "src/search/gaussian_process.h"

namespace amalgam {
namespace {

using Vector = std::vector<double>;
using testing::IsEmpty;

/// K^-1 y and log |K| by elimination with pivots, in long double: nothing of the way the model takes.
struct Elimination {
    std::vector<long double> solved;
    long double log_determinant = 0;
    Elimination(std::vector<std::vector<long double>> matrix, std::vector<long double> right)
        : solved(std::move(right)) {
        const size_t n = solved.size();
        for (size_t column = 0; column < n; ++column) {
            size_t pivot = column;
            for (size_t row = column; row < n; ++row)
                if (std::abs(matrix[row][column]) > std::abs(matrix[pivot][column])) pivot = row;
            std::swap(matrix[column], matrix[pivot]);
            std::swap(solved[column], solved[pivot]);
            log_determinant += std::log(std::abs(matrix[column][column]));
            for (size_t row = 0; row < n; ++row) {
                if (row == column) continue;
                const long double factor = matrix[row][column] / matrix[column][column];
                for (size_t k = column; k < n; ++k) matrix[row][k] -= factor * matrix[column][k];
                solved[row] -= factor * solved[column];
            }
        }
        for (size_t k = 0; k < n; ++k) solved[k] /= matrix[k][k];
    }
};

struct Data {
    std::vector<Vector> points;
    Vector values;
};

/// A smooth function of points around 0, with noise.
Data smooth_data(size_t count, size_t dimensions, double noise, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    Data data;
    for (size_t k = 0; k < count; ++k) {
        Vector point(dimensions);
        double value = 3;
        for (double& x : point) {
            x = normal(random);
            value -= 0.3 * (x - 0.5) * (x - 0.5);
        }
        data.points.push_back(point);
        data.values.push_back(value + std::sin(point[0]) + noise * normal(random));
    }
    return data;
}

long double squared(const Vector& a, const Vector& b) {
    long double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

TEST(GaussianProcess, HasTheBestEvidenceOfItsGridAndPredictsWithIt) {
    for (size_t count : {2u, 3u, 17u, 40u}) {
        const Data data = smooth_data(count, 3, 0.1, unsigned(count));
        const GaussianProcess model(data.points, data.values);
        ASSERT_TRUE(model.is_fitted());
        long double mean = 0;
        for (double value : data.values) mean += value / double(count);
        long double best = -INFINITY;
        std::vector<long double> weights;
        long double best_length = 0;
        for (double factor : {0.5, 1., 2., 4., 8.})
            for (double noise : {1e-3, 1e-2, 1e-1, 1.}) {
                const long double length = factor * model.typical_distance();
                std::vector<std::vector<long double>> kernel(count, std::vector<long double>(count));
                std::vector<long double> right;
                for (size_t i = 0; i < count; ++i) {
                    right.push_back(data.values[i] - mean);
                    for (size_t j = 0; j < count; ++j)
                        kernel[i][j] = std::exp(-squared(data.points[i], data.points[j]) / (2 * length * length)) +
                                       (i == j ? noise : 0);
                }
                const Elimination solved(kernel, right);
                long double misfit = 0;
                for (size_t i = 0; i < count; ++i) misfit += right[i] * solved.solved[i];
                const long double evidence =
                    -0.5L * double(count) * std::log(misfit / double(count)) - 0.5L * solved.log_determinant;
                if (evidence > best) {
                    best = evidence;
                    weights = solved.solved;
                    best_length = length;
                }
            }
        EXPECT_NEAR(model.evidence(), double(best), 1e-9 * std::abs(double(best)) + 1e-9);
        const Vector at{0.3, -0.2, 0.9};
        long double wanted = mean;
        for (size_t k = 0; k < count; ++k)
            wanted += weights[k] * std::exp(-squared(at, data.points[k]) / (2 * best_length * best_length));
        EXPECT_NEAR(model.expect(at), double(wanted), 1e-8);
    }
}

TEST(GaussianProcess, TwoPointsByHand) {
    const GaussianProcess model({{0}, {1}}, {1, -1});
    ASSERT_TRUE(model.is_fitted());
    EXPECT_EQ(model.typical_distance(), 1);
    const double near = std::exp(-1 / (2 * model.length() * model.length()));
    const double weight = 1 / (1 + model.noise() - near);
    EXPECT_NEAR(model.expect({0}), weight * (1 - near), 1e-12);
    EXPECT_NEAR(model.expect({0.5}), 0, 1e-12);
}

TEST(GaussianProcess, GradientIsTheSlope) {
    const Data data = smooth_data(30, 4, 0.1, 5);
    const GaussianProcess model(data.points, data.values);
    Vector gradient, at{0.1, 0.7, -0.4, 0.2};
    model.expect(at, &gradient);
    for (size_t i = 0; i < at.size(); ++i) {
        Vector up(at), down(at);
        up[i] += 1e-5;
        down[i] -= 1e-5;
        EXPECT_NEAR(gradient[i], (model.expect(up) - model.expect(down)) / 2e-5, 1e-6);
    }
}

TEST(GaussianProcess, TellsNoiseFromAFunction) {
    EXPECT_LE(GaussianProcess(smooth_data(80, 3, 0, 1).points, smooth_data(80, 3, 0, 1).values).noise(), 0.01);
    EXPECT_GE(GaussianProcess(smooth_data(80, 3, 2, 1).points, smooth_data(80, 3, 2, 1).values).noise(), 0.1);
}

TEST(GaussianProcess, WithNothingToLearnIsNotFitted) {
    EXPECT_FALSE(GaussianProcess({}, {}).is_fitted());
    EXPECT_FALSE(GaussianProcess({{1, 2}}, {3}).is_fitted());
    EXPECT_FALSE(GaussianProcess({{0}, {1}, {2}}, {3, 3, 3}).is_fitted());
    EXPECT_FALSE(GaussianProcess({{1}, {1}, {1}}, {1, 2, 3}).is_fitted());
    EXPECT_FALSE(GaussianProcess({{0}, {1}}, {0, 1e-300}).is_fitted());
    // Points that come twice, with different values, are noise.
    const GaussianProcess twice({{0}, {0}, {1}, {1}, {2}, {2}}, {0, 0.2, 1, 1.2, 2, 2.2});
    ASSERT_TRUE(twice.is_fitted());
    EXPECT_NEAR(twice.expect({1}), 1.1, 0.2);
}

std::vector<Gene> genes_of(size_t count, double sigma) {
    std::vector<Gene> genes(count);
    for (Gene& gene : genes) gene = {.low = -10 * sigma, .high = 10 * sigma, .start = 0, .sigma = sigma};
    return genes;
}

double score(const Vector& genome, const std::vector<Gene>& genes, const Vector& place) {
    double sum = 0;
    for (size_t i = 0; i < genes.size(); ++i) {
        const double off = (genome[i] - place[i]) / genes[i].sigma;
        sum -= (double(i) + 1) / double(genes.size()) * off * off;
    }
    return sum;
}

/// Normal around 0; what they score falls with the distance to a place.
std::vector<ScoredGenome> scored(size_t count, const std::vector<Gene>& genes, const Vector& place, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    std::vector<ScoredGenome> points(count);
    for (ScoredGenome& point : points) {
        for (const Gene& gene : genes) point.genome.push_back(gene.sigma * normal(random));
        point.objective = score(point.genome, genes, place);
    }
    return points;
}

double distance(const Vector& a, const Vector& b) { return double(std::sqrt(squared(a, b))); }

TEST(Surrogate, GuessesBetterThanTheBestCandidate) {
    for (const double sigma : {1., 0.02, 300.})
        for (unsigned seed : {1u, 2u, 3u}) {
            const std::vector<Gene> genes = genes_of(6, sigma);
            const Vector place{sigma, -sigma, 0.5 * sigma, 0, 0.7 * sigma, -0.3 * sigma};
            const auto points = scored(80, genes, place, seed);
            const Vector guess = surrogate_guess(genes, points, Vector(6, 0));
            double best = -INFINITY;
            for (const ScoredGenome& point : points) best = std::max(best, point.objective);
            EXPECT_GT(score(guess, genes, place), 0.2 * best) << sigma << " " << seed;
        }
}

TEST(Surrogate, KeepsToTheBoxAndToWholeNumbers) {
    std::vector<Gene> genes = genes_of(3, 1);
    genes[0].high = 0.25;
    genes[2].kind = Gene::Kind::integer;
    auto points = scored(60, genes, {2, 1, 1.3}, 4);
    for (ScoredGenome& point : points) {
        point.genome[0] = std::min(point.genome[0], 0.25);
        point.genome[2] = std::round(point.genome[2]);
    }
    const Vector guess = surrogate_guess(genes, points, {0, 0, 0});
    EXPECT_EQ(guess[0], 0.25);
    EXPECT_NEAR(guess[1], 1, 0.5);
    EXPECT_EQ(guess[2], std::round(guess[2]));
}

TEST(Surrogate, SaysNothingWhereItKnowsNothing) {
    const std::vector<Gene> genes = genes_of(2, 1);
    EXPECT_THAT(surrogate_guess(genes, {}, {0, 0}), IsEmpty());
    EXPECT_THAT(surrogate_guess(genes, scored(23, genes, {0, 0}, 1), {0, 0}), IsEmpty());
    auto equal = scored(50, genes, {0, 0}, 1);
    for (ScoredGenome& point : equal) point.objective = 0.25;
    EXPECT_THAT(surrogate_guess(genes, equal, {0, 0}), IsEmpty());
}

TEST(Surrogate, DependsOnTheCandidatesNotOnTheirOrderByMuch) {
    const std::vector<Gene> genes = genes_of(4, 1);
    auto points = scored(70, genes, {1, 0, -1, 0.5}, 9);
    const Vector first = surrogate_guess(genes, points, Vector(4, 0)),
                 again = surrogate_guess(genes, points, Vector(4, 0));
    EXPECT_EQ(first, again);
    std::reverse(points.begin(), points.end());
    EXPECT_LT(distance(first, surrogate_guess(genes, points, Vector(4, 0))), 1e-3);
}

}  // namespace
}  // namespace amalgam
