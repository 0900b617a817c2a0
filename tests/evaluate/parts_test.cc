// The parts of a forward pass against plain loops in double.
#include <gmock/gmock.h>

#include <cmath>
#include <random>
#include <thread>

#include "kernels/vector_math.h"
#include "src/base/error.h"
#include "src/evaluate/attention.h"
#include "src/evaluate/checkpoint_reader.h"
#include "src/evaluate/gemm.h"
#include "src/evaluate/row_operations.h"
#include "tests/base/memory_files.h"
#include "tests/checkpoint/small_checkpoint.h"

namespace amalgam {
namespace {

using testing::HasSubstr;

std::vector<float> random_values(size_t count, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = normal(generator);
    return values;
}

TEST(VectorMath, ExpIsGoodToAFewUnits) {
    for (float x = -87; x < 88.7f; x += 0.00371f) {
        const double wanted = std::exp(double(x));
        ASSERT_NEAR(vector_exp(x) / wanted, 1, 3e-7) << x;
    }
    EXPECT_EQ(vector_exp(0), 1);
    EXPECT_EQ(vector_exp(-100), 0);
    EXPECT_EQ(vector_exp(-INFINITY), 0);
    EXPECT_EQ(vector_exp(100), INFINITY);
    EXPECT_TRUE(std::isnan(vector_exp(NAN)));
}

TEST(VectorMath, TanhIsGoodToAFewUnits) {
    for (float x = -12; x < 12; x += 0.00131f)
        ASSERT_NEAR(vector_tanh(x), std::tanh(double(x)), 4e-7 * std::abs(std::tanh(double(x))) + 1e-12) << x;
    EXPECT_EQ(vector_tanh(1e30f), 1);
    EXPECT_EQ(vector_tanh(-INFINITY), -1);
    EXPECT_TRUE(std::isnan(vector_tanh(NAN)));
}

TEST(RowPeak, FindsTheFirstLargestAndRefusesNan) {
    const std::vector<float> values = {1, 3, -INFINITY, 3, 2};
    const RowPeak peak = row_peak(values.data(), 5);
    EXPECT_EQ(peak.place, 1);
    EXPECT_EQ(peak.largest, 3);
    EXPECT_NEAR(peak.sum, 2 + std::exp(-2.0) + std::exp(-1.0), 1e-6);
    for (float bad : {NAN, INFINITY}) {
        std::vector<float> broken = random_values(100, 1);
        broken[77] = bad;
        EXPECT_EQ(row_peak(broken.data(), 100).place, -1);
    }
}

TEST(Matrix, ProductsOfAwkwardSizes) {
    struct Size {
        int64_t count, rows, columns;
    };
    for (const Size& size : {Size{1, 1, 1}, {1, 50, 7}, {3, 232, 96}, {257, 33, 65}, {13, 96, 257}, {256, 129, 1}}) {
        const auto weights = random_values(size_t(size.rows * size.columns), 2);
        const auto x = random_values(size_t(size.count * size.columns), 3);
        const Matrix matrix(size.rows, size.columns, weights.data(), Dtype::f32, Compute::float32);
        std::vector<float> y(size_t(size.count * size.rows), NAN);
        matrix.multiply(x.data(), size.count, y.data());
        for (int64_t i = 0; i < size.count; ++i)
            for (int64_t j = 0; j < size.rows; ++j) {
                double sum = 0;
                for (int64_t k = 0; k < size.columns; ++k)
                    sum += double(x[size_t(i * size.columns + k)]) * weights[size_t(j * size.columns + k)];
                ASSERT_NEAR(y[size_t(i * size.rows + j)], sum, 2e-5 * std::sqrt(double(size.columns) + 1));
            }
    }
}

TEST(Matrix, Bfloat16RoundsFactorsAndSumsInFloat) {
    if (!has_fast_bfloat16()) GTEST_SKIP() << "this processor does not multiply bfloat16";
    const int64_t count = 5, rows = 37, columns = 129;
    const auto weights = random_values(size_t(rows * columns), 4), x = random_values(size_t(count * columns), 5);
    std::vector<uint16_t> stored(weights.size()), rounded(x.size());
    round_to_bfloat16(weights.data(), int64_t(weights.size()), stored.data());
    round_to_bfloat16(x.data(), int64_t(x.size()), rounded.data());
    std::vector<float> from_float(size_t(count * rows)), from_half = from_float;
    Matrix(rows, columns, weights.data(), Dtype::f32, Compute::bfloat16).multiply(x.data(), count, from_float.data());
    Matrix(rows, columns, stored.data(), Dtype::bf16, Compute::bfloat16).multiply(x.data(), count, from_half.data());
    EXPECT_EQ(from_float, from_half);
    for (int64_t i = 0; i < count; ++i)
        for (int64_t j = 0; j < rows; ++j) {
            double sum = 0;
            for (int64_t k = 0; k < columns; ++k)
                sum += double(float_from_bf16(rounded[size_t(i * columns + k)])) *
                       float_from_bf16(stored[size_t(j * columns + k)]);
            ASSERT_NEAR(from_half[size_t(i * rows + j)], sum, 1e-4);
        }
}

TEST(Matrix, ThreadsOfManyKindsGetTheSameBits) {
    const int64_t count = 64, rows = 200, columns = 96;
    const auto weights = random_values(size_t(rows * columns), 6), x = random_values(size_t(count * columns), 7);
    const Matrix matrix(rows, columns, weights.data(), Dtype::f32, Compute::float32);
    std::vector<std::vector<float>> results(4, std::vector<float>(size_t(count * rows)));
    std::vector<std::thread> threads;
    for (auto& result : results) threads.emplace_back([&] { matrix.multiply(x.data(), count, result.data()); });
    for (std::thread& thread : threads) thread.join();
    for (const auto& result : results) EXPECT_EQ(result, results[0]);
}

TEST(Matrix, RowsHaveTheSameBitsInAnyCompany) {
    for (Compute compute : {Compute::float32, Compute::bfloat16}) {
        if (!rows_are_independent(compute) || (compute == Compute::bfloat16 && !has_fast_bfloat16())) continue;
        for (const auto& [rows, columns] :
             {std::pair<int64_t, int64_t>(50, 7), {96, 257}, {33, 65}, {300, 512}, {4096, 1024}, {100, 4097}}) {
            const int64_t most = 256;
            const auto weights = random_values(size_t(rows * columns), 6), x = random_values(size_t(most * columns), 7);
            const Matrix matrix(rows, columns, weights.data(), Dtype::f32, compute);
            std::vector<float> all(size_t(most * rows));
            matrix.multiply(x.data(), most, all.data());
            for (int64_t count : {1, 2, 3, 5, 7, 8, 15, 16, 25, 31, 32, 63, 200, 255}) {
                const int64_t first = (most - count) / 2;
                std::vector<float> some(size_t(count * rows));
                matrix.multiply(x.data() + first * columns, count, some.data());
                ASSERT_TRUE(std::equal(some.begin(), some.end(), all.begin() + first * rows))
                    << count << " rows of " << rows << " x " << columns;
            }
        }
    }
}

struct Shape {
    int64_t heads, kv_heads, head_dim, length, window;
    float cap;
};

class Attention : public testing::TestWithParam<Shape> {
  protected:
    void SetUp() override {
        config.heads = shape.heads;
        config.kv_heads = shape.kv_heads;
        config.head_dim = shape.head_dim;
        config.attention_scale = 0.37f;
        config.attention_softcap = shape.cap;
        stride = config.query_width() + 2 * config.kv_width();
        rows = random_values(size_t(shape.length * stride), 8);
    }
    const float* row(int64_t position) const { return rows.data() + position * stride; }
    double plain(int64_t position, int64_t head, int64_t element) const {
        const int64_t kv_head = head / (shape.heads / shape.kv_heads), d = shape.head_dim;
        double top = 0, sum = 0;
        for (int64_t other = 0; other <= position; ++other) {
            if (shape.window > 0 && position - other >= shape.window) continue;
            const float* key = row(other) + config.query_width() + kv_head * d;
            double score = 0;
            for (int64_t c = 0; c < d; ++c) score += double(row(position)[head * d + c]) * key[c];
            score *= config.attention_scale;
            if (shape.cap > 0) score = shape.cap * std::tanh(score / shape.cap);
            const double share = std::exp(score);
            sum += share;
            top += share * row(other)[config.query_width() + config.kv_width() + kv_head * d + element];
        }
        return top / sum;
    }
    /// In one piece, or a few positions at a time as decoding does.
    std::vector<float> attended(int64_t piece) {
        KeyValues stored;
        stored.reset(config, shape.length);
        AttentionScratch scratch;
        std::vector<float> result(size_t(shape.length * config.query_width()));
        for (int64_t first = 0; first < shape.length; first += piece) {
            const int64_t count = std::min(piece, shape.length - first);
            const float* keys = row(first) + config.query_width();
            stored.store(keys, keys + config.kv_width(), stride, first, count);
            attend(config, stored, shape.window, row(first), stride, first, count,
                   result.data() + first * config.query_width(), scratch);
        }
        return result;
    }

