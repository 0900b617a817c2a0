// SCE and arcee_fusion, and the energies SCE weighs by.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/passes.h"
#include "tests/kernels/key_problem.h"
#include "tests/kernels/lane_sum.h"

namespace amalgam {
namespace {

using test::KeyProblem;
using test::Output;

constexpr int inputs = 3;

std::vector<uint64_t> keys_of(const KeyProblem& problem, KeyKind kind, bool wide) {
    std::vector<uint64_t> keys(size_t(problem.arguments.count));
    cpu::extract_keys(kind, wide, problem.arguments, 0, keys.data());
    return keys;
}

uint64_t median(std::vector<uint64_t> keys) {
    if (keys.empty()) return 1;
    std::nth_element(keys.begin(), keys.begin() + int64_t(keys.size() / 2), keys.end());
    return keys[keys.size() / 2];
}

bool has_nonfinite(const KeyProblem& problem, int models) {
    bool found = false;
    for (int64_t i = 0; i < problem.arguments.count; ++i) {
        found |= !std::isfinite(problem.base.value(i));
        for (int m = 0; m < models; ++m) found |= !std::isfinite(problem.tensors[size_t(m)].value(i));
    }
    return found;
}

template <class T>
void check_energies(int64_t count, bool cut_ties) {
    const KeyProblem problem(count, inputs, sizeof(T) == 8);
    const auto keys = keys_of(problem, KeyKind::variance, sizeof(T) == 8);
    SelectArguments arguments;
    arguments.key = problem.arguments;
    arguments.low = median(keys);
    if (cut_ties) {
        arguments.tie_key = arguments.low;
        arguments.tie_count = count / 3;
    }
    std::vector<double> totals(inputs, -1), scratch(inputs * 256);
    cpu::energies(sizeof(T) == 8, arguments, totals.data(), scratch.data());
    for (int m = 0; m < inputs; ++m) {
        test::LaneSum sum;
        for (int64_t i = 0; i < count; ++i) {
            const uint64_t key = keys[size_t(i)];
            const bool kept = key > arguments.low || (key == arguments.low && (!cut_ties || i < arguments.tie_count));
            const double delta = double(problem.delta<T>(m, i));
            if (kept && std::isfinite(delta)) sum.add(i, delta * delta);
        }
        EXPECT_EQ(bits_of(totals[size_t(m)]), bits_of(sum.total())) << count << " " << m;
    }
}

TEST(Energies, SumsOfSquaresOfWhatIsSelected) {
    for (int64_t count : {0, 1, 7, 255, 256, 257, 4099})
        for (bool cut : {false, true}) {
            check_energies<float>(count, cut);
            check_energies<double>(count, cut);
        }
}

/// y = base + sum of agreeing W d over the sum of their W, at least 1e-6; the sign is that of the plain sum.
template <class R>
R sce_reference(R base, const std::vector<R>& deltas, const std::vector<double>& weights, bool up) {
    R mass = 0, weight = 0;
    for (size_t m = 0; m < deltas.size(); ++m)
        if (std::isnan(deltas[m]) || (up ? deltas[m] > 0 : deltas[m] < 0)) {
            mass += R(weights[m]) * deltas[m];
            weight += R(weights[m]);
        }
    return base + mass / std::max(weight, R(1e-6L));
}

template <class T>
void check_sce(int64_t count, Dtype out_dtype, bool specials) {
    using R = std::conditional_t<sizeof(T) == 4, double, long double>;
    const bool wide = sizeof(T) == 8;
    const Dtype exact_dtype = wide ? Dtype::f64 : Dtype::f32;
    SCOPED_TRACE(testing::Message() << count << (wide ? " wide" : "") << (specials ? " special" : ""));
    const KeyProblem problem(count, inputs, wide, specials);
    const auto keys = keys_of(problem, KeyKind::variance, wide);
    const std::vector<double> weights = {0.5, 0.2, 0.3};
    SelectArguments arguments;
    arguments.key = problem.arguments;
    arguments.low = median(keys);
    arguments.weights = weights.data();
    Output exact(exact_dtype, count, 1), output(out_dtype, count, 3);
    for (Output* out : {&exact, &output}) {
        arguments.out = out->data();
        arguments.out_dtype = out->dtype();
        const FoldCounts counts = cpu::sce(wide, arguments);
        EXPECT_TRUE(out->guards_intact());
        EXPECT_EQ(counts.nonfinite_input, has_nonfinite(problem, inputs));
        int64_t nonfinite = 0, cut = 0;
        for (int64_t i = 0; i < count; ++i) {
            const bool fp8 = test::format_of(out->dtype()).saturates;
            nonfinite += fp8 ? !std::isfinite(exact.value(i)) : !std::isfinite(out->value(i));
            cut += fp8 && test::overflows(out->dtype(), exact.value(i));
        }
        EXPECT_EQ(counts.nonfinite_output, nonfinite);
        EXPECT_EQ(counts.saturated, cut);
    }
    for (int64_t i = 0; i < count; ++i) {
        std::vector<R> deltas;
        R total = 0, size = std::fabs(R(problem.base.value(i)));
        for (int m = 0; m < inputs; ++m) {
            deltas.push_back(keys[size_t(i)] >= arguments.low ? R(problem.delta<T>(m, i)) : R(0));
            total += deltas.back();
            size += std::fabs(deltas.back());
        }
        const R tolerance =
            16 * R(std::numeric_limits<T>::epsilon()) * size + 16 * R(std::numeric_limits<T>::denorm_min());
        const R base = R(problem.base.value(i)), want = sce_reference(base, deltas, weights, total >= 0);
        const R other = std::fabs(total) > tolerance ? want : sce_reference(base, deltas, weights, !(total >= 0));
        const R got = R(exact.value(i));
        if (std::isnan(want))
            ASSERT_EQ(exact.code(i), test::format_of(exact_dtype).canonical_nan) << i;
        else if (std::isinf(want))
            ASSERT_EQ(got, want) << i;
        else
            ASSERT_TRUE(std::fabs(got - want) <= tolerance || std::fabs(got - other) <= tolerance)
                << i << ": " << got << " " << want;
        ASSERT_EQ(output.code(i), test::encode(out_dtype, exact.value(i)));
    }
}

TEST(Sce, EverySizeAndDtype) {
    for (int64_t count : {0, 1, 7, 255, 256, 257, 4099})
        for (bool specials : {false, true}) {
            check_sce<float>(count, Dtype::bf16, specials);
            check_sce<double>(count, Dtype::f8_e4m3, specials);
            check_sce<double>(count, Dtype::f16, specials);
        }
}

void check_fusion(int64_t count, bool wide) {
    const KeyProblem problem(count, 1, wide);
    const auto keys = keys_of(problem, KeyKind::importance, wide);
    SelectArguments arguments;
    arguments.key = problem.arguments;
    arguments.low = median(keys);
    arguments.out_dtype = problem.tensors[0].dtype();
    Output output(arguments.out_dtype, count, 3);
    arguments.out = output.data();
    const FoldCounts counts = cpu::fusion(wide, arguments);
    EXPECT_TRUE(output.guards_intact());
    EXPECT_EQ(counts.nonfinite_input, has_nonfinite(problem, 1));
    for (int64_t i = 0; i < count; ++i) {
        const test::Tensor& from = keys[size_t(i)] >= arguments.low ? problem.tensors[0] : problem.base;
        ASSERT_EQ(output.code(i), test::encode(output.dtype(), from.value(i))) << i;
    }
}

TEST(Fusion, TakesTheOtherModelWhereItMatters) {
    for (int64_t count : {0, 1, 7, 255, 256, 257, 4099})
        for (bool wide : {false, true}) check_fusion(count, wide);
}

template <class T>
void check_fold_columns(int64_t count, int64_t columns, int64_t column, bool with_base) {
    using R = std::conditional_t<sizeof(T) == 4, double, long double>;
    const bool wide = sizeof(T) == 8;
    const KeyProblem problem(count, 2, wide);
    std::vector<double> coefficients;
    for (int64_t c = 0; c < 2 * columns; ++c)
        coefficients.push_back(0.25 + 0.125 * double(c % 11) - 0.5 * double(c % 3));
    FoldArguments arguments;
    if (with_base) arguments.base = problem.base.operand();
    arguments.inputs = problem.operands.data();
    arguments.model_count = 2;
    arguments.count = count;
    arguments.out_dtype = wide ? Dtype::f64 : Dtype::f32;
    Output output(arguments.out_dtype, count, 1);
    arguments.out = output.data();
    const FoldCounts counts = cpu::fold_columns(wide, arguments, coefficients.data(), columns, column);
    EXPECT_TRUE(output.guards_intact());
    int64_t nonfinite = 0;
    bool nonfinite_input = false;
    for (int64_t i = 0; i < count; ++i) {
        const R base = with_base ? R(problem.base.value(i)) : 0;
        R want = base, size = std::fabs(base);
        nonfinite_input |= !std::isfinite(base);
        for (size_t m = 0; m < 2; ++m) {
            const R x = R(problem.tensors[m].value(i)),
                    c = R(coefficients[m * size_t(columns) + size_t((column + i) % columns)]);
            want += c * R(T(T(x) - T(base)));
            size += std::fabs(c) * (std::fabs(x) + std::fabs(base));
            nonfinite_input |= !std::isfinite(x);
        }
        const R got = R(output.value(i));
        nonfinite += !std::isfinite(got);
        if (std::isfinite(want))
            ASSERT_NEAR(double(got), double(want), double(16 * R(std::numeric_limits<T>::epsilon()) * size) + 1e-44)
                << i;
        else if (std::isnan(want))
            ASSERT_EQ(output.code(i), test::format_of(output.dtype()).canonical_nan);
        else
            ASSERT_EQ(got, want);
    }
    EXPECT_EQ(counts.nonfinite_output, nonfinite);
    EXPECT_EQ(counts.nonfinite_input, nonfinite_input);
}

TEST(FoldColumns, OneCoefficientPerColumn) {
    for (int64_t count : {0, 1, 63, 64, 65, 4099})
        for (int64_t columns : {1, 3, 64, 1000})
            for (bool with_base : {false, true}) {
                check_fold_columns<float>(count, columns, columns / 2, with_base);
                check_fold_columns<double>(count, columns, columns - 1, with_base);
            }
}

}  // namespace
}  // namespace amalgam
