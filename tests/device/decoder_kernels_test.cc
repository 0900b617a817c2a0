// Kernels of a decoder's forward pass against plain loops in double.
#include <gmock/gmock.h>

#include <cmath>
#include <cstdlib>
#include <random>

#include "kernels/cuda/decoder.h"
#include "kernels/element.h"
#include "src/device/cuda_products.h"
#include "src/device/cuda_queue.h"
#include "src/device/device.h"
#include "tests/device/gpu_test.h"

namespace amalgam {
namespace {

std::vector<float> random_values(int64_t count, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(generator);
    return values;
}

std::vector<uint16_t> halves(const std::vector<float>& values) {
    std::vector<uint16_t> result;
    for (float value : values) result.push_back(bf16_from_float(value));
    return result;
}

/// Arrays on a GPU.
class DecoderKernels : public GpuTest {
  protected:
    void SetUp() override {
        GpuTest::SetUp();
        if (!has_gpu()) return;
        work_ = std::make_unique<CudaQueue>(open_gpu(0, 1).context);
    }
    void TearDown() override {
        if (work_) work_->finish();
        buffers_.clear();
        work_.reset();
    }
    template <class T>
    T* room(int64_t count) {
        buffers_.push_back(work_->context().pool->take(uint64_t(count) * sizeof(T)));
        return static_cast<T*>(buffers_.back().data());
    }
    template <class T>
    T* bring(const std::vector<T>& values) {
        T* place = room<T>(int64_t(values.size()));
        work_->copy_in(place, values.data(), values.size() * sizeof(T));
        return place;
    }
    template <class T>
    std::vector<T> take(const T* from, int64_t count) {
        std::vector<T> values(static_cast<size_t>(count));
        work_->copy_out(values.data(), from, values.size() * sizeof(T));
        return values;
    }
    /// As floats, of either type of result.
    std::vector<float> take_results(const void* from, int64_t count, bool half) {
        if (!half) return take(static_cast<const float*>(from), count);
        std::vector<float> values;
        for (uint16_t value : take(static_cast<const uint16_t*>(from), count)) values.push_back(float_from_bf16(value));
        return values;
    }
    cuda::Queue queue() { return work_->kernels(); }