    const Shape shape = GetParam();
    DecoderConfig config;
    int64_t stride = 0;
    std::vector<float> rows;
};

TEST_P(Attention, EqualsPlainLoops) {
    for (int64_t piece : {shape.length, int64_t(1), int64_t(5)}) {
        const std::vector<float> result = attended(piece);
        for (int64_t position = 0; position < shape.length; ++position)
            for (int64_t head = 0; head < shape.heads; ++head)
                for (int64_t c = 0; c < shape.head_dim; ++c)
                    ASSERT_NEAR(result[size_t(position * config.query_width() + head * shape.head_dim + c)],
                                plain(position, head, c), 1e-5)
                        << position << " " << head << " " << c << " in pieces of " << piece;
    }
}
INSTANTIATE_TEST_SUITE_P(Shapes, Attention,
                         testing::Values(Shape{4, 2, 24, 21, 0, 0}, Shape{1, 1, 2, 1, 0, 0}, Shape{3, 1, 64, 70, 0, 0},
                                         Shape{6, 2, 10, 100, 9, 0}, Shape{2, 2, 34, 65, 33, 0},
                                         Shape{2, 1, 16, 40, 0, 2.5f}, Shape{2, 1, 16, 40, 1, 0}));

TEST(RmsNorm, DividesByTheRootOfTheMeanSquare) {
    const std::vector<float> from = {3, 4, 100, 0, 2, 100}, weights = {1, 2};
    std::vector<float> to(6, -1);
    rms_norm(from.data(), 2, 2, 3, weights.data(), 0.5f, to.data());
    EXPECT_FLOAT_EQ(to[0], float(3 / std::sqrt(13.0)));
    EXPECT_FLOAT_EQ(to[1], float(8 / std::sqrt(13.0)));
    EXPECT_EQ(to[2], -1);
    EXPECT_FLOAT_EQ(to[4], float(4 / std::sqrt(2.5)));
}

TEST(Gated, BothActivations) {
    const std::vector<float> row = {-1.5f, 0, 2, 5, 6, 7};
    std::vector<float> to(3);
    gated(row.data(), 1, 3, Activation::silu, to.data());
    EXPECT_NEAR(to[0], 5 * -1.5 / (1 + std::exp(1.5)), 1e-6);
    EXPECT_EQ(to[1], 0);
    EXPECT_NEAR(to[2], 7 * 2 / (1 + std::exp(-2.0)), 5e-6);
    gated(row.data(), 1, 3, Activation::gelu_tanh, to.data());
    // Within the error of the tanh form from the exact GELU.
    EXPECT_NEAR(to[0], 5 * -1.5 * 0.5 * std::erfc(1.5 / std::sqrt(2.0)), 2e-3);
    EXPECT_NEAR(to[2], 7 * 2 * 0.5 * std::erfc(-2 / std::sqrt(2.0)), 4e-3);
}

/// A model without values, as text: only its names and shapes matter.
class Folder {
  public:
    Folder() {
        files.contents["m/config.json"] =
            R"({"model_type": "llama", "vocab_size": 5, "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1,
                "num_attention_heads": 2, "max_position_embeddings": 8, "rms_norm_eps": 1e-5, "eos_token_id": 2})";
        tensors = {{"model.embed_tokens.weight", "BF16", {5, 4}},
                   {"lm_head.weight", "BF16", {5, 4}},
                   {"model.norm.weight", "BF16", {4}}};
        for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"})
            tensors.push_back({std::string("model.layers.0.self_attn.") + name + ".weight", "BF16", {4, 4}});
        for (const char* name : {"gate_proj", "up_proj"})
            tensors.push_back({std::string("model.layers.0.mlp.") + name + ".weight", "BF16", {6, 4}});
        tensors.push_back({"model.layers.0.mlp.down_proj.weight", "BF16", {4, 6}});
        for (const char* name : {"input_layernorm", "post_attention_layernorm"})
            tensors.push_back({std::string("model.layers.0.") + name + ".weight", "BF16", {4}});
    }
    std::string error(bool allow_unknown = false) {
        files.contents["m/model.safetensors"] = small_safetensors(tensors);
        try {
            open_decoder(files, "m", allow_unknown);
        } catch (const Error& caught) {
            return caught.what();
        }
        return "";
    }
    MemoryFiles files;
    std::vector<SmallTensor> tensors;
};

