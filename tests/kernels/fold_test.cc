// Every fold with every sparsifier, size and dtype, against formulas in a wider type.
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <vector>

#include "kernels/folds.h"
#include "tests/kernels/buffers.h"
#include "tests/kernels/fold_reference.h"

namespace amalgam {
namespace {

using test::name_of;
using test::Output;
using test::Tensor;

struct Combination {
    FoldKind kind;
    Sparsifier sparsifier;
    bool wide;
    friend void PrintTo(const Combination& c, std::ostream* out) {
        *out << "fold " << int(c.kind) << " sparsifier " << int(c.sparsifier) << (c.wide ? " wide" : "");
    }
};

std::vector<Combination> all_combinations() {
    std::vector<Combination> all;
    for (bool wide : {false, true}) {
        for (FoldKind kind : {FoldKind::average, FoldKind::nearswap, FoldKind::ram, FoldKind::ramplus})
            all.push_back({kind, Sparsifier::none, wide});
        for (FoldKind kind : {FoldKind::sum, FoldKind::elect})
            for (Sparsifier s : {Sparsifier::none, Sparsifier::magnitude, Sparsifier::random, Sparsifier::factors})
                all.push_back({kind, s, wide});
    }
    return all;
}

uint64_t bits_as(bool wide, double value) { return wide ? bits_of(value) : bits_of(static_cast<float>(value)); }

/// A base, models near to it, and what the fold is told about them.
class Problem {
  public:
    Problem(const Combination& combination, int64_t count, int models, Dtype base_dtype,
            const std::vector<Dtype>& dtypes, bool specials, uint64_t seed, bool whole_elements = false)
        : combination_(combination),
          count_(count),
          base_(base_dtype, count, (int(seed % 4) | 1) * (whole_elements ? bytes_of(base_dtype) : 1)) {
        std::mt19937_64 random(seed);
        fill_normal(base_, count, 0.5, random);
        if (specials) sprinkle_specials(base_, count, 41);
        std::normal_distribution<double> normal(0, 0.05);
        for (int m = 0; m < models; ++m) {
            const Dtype dtype = dtypes[size_t(m) % dtypes.size()];
            tensors_.emplace_back(dtype, count, (m % 7 | 1) * (whole_elements ? bytes_of(dtype) : 1));
            Tensor& tensor = tensors_.back();
            for (int64_t i = 0; i < count; ++i) {
                const bool same = random() % 4 == 0;
                tensor.set(i, base_.value(i) + (same ? 0 : static_cast<long double>(normal(random))));
            }
            if (specials) sprinkle_specials(tensor, count, m * 5);
            operands_.push_back(tensor.operand());
        }
        tell(models, specials, random);
    }

    FoldArguments arguments(Output& output) const {
        FoldArguments arguments;
        arguments.constants = constants_;
        if (combination_.kind != FoldKind::average) arguments.base = base_.operand();
        arguments.inputs = operands_.data();
        arguments.models = models_.data();
        arguments.model_count = int(models_.size());
        arguments.first = first_;
        arguments.count = count_;
        arguments.out = output.data();
        arguments.out_dtype = output.dtype();
        return arguments;
    }

    template <class T, class R>
    test::Expected<R> expected(int64_t i) const {
        test::Terms<R> terms;
        const bool origin = combination_.kind != FoldKind::average;
        const T base = origin ? T(base_.value(i)) : T(0);
        terms.base = base;
        for (size_t m = 0; m < models_.size(); ++m) {
            const T x = T(tensors_[m].value(i)), delta = x - base;
            const R factor = R(test::kept_factor<T>(combination_.sparsifier, models_[m], first_, i, delta));
            terms.deltas.push_back(factor == 0 ? R(0) : R(delta) * factor);
            terms.sizes.push_back(factor == 0 ? R(0) : std::fabs(factor) * (std::fabs(R(x)) + std::fabs(R(base))));
        }
        auto result =
            fold_reference<R>(combination_.kind, terms, models_, constants_, R(std::numeric_limits<T>::epsilon()));
        result.tolerance += 16 * R(std::numeric_limits<T>::denorm_min());  // roundings of subnormal numbers
        return result;
    }