    std::unique_ptr<CudaQueue> work_;
    std::vector<DeviceBuffer> buffers_;
};

/// What a result may be off, when it is rounded to bfloat16 or not.
double margin(double wanted, bool half) { return (half ? std::abs(wanted) / 250 : 0) + 1e-5 * (1 + std::abs(wanted)); }

TEST_F(DecoderKernels, RowsOfATableByNumber) {
    const int64_t width = 37;
    const std::vector<float> table = random_values(11 * width, 1);
    const std::vector<int32_t> numbers = {10, 0, 3, 3, 7};
    float* to = room<float>(5 * width);
    for (bool half : {false, true}) {
        const void* place = half ? static_cast<void*>(bring(halves(table))) : bring(table);
        ASSERT_EQ(
            cuda::gather_rows(queue(), place, half ? Dtype::bf16 : Dtype::f32, 1.5f, bring(numbers), 5, width, to), 0);
        const std::vector<float> found = take(to, 5 * width);
        for (int64_t row = 0; row < 5; ++row)
            for (int64_t c = 0; c < width; ++c) {
                const float value = table[size_t(numbers[size_t(row)] * width + c)];
                EXPECT_EQ(found[size_t(row * width + c)],
                          1.5f * (half ? float_from_bf16(bf16_from_float(value)) : value));
            }
    }
}

TEST_F(DecoderKernels, NormsOfRowsAndOfHeads) {
    struct Case {
        int64_t rows, parts, width, stride;
        bool half;
    };
    for (const Case& each : {Case{3, 1, 1, 1, false}, Case{4, 1, 301, 301, false}, Case{2, 1, 96, 96, true},
                             Case{5, 3, 10, 45, false}, Case{1, 1, 1000, 1000, true}}) {
        const auto from = random_values(each.rows * each.stride, 2), weights = random_values(each.width, 3);
        float* place = bring(from);
        void* to = each.half ? static_cast<void*>(room<uint16_t>(each.rows * each.stride)) : place;
        ASSERT_EQ(
            cuda::rms_norm(queue(), {place, each.rows, each.parts, each.width, each.stride, bring(weights), 0.3f, to},
                           each.half),
            0);
        const std::vector<float> found = take_results(to, each.rows * each.stride, each.half);
        for (int64_t row = 0; row < each.rows; ++row)
            for (int64_t at = 0; at < each.stride; ++at) {
                const auto index = size_t(row * each.stride + at);
                if (at >= each.parts * each.width) {
                    EXPECT_TRUE(each.half || found[index] == from[index]) << at;
                    continue;
                }
                const int64_t begin = row * each.stride + at / each.width * each.width;
                double squares = 0;
                for (int64_t c = 0; c < each.width; ++c)
                    squares += double(from[size_t(begin + c)]) * from[size_t(begin + c)];
                const double wanted =
                    from[index] / std::sqrt(squares / double(each.width) + 0.3f) * weights[size_t(at % each.width)];
                ASSERT_NEAR(found[index], wanted, margin(wanted, each.half)) << each.width << " " << at;
            }
    }
}

TEST_F(DecoderKernels, SumsAndBiases) {
    const auto x = random_values(7 * 43, 4), y = random_values(7 * 43, 5), bias = random_values(43, 6);
    float* place = bring(x);
    ASSERT_EQ(cuda::add_values(queue(), place, bring(y), 7 * 43), 0);
    ASSERT_EQ(cuda::add_bias(queue(), place, 7, 43, bring(bias)), 0);
    const std::vector<float> found = take(place, 7 * 43);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(found[i], x[i] + y[i] + bias[i % 43]);
}

TEST_F(DecoderKernels, HeadsAreTurnedByTheAnglesOfTheirPositions) {
    const int64_t heads = 3, stride = 50, positions = 9;
    for (int64_t head_dim : {2, 6, 14}) {
        const int64_t half = head_dim / 2;
        const auto values = random_values(4 * stride, 7);
        const auto cosines = random_values(positions * half, 8), sines = random_values(positions * half, 9);
        const std::vector<int32_t> at = {8, 0, 5, 5};
        float* place = bring(values);
        ASSERT_EQ(cuda::turn_heads(queue(), place, 4, stride, heads, head_dim, bring(at), bring(cosines), bring(sines)),
                  0);
        const std::vector<float> found = take(place, 4 * stride);
        for (int64_t row = 0; row < 4; ++row)
            for (int64_t c = 0; c < stride; ++c) {
                const auto index = size_t(row * stride + c);
                const int64_t within = c % head_dim, pair = within % half;
                const double cosine = cosines[size_t(at[size_t(row)] * half + pair)];
                const double sine = sines[size_t(at[size_t(row)] * half + pair)];
                double wanted = values[index];
                if (c < heads * head_dim)
                    wanted = within < half ? values[index] * cosine - values[index + size_t(half)] * sine
                                           : values[index] * cosine + values[index - size_t(half)] * sine;
                ASSERT_NEAR(found[index], wanted, 1e-6 * (1 + std::abs(wanted)));
            }
    }
}

TEST_F(DecoderKernels, RowsGoToTheirPlaces) {
    const auto from = random_values(3 * 20, 10);
    float* to = bring(std::vector<float>(6 * 13, -1));
    ASSERT_EQ(cuda::store_rows(queue(), bring(from) + 5, 3, 13, 20, bring(std::vector<int32_t>{4, 0, 2}), to), 0);
    const std::vector<float> found = take(to, 6 * 13);
    const int64_t source[] = {1, -1, 2, -1, 0, -1};
    for (size_t row = 0; row < 6; ++row)
        for (size_t c = 0; c < 13; ++c)
            EXPECT_EQ(found[row * 13 + c], source[row] < 0 ? -1 : from[size_t(source[row]) * 20 + 5 + c]);
}

TEST_F(DecoderKernels, GatedActivations) {
    const int64_t rows = 3, width = 301;
    auto gate_up = random_values(rows * 2 * width, 11);
    gate_up[0] = 100;
    gate_up[1] = -100;
    gate_up[2] = 0;
    for (bool gelu : {false, true})
        for (bool half : {false, true}) {
            void* to = room<float>(rows * width);
            ASSERT_EQ(cuda::gated(queue(), bring(gate_up), rows, width, gelu, half, to), 0);
            const std::vector<float> found = take_results(to, rows * width, half);
            for (int64_t row = 0; row < rows; ++row)
                for (int64_t c = 0; c < width; ++c) {
                    const double x = gate_up[size_t(row * 2 * width + c)],
                                 up = gate_up[size_t((row * 2 + 1) * width + c)];
                    const double active =
                        gelu ? x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)))
                             : x / (1 + std::exp(-x));
                    ASSERT_NEAR(found[size_t(row * width + c)], active * up, margin(active * up, half)) << x;
                }
        }
}