TEST(OpenDecoder, TensorsMustBeThoseOfTheConfig) {
    EXPECT_EQ(Folder().error(), "");
    Folder missing;
    missing.tensors.erase(missing.tensors.begin() + 3);
    EXPECT_THAT(missing.error(), HasSubstr("m: there is no tensor model.layers.0.self_attn.q_proj.weight"));
    Folder shape;
    shape.tensors[4].shape = {2, 4};
    EXPECT_THAT(shape.error(), HasSubstr("k_proj.weight is [2, 4], by config.json it should be [4, 4]"));
    Folder extra;
    extra.tensors.push_back({"model.layers.0.self_attn.q_proj.bias", "BF16", {4}});
    EXPECT_THAT(extra.error(), HasSubstr("q_proj.bias has no place"));
    EXPECT_EQ(extra.error(true), "");
    Folder integers;
    integers.tensors[2].dtype = "I32";
    EXPECT_NE(integers.error(), "");
    Folder end;
    end.files.contents["m/generation_config.json"] = R"({"eos_token_id": [2, 9]})";
    EXPECT_THAT(end.error(), HasSubstr("eos_token_id is 9"));
    Folder no_config;
    no_config.files.contents.erase("m/config.json");
    EXPECT_THAT(no_config.error(), HasSubstr("config.json"));
}

}  // namespace
}  // namespace amalgam
