// Statistics, selections and row passes of a GPU's lane give the bits of the CPU's.
#include "kernels/random.h"
#include "tests/device/lane_sample.h"

namespace amalgam {
namespace {

constexpr int64_t first_element = 9 * 65536;

int64_t blocks_of(int64_t count) { return (count + sum_block - 1) / sum_block; }

GramArguments gram_of(const Operand& base, const std::vector<Operand>& inputs, int64_t first, int64_t count) {
    return {base, inputs.data(), int(inputs.size()), first, count};
}

KeyArguments key_of(const Operand& base, const std::vector<Operand>& inputs, int64_t count, const float* factors) {
    return {base, inputs.data(), int(inputs.size()), factors, count};
}

class LanePassTest : public LaneTest {};

TEST_F(LanePassTest, WhatTheDevicesAre) {
    const std::vector<CudaDeviceFacts> devices = cuda_devices();
    ASSERT_EQ(int(devices.size()), cuda_device_count());
    for (size_t i = 0; i < devices.size(); ++i) {
        EXPECT_NE(devices[i].name, "");
        EXPECT_TRUE(devices[i].supported);
        EXPECT_GT(devices[i].memory, 0u);
        for (size_t j = 0; j < i; ++j) EXPECT_NE(devices[i].place, devices[j].place);
    }
}

TEST_F(LanePassTest, Norms) {
    each_sample([&](const Sample& sample, const std::string& name) {
        for (Sparsifier sparsifier : {Sparsifier::none, Sparsifier::magnitude, Sparsifier::random, Sparsifier::factors})
            expect_same(name + ", sparsifier " + std::to_string(int(sparsifier)), [&](Lane& lane) {
                const auto inputs = sample.inputs(lane);
                std::vector<FoldModel> models(inputs.size());
                std::vector<std::vector<double>> factors(models.size(), std::vector<double>(size_t(sample.count())));
                for (size_t m = 0; m < models.size(); ++m) {
                    models[m].low = sample.wide() ? order_key(0.01) : order_key(0.01f);
                    models[m].address = {3, 99, m};
                    models[m].threshold = keep_threshold(0.41);
                    for (size_t i = 0; i < factors[m].size(); ++i) factors[m][i] = i % 3 == m % 3 ? 0 : 1.5;
                    if (sparsifier == Sparsifier::factors && m % 2 == 0)
                        models[m].factors = lane.bring_numbers(factors[m]);
                }
                FoldArguments arguments;
                arguments.base = sample.base(lane);
                arguments.inputs = inputs.data();
                arguments.models = models.data();
                arguments.model_count = sample.models();
                arguments.first = first_element;
                arguments.count = sample.count();
                std::vector<double> totals(size_t(blocks_of(sample.count()) * sample.models() * 2));
                lane.norms(sparsifier, sample.wide(), arguments, totals.data());
                Results results;
                results.add(totals);
                return results;
            });
    });
}

TEST_F(LanePassTest, GramMatrices) {
    each_sample([&](const Sample& sample, const std::string& name) {
        // Products grow with the square of the models.
        if (sample.models() == 70 && sample.count() > 255 && sample.dtype() != Dtype::bf16) return;
        for (bool relative : {true, false})
            expect_same(name, [&](Lane& lane) {
                const auto inputs = sample.inputs(lane);
                const Operand base = relative ? sample.base(lane) : Operand{};
                std::vector<double> products(size_t(blocks_of(sample.count()) * pair_count(sample.models())));
                lane.gram(sample.wide(), gram_of(base, inputs, first_element, sample.count()), products.data());
                Results results;
                results.add(products);
                return results;
            });
        if (sample.models() > 8) return;
        for (int64_t columns : {1, 7, 1000, 65536, 70001})
            expect_same(name + ", rows of " + std::to_string(columns), [&](Lane& lane) {
                const auto inputs = sample.inputs(lane);
                const int64_t rows = std::min<int64_t>(sample.count() / columns, 100);
                const int64_t first = 123 * columns;
                std::vector<double> products(size_t(rows * pair_count(sample.models())));
                if (rows > 0)
                    lane.gram_rows(sample.wide(), gram_of(sample.base(lane), inputs, first, rows * columns), columns,
                                   products.data());
                Results results;
                results.add(products);
                return results;
            });
    });
}

TEST_F(LanePassTest, ProductsByColumn) {
    each_sample([&](const Sample& sample, const std::string& name) {
        if (sample.models() != 2) return;
        for (int64_t columns : {1, 5, 1000, 70001})
            expect_same(name + ", " + std::to_string(columns) + " columns", [&](Lane& lane) {
                const auto inputs = sample.inputs(lane);
                const Operand base = columns == 5 ? Operand{} : sample.base(lane);
                std::vector<double> sums(size_t(blocks_of(sample.count()) * columns * 3));
                lane.column_products(sample.wide(), gram_of(base, inputs, first_element, sample.count()), columns,
                                     sums.data());
                Results results;
                results.add(sums);
                return results;
            });
    });
}

TEST_F(LanePassTest, Keys) {
    each_sample([&](const Sample& sample, const std::string& name) {
        for (KeyKind kind : {KeyKind::distance, KeyKind::variance, KeyKind::importance})
            expect_same(name + ", keys " + std::to_string(int(kind)), [&](Lane& lane) {
                const auto inputs = sample.inputs(lane);
                const bool long_keys = sample.wide() && kind == KeyKind::distance;
                std::vector<float> rows(size_t(sample.count() / 100 + 2));
                for (size_t i = 0; i < rows.size(); ++i) rows[i] = 0.5f + float(i % 17);
                const float* factors = lane.spread_rows(rows, 100, first_element, sample.count());
                const KeyArguments arguments = key_of(sample.base(lane), inputs, sample.count(), factors);
                const KeyWindow all{0, long_keys ? ~uint64_t(0) : uint64_t(1) << 32, long_keys ? 52 : 20};
                const KeyWindow some = long_keys ? KeyWindow{0x3f40000000000000, 0x3fc0000000000000, 44}
                                                 : KeyWindow{0x3a000000, 0x3d000000, 14};
                std::vector<std::vector<uint32_t>> bins;
                std::vector<KeyStream> streams;
                for (int m = 0; m < (kind == KeyKind::distance ? sample.models() : 1); ++m)
                    for (const KeyWindow& window : {all, some}) {
                        bins.emplace_back(size_t((window.high - 1 - window.low) >> window.shift) + 1, 5);
                        streams.push_back({m, window, m % 3 == 2 ? nullptr : bins.back().data()});
                    }
                std::vector<KeyCounts> counts(size_t(blocks_of(sample.count())) * streams.size(), KeyCounts{1, 1});
                lane.count_keys(kind, sample.wide(), arguments, streams, counts.data());
                std::vector<uint64_t> keys(size_t(sample.count()));
                lane.extract_keys(kind, sample.wide(), arguments, sample.models() - 1, keys.data());
                Results results;
                for (const KeyCounts& one : counts) results.add(std::vector<int64_t>{one.from_low, one.from_high});
                for (const auto& one : bins) results.add(one);
                results.add(keys);
                results.take(lane, factors, size_t(sample.count()) * sizeof(float));
                return results;
            });
    });
}

TEST_F(LanePassTest, SelectionsByVariance) {
    each_sample([&](const Sample& sample, const std::string& name) {
        for (int64_t ties : {int64_t(-1), int64_t(0), sample.count() / 2})
            expect_same(name + ", " + std::to_string(ties) + " ties", [&](Lane& lane) {
                const auto inputs = sample.inputs(lane);
                std::vector<double> weights(inputs.size());
                for (size_t m = 0; m < weights.size(); ++m) weights[m] = 0.2 + 0.3 * double(m % 4);
                SelectArguments arguments;
                arguments.key = key_of(sample.base(lane), inputs, sample.count(), nullptr);
                arguments.low = order_key(1e-5f);
                arguments.tie_key = ties == 0 ? 0 : order_key(std::numeric_limits<float>::quiet_NaN());
                if (ties == 0) arguments.low = 0;
                arguments.tie_count = ties;
                arguments.weights = weights.data();
                arguments.out = lane.reserve(sample.bytes());
                arguments.out_dtype = sample.dtype();
                std::vector<double> energies(size_t(blocks_of(sample.count()) * sample.models()));
                lane.energies(sample.wide(), arguments, energies.data());
                Results results;
                results.add(energies);
                results.add(lane.sce(sample.wide(), arguments));
                results.take(lane, arguments.out, sample.bytes());
                return results;
            });
    });
}

TEST_F(LanePassTest, FusionChangesAndNonfinite) {
    each_sample([&](const Sample& sample, const std::string& name) {
        expect_same(name, [&](Lane& lane) {
            const auto inputs = sample.inputs(lane);
            std::vector<float> rows(size_t(sample.count() / 300 + 2));
            for (size_t i = 0; i < rows.size(); ++i) rows[i] = float(i % 5);
            SelectArguments arguments;
            arguments.key = key_of(sample.base(lane), inputs, sample.count(),
                                   lane.spread_rows(rows, 300, first_element + 7, sample.count()));
            arguments.low = order_key(0.03f);
            arguments.out = lane.reserve(sample.bytes());
            arguments.out_dtype = sample.dtype();
            Results results;
            results.add(lane.fusion(sample.wide(), arguments));
            results.take(lane, arguments.out, sample.bytes());
            std::vector<int64_t> shared(inputs.size(), 3), unique(inputs.size(), 4);
            lane.changes(sample.wide(), arguments.key, 0.01, shared.data(), unique.data());
            results.add(shared);
            results.add(unique);
            results.add(std::vector<int64_t>{lane.count_nonfinite(inputs[0], sample.count())});
            return results;
        });
    });
}

TEST_F(LanePassTest, RowsOfDivergencesAndRanks) {
    struct Shape {
        int64_t rows, columns;
    };
    for (Dtype dtype : computed_dtypes())
        for (const Shape& shape :
             {Shape{1, 1}, Shape{9, 1}, Shape{5, 7}, Shape{3, 300}, Shape{2, 4097}, Shape{1, 70001}})
            for (bool awkward : {true, false}) {
                const Sample sample(dtype, shape.rows * shape.columns, 1, awkward);
                const std::string name = std::string(info(dtype).name) + ", " + std::to_string(shape.rows) + " x " +
                                         std::to_string(shape.columns);
                expect_same(name, [&](Lane& lane) {
                    const auto inputs = sample.inputs(lane);
                    std::vector<double> divergences(size_t(shape.rows));
                    lane.divergences(sample.wide(), sample.base(lane), inputs[0], 31 * shape.columns, shape.rows,
                                     shape.columns, divergences.data());
                    Results results;
                    results.add(divergences);
                    return results;
                });
                for (int variant = 0; variant < 3; ++variant)
                    expect_same(name + ", ranks " + std::to_string(variant), [&](Lane& lane) {
                        const auto inputs = sample.inputs(lane);
                        RankedArguments arguments;
                        arguments.base = sample.base(lane);
                        arguments.input = inputs[0];
                        arguments.columns = shape.columns;
                        // Parts of the first and the last row.
                        const int64_t skip = variant == 1 ? shape.columns / 3 : 0;
                        arguments.first = 17 * shape.columns + skip;
                        arguments.count = sample.count() - 2 * skip;
                        arguments.density = variant == 2 ? 0 : 0.55;
                        arguments.epsilon = 0.2;
                        arguments.inverse = variant == 1;
                        arguments.address = {5, 1234567, 3};
                        const double* factors = lane.ranked_factors(sample.wide(), arguments);
                        Results results;
                        results.take(lane, factors, size_t(arguments.count) * sizeof(double));
                        return results;
                    });
            }
}

TEST_F(LanePassTest, MemoryOfWindowsIsUsedAgain) {
    std::vector<unsigned char> sent(5 << 20), back(sent.size());
    for (int window = 0; window < 6; ++window) {
        cuda_->begin_window();
        std::vector<const void*> places;
        const size_t bytes = sent.size() / size_t(1 + window % 3) - 1;
        for (int part = 0; part < 4; ++part) {
            for (size_t i = 0; i < bytes; ++i) sent[i] = static_cast<unsigned char>(i * 31 + size_t(part * 7 + window));
            places.push_back(cuda_->bring(sent.data(), bytes));
        }
        for (int part = 0; part < 4; ++part) {
            for (size_t i = 0; i < bytes; ++i) sent[i] = static_cast<unsigned char>(i * 31 + size_t(part * 7 + window));
            std::fill(back.begin(), back.end(), 0);
            cuda_->take(places[size_t(part)], back.data(), bytes);
            ASSERT_TRUE(std::equal(sent.begin(), sent.begin() + int64_t(bytes), back.begin())) << window << ' ' << part;
            ASSERT_EQ(0u, reinterpret_cast<uintptr_t>(places[size_t(part)]) % 16);
        }
    }
}

TEST_F(LanePassTest, MemoryOfTheDevice) {
    std::vector<double> sent(70000, 1.5), back(sent.size());
    const auto memory = cuda_device_->allocate(sent.size() * 8);
    cuda_device_->copy_in(memory.get(), sent.data(), sent.size() * 8);
    cuda_device_->copy_out(back.data(), memory.get(), sent.size() * 8);
    EXPECT_EQ(sent, back);
    EXPECT_GT(cuda_device_->memory(), 0u);
    EXPECT_THROW(cuda_device_->allocate(uint64_t(1) << 50), std::exception);
}

}  // namespace
}  // namespace amalgam