    bool nonfinite_input() const {
        bool found = false;
        for (int64_t i = 0; i < count_; ++i) {
            if (combination_.kind != FoldKind::average) found |= !std::isfinite(base_.value(i));
            for (const Tensor& tensor : tensors_) found |= !std::isfinite(tensor.value(i));
        }
        return found;
    }
    const Combination& combination() const { return combination_; }
    int64_t count() const { return count_; }

  private:
    void tell(int models, bool specials, std::mt19937_64& random) {
        std::uniform_real_distribution<double> uniform(0, 1);
        const int rescale = combination_.kind == FoldKind::average ? 1 : 2;
        for (int m = 0; m < models; ++m) {
            FoldModel model;
            model.weight = 0.25 + uniform(random);
            if (m % 3 == 2) model.weight = -0.125 * model.weight;
            model.scale = model.weight * rescale;
            switch (combination_.sparsifier) {
                case Sparsifier::none: break;
                case Sparsifier::magnitude:
                    model.low = m == 3 ? 0 : bits_as(combination_.wide, 0.02);
                    if (m % 2 == 1) model.high = bits_as(combination_.wide, 0.07);
                    break;
                case Sparsifier::random:
                    model.address = {random(), random(), uint64_t(m)};
                    model.threshold = keep_threshold(0.3 + 0.2 * m);
                    model.all = m == 2;
                    break;
                case Sparsifier::factors:
                    if (m == 1) break;
                    factors_.emplace_back(size_t(count_));
                    for (double& factor : factors_.back())
                        factor = random() % 2 ? 0.f : static_cast<float>(1 + uniform(random));
                    model.factors = factors_.back().data();
            }
            models_.push_back(model);
        }
        first_ = int64_t(random() % 3) * 65536 + (random() % 2 ? int64_t(1) << 36 : 0);
        constants_.factor = combination_.kind == FoldKind::nearswap                                        ? 0.03
                            : combination_.kind == FoldKind::ram || combination_.kind == FoldKind::ramplus ? 0.02
                                                                                                           : 0.75;
        constants_.divisor = 1.75;
        constants_.normalize = specials ? false : random() % 4 != 0;
    }

    Combination combination_;
    int64_t count_, first_ = 0;
    Tensor base_;
    std::vector<Tensor> tensors_;
    std::vector<Operand> operands_;
    std::vector<FoldModel> models_;
    std::vector<std::vector<double>> factors_;
    FoldConstants constants_;
};

template <class T>
class Checker {
  public:
    /// Kernels compute in T, the reference in R.
    using R = std::conditional_t<sizeof(T) == 4, double, long double>;
    static constexpr Dtype exact_dtype = sizeof(T) == 4 ? Dtype::f32 : Dtype::f64;

    explicit Checker(const Problem& problem) : problem_(problem), exact_(exact_dtype, problem.count(), 3) {}

    void check_values() {
        const FoldCounts counts = run(exact_);
        int64_t nonfinite = 0;
        for (int64_t i = 0; i < problem_.count(); ++i) {
            const R got = R(exact_.value(i));
            nonfinite += !std::isfinite(got);
            const test::Expected<R> want = problem_.template expected<T, R>(i);
            if (std::isnan(want.value)) {
                ASSERT_EQ(exact_.code(i), test::format_of(exact_dtype).canonical_nan) << i;
            } else if (std::isinf(want.value)) {
                ASSERT_EQ(got, want.value) << i;
            } else {
                const bool near = std::fabs(got - want.value) <= want.tolerance;
                const bool other = std::fabs(got - want.alternative) <= want.tolerance;
                ASSERT_TRUE(near || other)
                    << "element " << i << ": " << got << ", not " << want.value << " within " << want.tolerance;
            }
        }
        EXPECT_EQ(counts.nonfinite_output, nonfinite);
        EXPECT_EQ(counts.nonfinite_input, problem_.nonfinite_input());
        EXPECT_EQ(counts.saturated, 0);
    }