struct Shape {
    int64_t heads, kv_heads, head_dim, window;
    float cap;
    std::vector<int32_t> lengths;
};

/// Texts of several lengths, whose queries, keys and values stand in rows as products leave them.
class AttentionKernel : public DecoderKernels, public testing::WithParamInterface<Shape> {
  protected:
    void SetUp() override {
        DecoderKernels::SetUp();
        int32_t row = 0;
        for (int32_t length : shape.lengths) {
            begins.push_back(row);
            row += length;
        }
        rows = row;
        values = random_values(rows * stride, 12);
    }
    const float* row(int64_t number) const { return values.data() + number * stride; }
    double plain(int64_t begin, int64_t position, int64_t head, int64_t element) const {
        const int64_t kv_head = head / group, d = shape.head_dim;
        double top = 0, sum = 0;
        for (int64_t other = 0; other <= position; ++other) {
            if (shape.window > 0 && position - other >= shape.window) continue;
            const float* key = row(begin + other) + shape.heads * d + kv_head * d;
            double score = 0;
            for (int64_t c = 0; c < d; ++c) score += double(row(begin + position)[head * d + c]) * key[c];
            score *= scale;
            if (shape.cap > 0) score = shape.cap * std::tanh(score / shape.cap);
            const double share = std::exp(score);
            sum += share;
            top += share * key[shape.kv_heads * d + element];
        }
        return top / sum;
    }
    /// In pieces of so many tokens of each text, as decoding does; keys and values lie in their own rows then.
    std::vector<float> attended(int32_t piece, bool half) {
        const int64_t width = shape.heads * shape.head_dim, kv_width = shape.kv_heads * shape.head_dim;
        const float* from = bring(values);
        float* stored = room<float>(rows * 2 * kv_width);
        std::vector<int32_t> places;
        for (int32_t i = 0; i < rows; ++i) places.push_back(int32_t(rows) - 1 - i);
        // Texts back to front, so that rows of queries and of keys differ.
        for (size_t text = 0; text < begins.size(); ++text)
            for (int32_t i = 0; i < shape.lengths[text]; ++i)
                places[size_t(begins[text] + i)] = int32_t(rows) - begins[text] - shape.lengths[text] + i;
        EXPECT_EQ(cuda::store_rows(queue(), from + width, rows, 2 * kv_width, stride, bring(places), stored), 0);
        void* to = room<float>(rows * width);
        for (int32_t first = 0; first < *std::max_element(shape.lengths.begin(), shape.lengths.end()); first += piece) {
            std::vector<cuda::QueryTile> tiles;
            for (size_t text = 0; text < begins.size(); ++text) {
                const int32_t count = std::min(piece, shape.lengths[text] - first);
                for (int32_t begin = 0; begin < count * group; begin += cuda::tile_queries)
                    tiles.push_back({begins[text] + first, first, places[size_t(begins[text])], begin,
                                     std::min(begin + cuda::tile_queries, count * int32_t(group))});
            }
            cuda::AttentionArguments arguments;
            arguments.queries = from;
            arguments.keys = stored;
            arguments.values = stored + kv_width;
            arguments.query_stride = stride;
            arguments.key_stride = 2 * kv_width;
            arguments.to = to;
            arguments.tiles = bring(tiles);
            arguments.tile_count = int64_t(tiles.size());
            arguments.heads = int32_t(shape.heads);
            arguments.kv_heads = int32_t(shape.kv_heads);
            arguments.head_dim = int32_t(shape.head_dim);
            arguments.window = int32_t(shape.window);
            arguments.scale = scale;
            arguments.cap = shape.cap;
            EXPECT_EQ(cuda::attend(queue(), arguments, half), 0);
        }
        return take_results(to, rows * width, half);
    }

