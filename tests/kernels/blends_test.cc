// Coefficients of the blends, against the same methods carried out on the vectors themselves.
#include "kernels/blends.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <stdexcept>
#include <vector>

namespace amalgam {
namespace {

using Real = long double;
using Vector = std::vector<Real>;
using Vectors = std::vector<Vector>;

Real dot(const Vector& a, const Vector& b) {
    Real total = 0;
    for (size_t i = 0; i < a.size(); ++i) total += a[i] * b[i];
    return total;
}
Real length(const Vector& a) { return std::sqrt(dot(a, a)); }
/// a x + b y
Vector combine(Real a, const Vector& x, Real b, const Vector& y) {
    Vector result(x.size());
    for (size_t i = 0; i < x.size(); ++i) result[i] = a * x[i] + b * y[i];
    return result;
}
Vector scaled(Real a, const Vector& x) { return combine(a, x, 0, x); }
Real clamp_one(Real c) { return std::fmax(-1, std::fmin(1, c)); }

Vector slerp(const Vector& x, const Vector& y, Real t) {
    const Real nx = length(x), ny = length(y);
    const Real c = dot(scaled(nx > 1e-8L ? 1 / nx : 1, x), scaled(ny > 1e-8L ? 1 / ny : 1, y));
    if (std::fabs(c) > 0.9995L) return combine(1 - t, x, t, y);
    const Real angle = std::acos(c);
    return combine(std::sin((1 - t) * angle) / std::sin(angle), x, std::sin(t * angle) / std::sin(angle), y);
}

Vector nuslerp(const Vector& x, const Vector& y, Real first, Real second) {
    const Real t = std::fabs(first + second) < 1e-6L ? 0.5L : second / (first + second);
    const Real c = clamp_one(dot(x, y) / (std::fmax(length(x), 1e-7L) * std::fmax(length(y), 1e-7L)));
    const Real angle = std::acos(c);
    if (std::fabs(std::sin(angle)) < 1e-8L) return combine(1 - t, x, t, y);
    return combine(std::sin((1 - t) * angle) / std::sin(angle), x, std::sin(t * angle) / std::sin(angle), y);
}

Vector multislerp(const Vectors& x, std::vector<Real> w, bool normalize, Real eps) {
    Real sum = 0, mean_length = 0;
    for (Real weight : w) sum += weight;
    if (normalize)
        for (Real& weight : w) weight /= sum;
    Vectors units;
    Vector mean(x[0].size()), tangent(x[0].size()), plain(x[0].size());
    for (size_t i = 0; i < x.size(); ++i) {
        units.push_back(scaled(1 / (length(x[i]) + eps), x[i]));
        mean = combine(1, mean, w[i], units[i]);
        plain = combine(1, plain, w[i], x[i]);
        mean_length += w[i] * length(x[i]);
    }
    if (length(mean) < eps) {
        if (x.size() > 2) throw std::domain_error("cancel");
        return plain;
    }
    mean = scaled(1 / length(mean), mean);
    for (size_t i = 0; i < x.size(); ++i)
        tangent = combine(1, tangent, w[i], combine(1, units[i], -dot(units[i], mean), mean));
    const Real tau = length(tangent) + eps;
    return scaled(mean_length, combine(std::cos(tau), mean, std::sin(tau) / tau, tangent));
}

Vector karcher(const Vectors& x, int max_iter, Real tol) {
    Vectors units;
    Vector mean(x[0].size());
    Real scale = 0;
    for (const Vector& v : x) {
        scale += length(v) / Real(x.size());
        if (length(v) > tol) units.push_back(scaled(1 / length(v), v));
    }
    if (units.empty()) return mean;
    for (const Vector& unit : units) mean = combine(1, mean, 1 / Real(units.size()), unit);
    // What long double leaves of a sum that cancels is not a direction either.
    mean = length(mean) <= std::fmax(tol, 1e-9L) ? units[0] : scaled(1 / length(mean), mean);
    for (int iteration = 0; iteration < max_iter; ++iteration) {
        Vector step(mean.size());
        for (const Vector& unit : units) {
            const Real c = clamp_one(dot(mean, unit)), angle = std::acos(c);
            if (angle < tol || std::sin(angle) < 1e-7L) continue;  // here already, or opposite
            step = combine(1, step, angle / std::sin(angle) / Real(units.size()), combine(1, unit, -c, mean));
        }
        const Real size = length(step);
        if (size <= tol) break;
        mean = combine(std::cos(size), mean, std::sin(size) / size, step);
        mean = scaled(1 / length(mean), mean);
    }
    return scaled(scale, mean);
}

Real model_stock(const Vectors& d) {
    Real total = 0;
    int pairs = 0;
    for (size_t i = 0; i < d.size(); ++i)
        for (size_t j = i + 1; j < d.size(); ++j, ++pairs)
            total += clamp_one(dot(d[i], d[j]) / std::fmax(length(d[i]) * length(d[j]), 1e-6L));
    const Real c = total / pairs, n = Real(d.size());
    return n * c / (1 + (n - 1) * c);
}

/// The Gram matrix of vectors, each product rounded to double once.
struct Products {
    std::vector<double> values;
    int64_t count;
    explicit Products(const Vectors& x) : count(int64_t(x.size())) {
        for (size_t i = 0; i < x.size(); ++i)
            for (size_t j = i; j < x.size(); ++j) values.push_back(double(dot(x[i], x[j])));
    }
    Gram gram() const { return {values, count}; }
};

void expect_blend(const Vectors& x, const std::vector<double>& coefficients, const Vector& want,
                  Real tolerance = 1e-12L) {
    ASSERT_EQ(coefficients.size(), x.size());
    Vector got(want.size());
    Real size = 1e-300L, largest = 1;
    for (size_t i = 0; i < x.size(); ++i) {
        got = combine(1, got, coefficients[i], x[i]);
        size += length(x[i]);
        largest = std::fmax(largest, std::fabs(coefficients[i]));
    }
    // Large coefficients cancel, and are themselves quotients of what is left of a cancellation.
    EXPECT_LE(length(combine(1, got, -1, want)), tolerance * size * largest * largest)
        << testing::PrintToString(coefficients);
}

Vector random_vector(size_t dimension, std::mt19937_64& random) {
    std::normal_distribution<double> normal;
    Vector v(dimension);
    for (Real& value : v) value = normal(random);
    return v;
}

/// Pairs with every relation that matters: general, nearly and exactly parallel, antiparallel, zero, tiny.
Vectors second_vectors(const Vector& x, std::mt19937_64& random) {
    const Vector other = random_vector(x.size(), random);
    Vectors all = {other,        scaled(1e-3L, other), x, scaled(3, x), scaled(-0.3L, x), scaled(-1, x),
                   scaled(0, x), scaled(1e-12L, other)};
    for (Real bend : {0.5L, 0.05L, 0.02L, 1e-3L}) {
        all.push_back(combine(1, x, bend, other));
        all.push_back(combine(-0.7L, x, bend, other));
    }
    return all;
}

TEST(Gram, PairsInAnyOrder) {
    const std::vector<double> values = {1, 2, 3, 4, 5, 6};
    const Gram gram(values, 3);
    EXPECT_EQ(gram(0, 0), 1);
    EXPECT_EQ(gram(0, 2), 3);
    EXPECT_EQ(gram(2, 0), 3);
    EXPECT_EQ(gram(1, 1), 4);
    EXPECT_EQ(gram(2, 1), 5);
    EXPECT_EQ(gram(2, 2), 6);
}

TEST(Slerp, AgreesWithVectors) {
    std::mt19937_64 random(1);
    for (size_t dimension : {1, 2, 3, 50})
        for (int trial = 0; trial < 20; ++trial) {
            const Vector x = random_vector(dimension, random);
            for (const Vector& y : second_vectors(x, random))
                for (double t : {0., 0.1, 0.5, 0.9, 1.}) {
                    const Vectors both = {x, y};
                    expect_blend(both, blends::slerp(Products(both).gram(), t), slerp(x, y, t));
                }
        }
}

TEST(Slerp, ByHand) {
    // A right angle, half way: both by sin 45 degrees.
    const std::vector<double> products = {4, 0, 9};
    const auto coefficients = blends::slerp(Gram(products, 2), 0.5);
    EXPECT_DOUBLE_EQ(coefficients[0], std::sqrt(0.5));
    EXPECT_DOUBLE_EQ(coefficients[1], std::sqrt(0.5));
}

TEST(NuSlerp, AgreesWithVectors) {
    std::mt19937_64 random(2);
    for (size_t dimension : {1, 2, 30})
        for (int trial = 0; trial < 20; ++trial) {
            const Vector x = random_vector(dimension, random);
            for (const Vector& y : second_vectors(x, random))
                for (auto [first, second] :
                     {std::pair{1., 1.}, {0.25, 0.5}, {0., 1.}, {1., 0.}, {-1., 3.}, {2., -1.}, {1., -1.}}) {
                    const Vectors both = {x, y};
                    // Exact opposites are a matter of rounding: within it of sin = 1e-8 either branch will do.
                    const Real sine = std::sqrt(std::fmax(0, 1 - std::pow(dot(x, y) / (length(x) * length(y)), 2)));
                    if (sine < 1e-6L && dot(x, y) < 0) continue;
                    expect_blend(both, blends::nuslerp(Products(both).gram(), first, second),
                                 nuslerp(x, y, first, second), 1e-9L);
                }
        }
}

TEST(NuSlerp, OppositesAreInterpolated) {
    for (double factor : {-1., -0.5, -0.3, -3.}) {
        const Vectors both = {{1, 2, 3}, {factor, 2 * factor, 3 * factor}};
        const auto coefficients = blends::nuslerp(Products(both).gram(), 1, 3);
        EXPECT_DOUBLE_EQ(coefficients[0], 0.25) << factor;
        EXPECT_DOUBLE_EQ(coefficients[1], 0.75) << factor;
    }
    // Rounded cosines of opposites are not quite -1.
    std::mt19937_64 random(6);
    std::uniform_real_distribution<double> uniform(0.1, 3);
    for (int trial = 0; trial < 300; ++trial) {
        const Vector x = random_vector(5, random);
        const Vectors both = {x, scaled(trial % 2 ? -1 : -uniform(random), x)};
        const auto coefficients = blends::nuslerp(Products(both).gram(), 3, 1);
        ASSERT_DOUBLE_EQ(coefficients[0], 0.75) << trial;
        ASSERT_DOUBLE_EQ(coefficients[1], 0.25) << trial;
    }
}

std::vector<double> as_doubles(const std::vector<Real>& values) { return {values.begin(), values.end()}; }

TEST(MultiSlerp, AgreesWithVectors) {
    std::mt19937_64 random(3);
    std::uniform_real_distribution<double> uniform(0.1, 1);
    for (size_t dimension : {2, 3, 40})
        for (size_t count : {1, 2, 3, 7})
            for (int trial = 0; trial < 20; ++trial)
                for (bool normalize : {true, false}) {
                    Vectors x;
                    std::vector<Real> w;
                    for (size_t i = 0; i < count; ++i) {
                        x.push_back(random_vector(dimension, random));
                        w.push_back(uniform(random) * (trial % 4 == 3 && i == 0 ? -0.5 : 1));
                    }
                    if (trial % 5 == 0) x.back() = scaled(2, x.front());
                    if (trial % 5 == 1 && count > 1) x.back() = scaled(0, x.front());
                    const auto got = blends::multislerp(Products(x).gram(), as_doubles(w), normalize, 1e-8);
                    // The length of the mean direction is a difference of large numbers: it may be a small one.
                    expect_blend(x, got, multislerp(x, w, normalize, 1e-8L), 1e-7L);
                }
}

TEST(MultiSlerp, OppositesThatCancelAreAveraged) {
    for (double factor : {-1., -0.5, -0.3, -3., -0.7}) {
        const Vectors both = {{1, 2, 3.7L}, {factor, 2 * factor, 3.7L * factor}};
        const auto got = blends::multislerp(Products(both).gram(), std::vector<double>{1, 1}, true, 1e-8);
        EXPECT_EQ(got, (std::vector<double>{0.5, 0.5})) << factor;
    }
    std::mt19937_64 random(7);
    std::uniform_real_distribution<double> uniform(0.1, 3);
    for (int trial = 0; trial < 300; ++trial) {
        const Vector x = random_vector(5, random);
        const Vectors both = {x, scaled(trial % 2 ? -1 : -uniform(random), x)};
        const auto got = blends::multislerp(Products(both).gram(), std::vector<double>{2, 2}, false, 1e-8);
        ASSERT_EQ(got, (std::vector<double>{2, 2})) << trial;
    }
    const Vectors three = {{1, 0}, {-0.5L, std::sqrt(0.75L)}, {-0.5L, -std::sqrt(0.75L)}};
    EXPECT_THROW(blends::multislerp(Products(three).gram(), std::vector<double>{1, 1, 1}, true, 1e-8),
                 std::domain_error);
}

TEST(Karcher, AgreesWithVectors) {
    std::mt19937_64 random(4);
    for (size_t dimension : {2, 3, 40})
        for (size_t count : {1, 2, 3, 7})
            for (int trial = 0; trial < 30; ++trial) {
                Vectors x;
                for (size_t i = 0; i < count; ++i) x.push_back(scaled(trial % 3 + 1, random_vector(dimension, random)));
                if (trial % 5 == 0) x.back() = scaled(2, x.front());
                if (trial % 5 == 1 && count > 1) x.back() = scaled(0, x.front());
                // In a plane, directions may cancel; then nothing is sure but that nothing breaks.
                const auto got = blends::karcher(Products(x).gram(), 10, 1e-5);
                for (double coefficient : got) EXPECT_TRUE(std::isfinite(coefficient));
                if (dimension > 3 || count <= 2) expect_blend(x, got, karcher(x, 10, 1e-5L), 1e-7L);
            }
}

TEST(Karcher, AwkwardVectors) {
    const Vector x = {1, 2, 3.7L};
    for (double tol : {1e-5, 0.})
        for (Real factor : {-1.L, -0.5L, -0.3L, -7.L}) {
            // An opposite has no shortest way: the first direction stays.
            const Vectors both = {x, scaled(factor, x)};
            const auto got = blends::karcher(Products(both).gram(), 10, tol);
            expect_blend(both, got, scaled((1 - factor) / 2, x), 1e-7L);
        }
    for (double tol : {1e-5, 0.}) {
        const Vectors zeros = {scaled(0, x), scaled(0, x)};
        EXPECT_EQ(blends::karcher(Products(zeros).gram(), 10, tol), (std::vector<double>{0, 0}));
        const Vectors one = {scaled(0, x), x};  // the zero still counts in the mean length
        expect_blend(one, blends::karcher(Products(one).gram(), 10, tol), scaled(0.5L, x));
        const Vectors same = {x, x, x};
        expect_blend(same, blends::karcher(Products(same).gram(), 10, tol), x);
    }
}

TEST(ModelStock, AgreesWithVectors) {
    std::mt19937_64 random(5);
    for (size_t dimension : {1, 3, 40})
        for (size_t count : {2, 3, 8})
            for (int trial = 0; trial < 30; ++trial) {
                const Vector common = random_vector(dimension, random);
                Vectors d;
                for (size_t i = 0; i < count; ++i)
                    d.push_back(combine(1, common, trial * 0.1L, random_vector(dimension, random)));
                if (trial % 7 == 1) d.back() = scaled(0, common);
                if (trial % 7 == 2)
                    for (Vector& v : d) v = scaled(1e-5L, v);  // the floor on the norms shrinks the cosine
                const Real want = model_stock(d);
                if (std::fabs(want) > 1e3L) continue;  // near the pole
                EXPECT_NEAR(blends::model_stock(Products(d).gram()), double(want),
                            1e-9 * (1 + std::fabs(double(want))) * (1 + std::fabs(double(want))));
            }
}

TEST(ModelStock, ByHand) {
    const std::vector<double> right = {1, 0, 1}, half = {1, 0.5, 1}, same = {4, 4, 4};
    EXPECT_EQ(blends::model_stock(Gram(right, 2)), 0);
    EXPECT_DOUBLE_EQ(blends::model_stock(Gram(half, 2)), 2 * 0.5 / 1.5);
    EXPECT_DOUBLE_EQ(blends::model_stock(Gram(same, 2)), 1);
}

}  // namespace
}  // namespace amalgam