    /// Any other output dtype holds the same numbers, rounded once.
    void check_output(Dtype dtype) {
        Output output(dtype, problem_.count(), 1 + int(dtype) % 7);
        const FoldCounts counts = run(output);
        int64_t cut = 0, nonfinite = 0;
        for (int64_t i = 0; i < problem_.count(); ++i) {
            const long double value = exact_.value(i);
            ASSERT_EQ(output.code(i), test::encode(dtype, value)) << name_of(dtype) << " " << value;
            cut += test::format_of(dtype).saturates && test::overflows(dtype, value);
            nonfinite += test::format_of(dtype).saturates ? !std::isfinite(value) : !std::isfinite(output.value(i));
        }
        EXPECT_EQ(counts.saturated, cut) << name_of(dtype);
        EXPECT_EQ(counts.nonfinite_output, nonfinite) << name_of(dtype);
    }

  private:
    FoldCounts run(Output& output) {
        const Combination& c = problem_.combination();
        const FoldCounts counts = cpu::fold(c.kind, c.sparsifier, c.wide, problem_.arguments(output));
        EXPECT_TRUE(output.guards_intact());
        return counts;
    }
    const Problem& problem_;
    Output exact_;
};

template <class T>
void check_problem(const Problem& problem, const std::vector<Dtype>& outputs) {
    Checker<T> checker(problem);
    checker.check_values();
    for (Dtype dtype : outputs)
        if (!testing::Test::HasFatalFailure()) checker.check_output(dtype);
}

class Fold : public testing::TestWithParam<Combination> {
  protected:
    static void check_one(int64_t count, int models, Dtype base, const std::vector<Dtype>& dtypes,
                          const std::vector<Dtype>& outputs, bool specials) {
        const Combination& c = GetParam();
        if (c.kind == FoldKind::nearswap) models = 1;
        SCOPED_TRACE(testing::Message() << count << " elements of " << name_of(base) << ", " << models << " models of "
                                        << name_of(dtypes[0]));
        const Problem problem(c, count, models, base, dtypes, specials, uint64_t(count) * 31 + uint64_t(base));
        c.wide ? check_problem<double>(problem, outputs) : check_problem<float>(problem, outputs);
    }
};

/// A float64 input is what makes a computation wide; narrow ones have none.
std::vector<Dtype> input_dtypes(bool wide) {
    return wide ? test::computed_dtypes()
                : std::vector<Dtype>{Dtype::bf16, Dtype::f16, Dtype::f32, Dtype::f8_e4m3, Dtype::f8_e5m2};
}

TEST_P(Fold, AllSizesAndInputDtypes) {
    for (int64_t count : {0, 1, 7, 255, 256, 257, 4099})
        for (Dtype dtype : input_dtypes(GetParam().wide)) check_one(count, 5, dtype, {dtype}, {dtype}, false);
}

TEST_P(Fold, MixedDtypesIntoEveryDtype) {
    for (int64_t count : {257, 4099})
        check_one(count, 6, Dtype::f16, input_dtypes(GetParam().wide), test::computed_dtypes(), false);
}

TEST_P(Fold, NonFiniteAndSmallestNumbers) {
    for (Dtype dtype : input_dtypes(GetParam().wide))
        check_one(4099, 3, dtype, {dtype}, {dtype, Dtype::bf16, Dtype::f8_e4m3}, true);
}

TEST_P(Fold, OneModelAndNone) {
    check_one(300, 1, Dtype::bf16, {Dtype::bf16}, {Dtype::bf16}, false);
    if (GetParam().kind != FoldKind::nearswap) check_one(300, 0, Dtype::bf16, {Dtype::bf16}, {Dtype::bf16}, false);
}

INSTANTIATE_TEST_SUITE_P(Every, Fold, testing::ValuesIn(all_combinations()));

/// The same body in packs of another width, compiled for the plainest machine: the bits must not notice. Short packs want
/// elements at multiples of their size.
template <template <class> class FoldOf, Sparsifier kind, class T>
void expect_same_bits_in_narrow_packs(FoldKind fold_kind) {
    const Combination combination{fold_kind, kind, sizeof(T) == 8};
    const std::vector<Dtype> dtypes = input_dtypes(combination.wide);
    const Problem problem(combination, 4099, fold_kind == FoldKind::nearswap ? 1 : 6, Dtype::bf16, dtypes, true, 77,
                          true);
    Output wide(Dtype::f32, 4099, 4), narrow(Dtype::f32, 4099, 4);
    const FoldCounts counts = cpu::fold(fold_kind, kind, combination.wide, problem.arguments(wide));
    FoldPass<FoldOf<T>, kind, T> pass{problem.arguments(narrow)};
    pass.template run<8>();
    EXPECT_TRUE(wide.same_bytes(narrow));
    EXPECT_EQ(pass.counts.nonfinite_output, counts.nonfinite_output);
    EXPECT_EQ(pass.counts.nonfinite_input, counts.nonfinite_input);
}

template <template <class> class FoldOf, class T>
void expect_same_bits_of_all_sparsifiers(FoldKind kind) {
    expect_same_bits_in_narrow_packs<FoldOf, Sparsifier::none, T>(kind);
    expect_same_bits_in_narrow_packs<FoldOf, Sparsifier::magnitude, T>(kind);
    expect_same_bits_in_narrow_packs<FoldOf, Sparsifier::random, T>(kind);
    expect_same_bits_in_narrow_packs<FoldOf, Sparsifier::factors, T>(kind);
}

template <class T>
void expect_same_bits_of_all_folds() {
    expect_same_bits_in_narrow_packs<folds::Average, Sparsifier::none, T>(FoldKind::average);
    expect_same_bits_in_narrow_packs<folds::NearSwap, Sparsifier::none, T>(FoldKind::nearswap);
    expect_same_bits_in_narrow_packs<folds::Ram, Sparsifier::none, T>(FoldKind::ram);
    expect_same_bits_in_narrow_packs<folds::RamPlus, Sparsifier::none, T>(FoldKind::ramplus);
    expect_same_bits_of_all_sparsifiers<folds::Sum, T>(FoldKind::sum);
    expect_same_bits_of_all_sparsifiers<folds::Elect, T>(FoldKind::elect);
}

TEST(FoldBits, DoNotDependOnPacksOrInstructions) {
    expect_same_bits_of_all_folds<float>();
    expect_same_bits_of_all_folds<double>();
}

/// Hand-computed: three task vectors at eight elements.
TEST(FoldByHand, Ties) {
    const std::array<float, 8> base = {1, 1, 1, 1, 1, 1, 1, 1};
    const std::array<float, 8> a = {2, 2, 2, 1, 0, 1, 1.5, 3}, b = {3, 0, 0, 1, 0, 3, 1.5, 1},
                               c = {4, 0, 3, 1, 2, 1, 1, 1};
    std::array<float, 8> out{};
    const Operand inputs[] = {{a.data(), Dtype::f32}, {b.data(), Dtype::f32}, {c.data(), Dtype::f32}};
    FoldModel models[3];
    models[2].scale = models[2].weight = 0.5;
    FoldArguments arguments;
    arguments.constants = {.factor = 2, .divisor = 1, .normalize = true};
    arguments.base = {base.data(), Dtype::f32};
    arguments.inputs = inputs;
    arguments.models = models;
    arguments.model_count = 3;
    arguments.count = 8;
    arguments.out = out.data();
    cpu::fold(FoldKind::elect, Sparsifier::none, false, arguments);
    // Votes: (1, 2, 1.5) up; (1, -1, -.5) down; (1, -1, 1) up; none; (-1, -1, .5) down; (0, 2, 0) up; (.5, .5, 0);
    // (2, 0, 0).
    const std::array<float, 8> want = {1 + 2 * 4.5f / 2.5f, 1 - 2 * 1.5f / 1.5f, 1 + 2 * 2.f / 1.5f, 1,
                                       1 - 2 * 2.f / 2.f,   1 + 2 * 2.f,         1 + 2 * 0.5f,       1 + 2 * 2.f};
    EXPECT_EQ(out, want);
    // A draw counts as up.
    const float draw_a = 1.5, draw_b = 0.5;
    float one = 0;
    const Operand pair[] = {{&draw_a, Dtype::f32}, {&draw_b, Dtype::f32}};
    arguments.inputs = pair;
    arguments.model_count = 2;
    arguments.count = 1;
    arguments.out = &one;
    cpu::fold(FoldKind::elect, Sparsifier::none, false, arguments);
    EXPECT_EQ(one, 2.f);
}

}  // namespace
}  // namespace amalgam
