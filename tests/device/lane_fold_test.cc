// Folds of a GPU's lane give the bytes of the CPU's.
#include "kernels/random.h"
#include "tests/device/lane_sample.h"

namespace amalgam {
namespace {

constexpr int64_t first_element = 5 * 65536;

/// `factors` keeps what the CPU's lane looks at.
std::vector<FoldModel> some_models(const Sample& sample, Sparsifier sparsifier, Lane& lane,
                                   std::vector<std::vector<double>>& factors) {
    std::vector<FoldModel> models(size_t(sample.models()));
    factors.resize(models.size());
    for (size_t m = 0; m < models.size(); ++m) {
        FoldModel& model = models[m];
        model.scale = 0.3 + 0.1 * double(m) - (m % 4 == 3 ? 1.1 : 0);
        model.weight = 0.5 + 0.25 * double(m % 3);
        const double low = 0.004 + 0.001 * double(m % 5), high = m % 2 ? 0.03 : 1e30;
        model.low = sample.wide() ? order_key(low) : order_key(float(low));
        model.high = sample.wide() ? order_key(high) : order_key(float(high));
        model.address = {77, 0x123456789abcdefull, m};
        // Draws of 16 bits that equal the upper half are drawn again: once in 65,536.
        model.threshold = keep_threshold(0.37 + 0.01 * double(m % 7));
        model.all = m % 5 == 4;
        if (sparsifier == Sparsifier::factors && m % 3 != 2) {
            factors[m].resize(size_t(sample.count()));
            for (size_t i = 0; i < factors[m].size(); ++i) factors[m][i] = (i * 7 + m) % 4 ? 1 + double(i % 9) / 8 : 0;
            model.factors = lane.bring_numbers(factors[m]);
        }
    }
    return models;
}

struct Kind {
    FoldKind kind;
    Sparsifier sparsifier;
};

std::vector<Kind> kinds() {
    std::vector<Kind> all{{FoldKind::average, Sparsifier::none},
                          {FoldKind::nearswap, Sparsifier::none},
                          {FoldKind::ram, Sparsifier::none},
                          {FoldKind::ramplus, Sparsifier::none}};
    for (FoldKind kind : {FoldKind::sum, FoldKind::elect})
        for (Sparsifier sparsifier : {Sparsifier::none, Sparsifier::magnitude, Sparsifier::random, Sparsifier::factors})
            all.push_back({kind, sparsifier});
    return all;
}

std::string text(const Kind& kind) {
    return ", fold " + std::to_string(int(kind.kind)) + " with sparsifier " + std::to_string(int(kind.sparsifier));
}

FoldArguments arguments_of(const Sample& sample, const Kind& kind, Lane& lane, const std::vector<Operand>& inputs,
                           const std::vector<FoldModel>& models) {
    FoldArguments arguments;
    arguments.constants = {kind.kind == FoldKind::nearswap ? 0.001 : 0.9, 1.5, true};
    if (kind.kind == FoldKind::ram || kind.kind == FoldKind::ramplus) arguments.constants.factor = 0.01;
    arguments.base = sample.base(lane);
    arguments.inputs = inputs.data();
    arguments.models = models.data();
    arguments.model_count = sample.models();
    arguments.first = first_element;
    arguments.count = sample.count();
    arguments.out_dtype = sample.models() == 2 ? Dtype::f8_e4m3 : sample.dtype();
    return arguments;
}

size_t out_bytes(const FoldArguments& arguments) {
    return size_t(arguments.count) * size_t(stored_bytes(arguments.out_dtype));
}

class LaneFoldTest : public LaneTest {};

TEST_F(LaneFoldTest, FoldsHaveTheBytesOfTheCpu) {
    each_sample([&](const Sample& sample, const std::string& name) {
        for (const Kind& kind : kinds())
            expect_same(name + text(kind), [&](Lane& lane) {
                const auto inputs = sample.inputs(lane);
                std::vector<std::vector<double>> factors;
                const auto models = some_models(sample, kind.sparsifier, lane, factors);
                FoldArguments arguments = arguments_of(sample, kind, lane, inputs, models);
                arguments.out = lane.reserve(out_bytes(arguments));
                Results results;
                results.add(lane.fold(kind.kind, kind.sparsifier, sample.wide(), arguments));
                results.take(lane, arguments.out, out_bytes(arguments));
                return results;
            });
    });
}

TEST_F(LaneFoldTest, OperandsMayBeginAtAnyElement) {
    for (Dtype dtype : computed_dtypes()) {
        const Sample sample(dtype, 5000, 3, true);
        for (int64_t skip = 1; skip < 18; ++skip)
            expect_same(std::string(info(dtype).name) + " from element " + std::to_string(skip), [&](Lane& lane) {
                const Kind kind{FoldKind::elect, Sparsifier::magnitude};
                auto inputs = sample.inputs(lane);
                for (size_t m = 0; m < inputs.size(); ++m) inputs[m] = later(inputs[m], m == 1 ? 0 : skip);
                std::vector<std::vector<double>> factors;
                const auto models = some_models(sample, kind.sparsifier, lane, factors);
                FoldArguments arguments = arguments_of(sample, kind, lane, inputs, models);
                arguments.base = later(arguments.base, skip / 2);
                arguments.count -= 20;
                auto out = static_cast<unsigned char*>(lane.reserve(sample.bytes()));
                arguments.out = out + skip * stored_bytes(arguments.out_dtype);
                Results results;
                results.add(lane.fold(kind.kind, kind.sparsifier, sample.wide(), arguments));
                results.take(lane, arguments.out, out_bytes(arguments));
                return results;
            });
    }
}

TEST_F(LaneFoldTest, PlanesOfSeveralStepsGiveTheBytesOfOneFold) {
    for (Dtype dtype : computed_dtypes())
        for (int64_t count : {1, 255, 65537}) {
            const Sample sample(dtype, count, 8, true);
            for (const Kind& kind : kinds()) {
                const std::string name = std::string(info(dtype).name) + ", " + std::to_string(count) + text(kind);
                expect_same(name, [&](Lane& lane) {
                    const auto inputs = sample.inputs(lane);
                    std::vector<std::vector<double>> factors;
                    const auto models = some_models(sample, kind.sparsifier, lane, factors);
                    FoldArguments arguments = arguments_of(sample, kind, lane, inputs, models);
                    arguments.out = lane.reserve(out_bytes(arguments));
                    lane.fold(kind.kind, kind.sparsifier, sample.wide(), arguments);
                    Results whole;
                    whole.take(lane, arguments.out, out_bytes(arguments));

                    const size_t plane_bytes = size_t(fold_planes(kind.kind)) * size_t(count) * (sample.wide() ? 8 : 4);
                    void* planes[2] = {lane.reserve(plane_bytes), lane.reserve(plane_bytes)};
                    void* out = lane.reserve(out_bytes(arguments));
                    const int steps[] = {0, 3, 4, 8};
                    Results results, last;
                    for (int step = 0; step < 3; ++step) {
                        FoldArguments part = arguments;
                        part.inputs += steps[step];
                        part.models += steps[step];
                        part.model_count = steps[step + 1] - steps[step];
                        part.plane_stride = count;
                        part.planes_in = step > 0 ? planes[(step + 1) % 2] : nullptr;
                        part.planes_out = step < 2 ? planes[step % 2] : nullptr;
                        part.out = step < 2 ? nullptr : out;
                        results.add(lane.fold(kind.kind, kind.sparsifier, sample.wide(), part));
                        if (step < 2) results.take(lane, part.planes_out, plane_bytes);
                    }
                    last.take(lane, out, out_bytes(arguments));
                    EXPECT_EQ(whole.bytes(), last.bytes()) << name << (lane.on_host() ? " on the CPU" : " on the GPU");
                    return results;
                });
            }
        }
}

TEST_F(LaneFoldTest, RowsAndColumnsWithCoefficientsOfTheirOwn) {
    each_sample([&](const Sample& sample, const std::string& name) {
        if (sample.models() == 70 && sample.count() > 255 && sample.dtype() != Dtype::bf16) return;
        for (int64_t columns : {int64_t(1), int64_t(5), int64_t(1000), int64_t(70001)}) {
            const int64_t column = first_element % columns, rows = (column + sample.count() + columns - 1) / columns;
            for (bool by_row : {true, false})
                for (bool relative : {true, false})
                    expect_same(
                        name + ", " + std::to_string(columns) + (by_row ? " columns, rows" : " columns"),
                        [&](Lane& lane) {
                            const auto inputs = sample.inputs(lane);
                            const Kind kind{relative ? FoldKind::sum : FoldKind::average, Sparsifier::none};
                            FoldArguments arguments = arguments_of(sample, kind, lane, inputs, {});
                            if (!relative) arguments.base = {};
                            arguments.out = lane.reserve(out_bytes(arguments));
                            std::vector<double> numbers(size_t((by_row ? rows : columns) * sample.models()));
                            for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = 0.1 + double(i % 11) / 7;
                            Results results;
                            results.add(by_row ? lane.fold_rows(kind.kind, sample.wide(), arguments, numbers, columns)
                                               : lane.fold_columns(sample.wide(), arguments, numbers, columns, column));
                            results.take(lane, arguments.out, out_bytes(arguments));
                            return results;
                        });
        }
    });
}

}  // namespace
}  // namespace amalgam
