// Norms, Gram matrices, sums over columns and rows: to the bit, since selections and coefficients follow from them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "kernels/elementary.h"
#include "tests/kernels/buffers.h"
#include "tests/kernels/fold_reference.h"
#include "tests/kernels/lane_sum.h"

namespace amalgam {
namespace {

using test::LaneSum;
using test::Tensor;

const std::vector<Dtype> narrow_dtypes = {Dtype::bf16, Dtype::f32, Dtype::f16, Dtype::f8_e4m3, Dtype::f8_e5m2};

/// Models of several dtypes around a base; every 83rd value is special.
struct Models {
    Tensor base;
    std::vector<Tensor> tensors;
    std::vector<Operand> operands;

    Models(int64_t count, int number, bool wide, uint64_t seed) : base(wide ? Dtype::f64 : Dtype::bf16, count, 1) {
        std::mt19937_64 random(seed);
        fill_normal(base, count, 1, random);
        sprinkle_specials(base, count, 19);
        for (int m = 0; m < number; ++m) {
            const auto& dtypes = wide ? test::computed_dtypes() : narrow_dtypes;
            tensors.emplace_back(dtypes[size_t(m) % dtypes.size()], count, m % 3 * 2 + 1);
            fill_normal(tensors.back(), count, 0.5 + 0.1 * m, random);
            sprinkle_specials(tensors.back(), count, m);
        }
        for (const Tensor& tensor : tensors) operands.push_back(tensor.operand());
    }