    const Shape shape = GetParam();
    const float scale = 0.37f;
    const int64_t group = shape.heads / shape.kv_heads;
    const int64_t stride = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    int64_t rows = 0;
    std::vector<int32_t> begins;
    std::vector<float> values;
};

TEST_P(AttentionKernel, EqualsPlainLoopsInPiecesOfAnySize) {
    const std::vector<float> whole = attended(1000, false), rounded = attended(1000, true);
    EXPECT_EQ(attended(1, false), whole);
    EXPECT_EQ(attended(7, false), whole);
    for (size_t text = 0; text < begins.size(); ++text)
        for (int64_t position = 0; position < shape.lengths[text]; ++position)
            for (int64_t head = 0; head < shape.heads; ++head)
                for (int64_t c = 0; c < shape.head_dim; ++c) {
                    const double wanted = plain(begins[text], position, head, c);
                    const auto index = size_t(((begins[text] + position) * shape.heads + head) * shape.head_dim + c);
                    ASSERT_NEAR(whole[index], wanted, 1e-5) << position << " " << head << " " << c;
                    ASSERT_EQ(rounded[index], float_from_bf16(bf16_from_float(whole[index])));
                }
}
INSTANTIATE_TEST_SUITE_P(Shapes, AttentionKernel,
                         testing::Values(Shape{4, 2, 24, 0, 0, {21, 1, 40}}, Shape{1, 1, 1, 0, 0, {1}},
                                         Shape{3, 1, 64, 0, 0, {5, 66}}, Shape{6, 2, 10, 9, 0, {70, 3}},
                                         Shape{2, 2, 34, 33, 0, {65}}, Shape{2, 1, 16, 0, 2.5f, {40, 7}},
                                         Shape{2, 1, 15, 1, 0, {35}}, Shape{20, 1, 66, 0, 0, {9, 2}},
                                         Shape{2, 1, 128, 40, 0, {45}}, Shape{1, 1, 256, 0, 3, {35}},
                                         Shape{2, 2, 130, 0, 0, {33, 1}}));

/// What the kernel gathers over some tiles of the vocabulary.
class LogitKernel : public DecoderKernels {
  protected:
    std::vector<cuda::LogitState> judged(const std::vector<float>& logits, int64_t rows, int64_t vocabulary,
                                         int64_t tile, float cap, const std::vector<int32_t>& targets) {
        auto* states = room<cuda::LogitState>(rows);
        const int32_t* wanted = targets.empty() ? nullptr : bring(targets);
        for (int64_t first = 0; first < vocabulary; first += tile) {
            const int64_t count = std::min(tile, vocabulary - first);
            std::vector<float> part;
            for (int64_t row = 0; row < rows; ++row)
                part.insert(part.end(), logits.begin() + row * vocabulary + first,
                            logits.begin() + row * vocabulary + first + count);
            EXPECT_EQ(cuda::judge_logits(queue(), bring(part), rows, first, count, cap, wanted, states), 0);
        }
        return take(states, rows);
    }
};