    template <class T>
    double delta(int m, int64_t i, bool with_base) const {
        const T value = T(tensors[size_t(m)].value(i));
        const T difference = with_base ? T(value - T(base.value(i))) : value;
        return std::isfinite(difference) ? double(difference) : 0.;
    }
};

template <class T>
void check_gram(int number, int64_t first, int64_t count, bool with_base) {
    SCOPED_TRACE(testing::Message() << number << " vectors, elements " << first << " + " << count);
    const Models models(count, number, sizeof(T) == 8, uint64_t(number) + uint64_t(count));
    GramArguments arguments;
    if (with_base) arguments.base = models.base.operand();
    arguments.inputs = models.operands.data();
    arguments.input_count = number;
    arguments.first = first;
    arguments.count = count;
    auto scratch = std::make_unique<GramScratch>();
    std::vector<double> products(size_t(pair_count(number)), -1);
    cpu::gram(sizeof(T) == 8, arguments, *scratch, products.data());
    std::vector deltas(static_cast<size_t>(number), std::vector<double>(static_cast<size_t>(count)));
    for (int m = 0; m < number; ++m)
        for (int64_t i = 0; i < count; ++i) deltas[size_t(m)][size_t(i)] = models.delta<T>(m, i, with_base);
    size_t place = 0;
    for (size_t a = 0; a < size_t(number); ++a)
        for (size_t b = a; b < size_t(number); ++b) {
            LaneSum sum;
            long double plain = 0, sizes = 0;
            for (int64_t i = 0; i < count; ++i) {
                const double term = deltas[a][size_t(i)] * deltas[b][size_t(i)];
                sum.add(first + i, term);
                plain += static_cast<long double>(term);
                sizes += std::fabs(static_cast<long double>(term));
            }
            ASSERT_EQ(pair_index(int64_t(a), int64_t(b), number), int64_t(place));
            ASSERT_EQ(bits_of(products[place]), bits_of(sum.total())) << a << " x " << b;
            ASSERT_NEAR(double(plain), products[place], double(sizes) * 1e-13);
            ++place;
        }
}

TEST(Gram, EveryNumberOfVectors) {
    for (int number : {1, 2, 3, 16, 17, 33})
        for (bool with_base : {false, true}) check_gram<float>(number, 0, 1100, with_base);
    check_gram<double>(17, 0, 1100, true);
    check_gram<double>(3, 0, 1100, false);
}

TEST(Gram, PiecesOfRowsKeepTheLanesOfFlatIndices) {
    for (int64_t first : {1, 5, 255, 256, 257, 65536 * 7 + 1023})
        for (int64_t count : {1, 2, 3, 250, 251, 255, 256, 257, 513, 4099}) {
            check_gram<float>(2, first, count, true);
            check_gram<float>(3, first, count, false);
        }
    check_gram<double>(2, 77, 2049, true);
}

TEST(Gram, AWholeBlock) { check_gram<float>(2, 65536 * 3, 65536, true); }

template <class T>
void check_norms(Sparsifier sparsifier, int64_t count) {
    constexpr int number = 4;
    SCOPED_TRACE(testing::Message() << "sparsifier " << int(sparsifier) << " of " << count);
    const Models models(count, number, sizeof(T) == 8, uint64_t(count) + 9);
    const int64_t first = 65536 * 5 + 256;
    std::vector<double> factors(size_t(count), 0.);
    for (size_t i = 0; i < factors.size(); i += 3) factors[i] = 1.25 + double(i % 5);
    std::vector<FoldModel> told(number);
    for (int m = 0; m < number; ++m) {
        FoldModel& model = told[size_t(m)];
        auto bits = [](double value) { return sizeof(T) == 8 ? bits_of(value) : bits_of(float(value)); };
        model.low = bits(0.25 * m);
        if (m == 2) model.high = bits(1.5);
        model.address = {11, 22, uint64_t(m)};
        model.threshold = keep_threshold(0.4);
        model.all = m == 3;
        model.factors = m == 1 ? nullptr : factors.data();
    }
    FoldArguments arguments;
    arguments.base = models.base.operand();
    arguments.inputs = models.operands.data();
    arguments.models = told.data();
    arguments.model_count = number;
    arguments.first = first;
    arguments.count = count;
    std::vector<double> totals(2 * number, -1);
    cpu::norms(sparsifier, sizeof(T) == 8, arguments, totals.data());
    for (int m = 0; m < number; ++m) {
        LaneSum whole, kept;
        for (int64_t i = 0; i < count; ++i) {
            const T size = T(std::fabs(models.delta<T>(m, i, true)));
            whole.add(first + i, double(size));
            const double factor = test::kept_factor<T>(sparsifier, told[size_t(m)], first, i, size);
            kept.add(first + i, double(T(size * T(factor))));
        }
        EXPECT_EQ(bits_of(totals[size_t(2 * m)]), bits_of(whole.total())) << m;
        EXPECT_EQ(bits_of(totals[size_t(2 * m + 1)]), bits_of(kept.total())) << m;
    }
}

TEST(Norms, EverySparsifierAndSize) {
    for (Sparsifier s : {Sparsifier::none, Sparsifier::magnitude, Sparsifier::random, Sparsifier::factors})
        for (int64_t count : {0, 1, 7, 255, 256, 257, 4099}) {
            check_norms<float>(s, count);
            check_norms<double>(s, count);
        }
}

template <class T>
void check_columns(int64_t columns, int64_t column, int64_t count, bool with_base) {
    const Models models(count, 2, sizeof(T) == 8, 5);
    GramArguments arguments;
    if (with_base) arguments.base = models.base.operand();
    arguments.inputs = models.operands.data();
    arguments.input_count = 2;
    arguments.count = count;
    std::vector<double> sums(size_t(3 * columns), 0.5), want = sums;
    cpu::column_products(sizeof(T) == 8, arguments, columns, column, sums.data());
    for (int64_t i = 0; i < count; ++i) {
        const double a = models.delta<T>(0, i, with_base), b = models.delta<T>(1, i, with_base);
        const size_t c = size_t((column + i) % columns);
        want[3 * c] += a * a;
        want[3 * c + 1] += a * b;
        want[3 * c + 2] += b * b;
    }
    EXPECT_EQ(sums, want) << columns << " columns from " << column;
}

TEST(ColumnProducts, AnyShapeFromAnyColumn) {
    for (int64_t columns : {1, 3, 64, 65, 1000})
        for (int64_t column : {0, 1, 63})
            for (bool with_base : {false, true}) {
                check_columns<float>(columns, column % columns, 1531, with_base);
                check_columns<double>(columns, column % columns, 1531, with_base);
            }
    check_columns<float>(7, 6, 0, true);
}

/// Sums of a row in the prescribed shape: a sum of each piece row x block, in order.
double row_sum_reference(int64_t row_first, const std::vector<double>& terms) {
    double total = 0;
    size_t at = 0;
    while (at < terms.size()) {
        LaneSum piece;
        const int64_t block = (row_first + int64_t(at)) / 65536;
        for (; at < terms.size() && (row_first + int64_t(at)) / 65536 == block; ++at)
            piece.add(row_first + int64_t(at), terms[at]);
        total += piece.total();
    }
    return total;
}

std::vector<double> softmax_reference(const std::vector<double>& x, int64_t row_first) {
    const double highest = *std::max_element(x.begin(), x.end());
    std::vector<double> powers;
    for (double value : x) powers.push_back(exact_exp(value - highest));
    const double total = row_sum_reference(row_first, powers);
    for (double& power : powers) power = power / total + 1e-8;
    return powers;
}

template <class T>
void check_divergence(int64_t row_first, int64_t count) {
    SCOPED_TRACE(testing::Message() << row_first << " + " << count);
    const Dtype dtype = sizeof(T) == 8 ? Dtype::f64 : Dtype::bf16;
    Tensor base(dtype, count, 1), other(dtype, count, 3);
    std::mt19937_64 random{uint64_t(count)};
    fill_normal(base, count, 1, random);
    fill_normal(other, count, 1.5, random);
    std::vector<double> scratch(size_t(2 * count));
    DivergenceArguments arguments{base.operand(), other.operand(), row_first, count, scratch.data()};
    const double got = cpu::divergence(sizeof(T) == 8, arguments);
    std::vector<double> x, y, terms;
    for (int64_t i = 0; i < count; ++i) {
        x.push_back(double(base.value(i)));
        y.push_back(double(other.value(i)));
    }
    const std::vector<double> p = softmax_reference(y, row_first), q = softmax_reference(x, row_first);
    for (size_t i = 0; i < p.size(); ++i) terms.push_back(p[i] * (exact_log(p[i]) - exact_log(q[i])));
    EXPECT_EQ(bits_of(got), bits_of(row_sum_reference(row_first, terms)));
    // And the formula itself, with libm.
    long double sum_x = 0, sum_y = 0, divergence = 0;
    for (size_t i = 0; i < x.size(); ++i) {
        sum_x += std::exp(static_cast<long double>(x[i]));
        sum_y += std::exp(static_cast<long double>(y[i]));
    }
    for (size_t i = 0; i < x.size(); ++i) {
        const long double pi = std::exp(static_cast<long double>(y[i])) / sum_y + 1e-8L;
        const long double qi = std::exp(static_cast<long double>(x[i])) / sum_x + 1e-8L;
        divergence += pi * std::log(pi / qi);
    }
    EXPECT_NEAR(got, double(divergence), 1e-12);
}

TEST(Divergence, RowsInPiecesOfBlocks) {
    for (int64_t first : {0, 1, 255, 65536 - 100, 3 * 65536 - 1})
        for (int64_t count : {1, 2, 100, 256, 513, 4099}) {
            check_divergence<float>(first, count);
            check_divergence<double>(first, count);
        }
    check_divergence<float>(65536 - 7, 65536 * 2 + 20);
}

}  // namespace
}  // namespace amalgam