TEST_F(LogitKernel, LikelihoodsAndTheFirstOfTheLargest) {
    const int64_t rows = 6, vocabulary = 317;
    auto logits = random_values(rows * vocabulary, 13);
    for (float& logit : logits) logit *= 4;
    std::vector<int32_t> targets = {0, 316, 100, 7, 200, 150};
    // Equal peaks within a tile, in two tiles, at both ends.
    for (int64_t place : {90, 50}) logits[size_t(vocabulary + place)] = 40;
    for (int64_t place : {300, 20}) logits[size_t(2 * vocabulary + place)] = 40;
    logits[size_t(3 * vocabulary)] = logits[size_t(4 * vocabulary - 1)] = 40;
    logits[size_t(4 * vocabulary + 5)] = -1e30f;
    for (float cap : {0.0f, 30.0f})
        for (int64_t tile : {400, 128, 19, 1}) {
            const auto states = judged(logits, rows, vocabulary, tile, cap, targets);
            for (int64_t row = 0; row < rows; ++row) {
                const cuda::LogitState& state = states[size_t(row)];
                std::vector<double> own;
                for (int64_t i = 0; i < vocabulary; ++i) {
                    const double logit = logits[size_t(row * vocabulary + i)];
                    own.push_back(cap > 0 ? cap * std::tanh(logit / cap) : logit);
                }
                const auto best = std::max_element(own.begin(), own.end());
                double sum = 0;
                for (double logit : own) sum += std::exp(logit);
                EXPECT_EQ(state.best, best - own.begin()) << row << " " << tile;
                EXPECT_NEAR(state.largest, *best, 1e-5);
                EXPECT_NEAR(state.target - state.largest - std::log(state.sum),
                            own[size_t(targets[size_t(row)])] - std::log(sum), 1e-5);
            }
        }
}

TEST_F(LogitKernel, WhatIsNotFiniteIsSeen) {
    const int64_t vocabulary = 150;
    for (float bad : {NAN, INFINITY})
        for (int64_t place : {0, 77, 149}) {
            auto logits = random_values(2 * vocabulary, 14);
            logits[size_t(vocabulary + place)] = bad;
            const auto states = judged(logits, 2, vocabulary, 64, 0, {});
            EXPECT_TRUE(std::isfinite(states[0].sum));
            EXPECT_FALSE(std::isfinite(states[1].sum)) << bad << " at " << place;
        }
}

TEST_F(DecoderKernels, ProductsWithMatricesOfRows) {
    CudaProducts products(*work_);
    const int64_t count = 5, rows = 37, columns = 70;
    const auto x = random_values(count * columns, 15), weights = random_values(rows * columns, 16);
    for (bool half : {false, true}) {
        float* y = room<float>(count * rows);
        const auto place = [&](const std::vector<float>& values) -> const void* {
            return half ? static_cast<const void*>(bring(halves(values))) : bring(values);
        };
        products.multiply(half, place(x), count, place(weights), rows, columns, y);
        const std::vector<float> found = take(y, count * rows);
        const auto factor = [&](float value) { return double(half ? float_from_bf16(bf16_from_float(value)) : value); };
        for (int64_t i = 0; i < count; ++i)
            for (int64_t j = 0; j < rows; ++j) {
                double sum = 0;
                for (int64_t k = 0; k < columns; ++k)
                    sum += factor(x[size_t(i * columns + k)]) * factor(weights[size_t(j * columns + k)]);
                ASSERT_NEAR(found[size_t(i * rows + j)], sum, 1e-4);
            }
    }
}

}  // namespace
}  // namespace amalgam
