#include "src/checkpoint/synthesize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numbers>
#include <sstream>

#include "kernels/element.h"
#include "src/base/error.h"
#include "src/base/files.h"
#include "src/checkpoint/checkpoint.h"
#include "src/checkpoint/normal_numbers.h"
#include "tests/base/temporary_folder.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string file_text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

/// Bytes of all tensors of a folder, by name, whatever the files.
std::map<std::string, std::string> tensor_bytes(const std::string& folder) {
    const std::unique_ptr<Files> files = disk_files();
    const Checkpoint checkpoint = open_checkpoint(*files, folder);
    std::map<std::string, std::string> result;
    for (const TensorInfo& tensor : checkpoint.tensors)
        result[tensor.name] = files->read(checkpoint.files[size_t(tensor.file)].path, tensor.begin, tensor.bytes());
    return result;
}

std::vector<double> values(Dtype dtype, const std::string& bytes) {
    std::vector<double> result(bytes.size() / size_t(bytes_of(dtype)));
    for (size_t i = 0; i < result.size(); ++i) {
        uint64_t bits = 0;
        std::memcpy(&bits, bytes.data() + i * size_t(bytes_of(dtype)), size_t(bytes_of(dtype)));
        switch (dtype) {
            case Dtype::bf16: result[i] = float_from_bf16(uint16_t(bits)); break;
            case Dtype::f16: result[i] = float_from_f16(uint16_t(bits)); break;
            case Dtype::f8_e4m3: result[i] = float_from_e4m3(uint8_t(bits)); break;
            case Dtype::f8_e5m2: result[i] = float_from_e5m2(uint8_t(bits)); break;
            case Dtype::f32: result[i] = float_of(uint32_t(bits)); break;
            default: result[i] = double_of(bits);
        }
    }
    return result;
}

double deviation(const std::vector<double>& numbers) {
    double sum = 0, squares = 0;
    for (double number : numbers) {
        sum += number;
        squares += number * number;
    }
    const double mean = sum / double(numbers.size());
    return std::sqrt(squares / double(numbers.size()) - mean * mean);
}

SynthesizeOptions small(const TemporaryFolder& folder, const std::string& name) {
    SynthesizeOptions options;
    options.folder = folder / name;
    options.experts = 2;
    options.hidden = 64;
    options.mlp = 200;
    options.layers = 2;
    options.vocabulary = 1500;  // 96,000 elements: more than one block
    options.heads = 4;
    options.kv_heads = 2;
    options.seed = 5;
    options.threads = 1;
    return options;
}

TEST(NormalNumbers, AreBoxMullerOfSplitMix) {
    // In double precision with libm, from the papers' formulas.
    const auto draw = [](uint64_t key, uint64_t counter) {
        uint64_t x = key + counter * 0x9E3779B97F4A7C15ull;
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
        x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
        return x ^ (x >> 31);
    };
    EXPECT_EQ(draw(0, 1), 0xE220A8397B1DCDAFull) << "first output of SplitMix64 seeded with 0";
    std::vector<float> numbers(random_block);
    for (int64_t block : {0, 1, 1'000'000'000}) {
        normal_numbers(42, block, random_block, numbers.data());
        for (int64_t pair = 0; pair < random_block / 2; ++pair) {
            const uint64_t word = draw(42, uint64_t(block * random_block / 2 + pair) + 1);
            const double radius = std::sqrt(-2 * std::log((double(word >> 41) + 0.5) / 8388608));
            const double turn =
                double(uint32_t(word) >> 7 << 7) / 4294967296.0 - 0.125;  // quarters lie around their axes
            const double angle = 2 * std::numbers::pi * turn;
            ASSERT_NEAR(numbers[size_t(pair)], radius * std::cos(angle), 3e-6);
            ASSERT_NEAR(numbers[size_t(pair + random_block / 2)], radius * std::sin(angle), 3e-6);
        }
    }
}

TEST(NormalNumbers, ShortBlocksAreBeginnings) {
    std::vector<float> whole(random_block), part(random_block + 1);
    std::vector<uint32_t> whole_words(random_block), part_words(random_block + 1);
    normal_numbers(9, 3, random_block, whole.data());
    random_words(9, 3, random_block, whole_words.data());
    for (int64_t count : {1, 255, 256, 257, 32767, 32768, 32769, 40000, 65535}) {
        part.assign(part.size(), 7);
        part_words.assign(part_words.size(), 7);
        normal_numbers(9, 3, count, part.data());
        random_words(9, 3, count, part_words.data());
        EXPECT_TRUE(std::equal(part.begin(), part.begin() + count, whole.begin())) << count;
        EXPECT_TRUE(std::equal(part_words.begin(), part_words.begin() + count, whole_words.begin())) << count;
        EXPECT_EQ(part[size_t(count)], 7) << count;
        EXPECT_EQ(part_words[size_t(count)], 7u) << count;
    }
}

TEST(Synthesize, MakesALlama) {
    TemporaryFolder folder;
    SynthesizeOptions options = small(folder, "a");
    const SynthesizeReport report = synthesize(options);
    EXPECT_EQ(report.folders,
              (std::vector<std::string>{folder / "a/base", folder / "a/expert-1", folder / "a/expert-2"}));
    EXPECT_EQ(report.parameters, 2 * 1500 * 64 + 64 + 2 * (2 * 64 + 3 * 64 * 200 + 2 * 64 * 64 + 2 * 32 * 64));
    for (const std::string& model : report.folders) {
        const Checkpoint checkpoint = open_checkpoint(*disk_files(), model);
        EXPECT_EQ(checkpoint.tensors.size(), 3u + 2 * 9);
        ASSERT_TRUE(checkpoint.find("model.layers.1.self_attn.k_proj.weight"));
        EXPECT_EQ(checkpoint.find("model.layers.1.self_attn.k_proj.weight")->shape, (std::vector<int64_t>{32, 64}));
        const auto config = nlohmann::json::parse(checkpoint.config);
        EXPECT_EQ(config["torch_dtype"], "bfloat16");
        EXPECT_EQ(config["num_hidden_layers"], 2);
        EXPECT_EQ(config["tie_word_embeddings"], false);
    }
    EXPECT_EQ(std::distance(fs::directory_iterator(folder / "a"), {}), 3) << "nothing partial is left";
    options.folder = folder / "tied";
    options.tied = true;
    options.experts = 0;
    synthesize(options);
    EXPECT_FALSE(open_checkpoint(*disk_files(), folder / "tied/base").find("lm_head.weight"));
}

TEST(Synthesize, NumbersAreAsAsked) {
    TemporaryFolder folder;
    for (const Dtype dtype : {Dtype::bf16, Dtype::f16, Dtype::f32, Dtype::f64, Dtype::f8_e4m3, Dtype::f8_e5m2}) {
        SynthesizeOptions options = small(folder, std::string(info(dtype).name));
        options.dtype = dtype;
        options.base_scale = 0.5;
        options.expert_scale = 0.25;
        options.untouched = 0.3;
        synthesize(options);
        const auto base = tensor_bytes(options.folder + "/base"), expert = tensor_bytes(options.folder + "/expert-1");
        const std::string name = "model.embed_tokens.weight";
        const std::vector<double> from = values(dtype, base.at(name)), to = values(dtype, expert.at(name));
        ASSERT_EQ(from.size(), 96'000u);
        EXPECT_NEAR(deviation(from), 0.5, 0.01) << info(dtype).name;
        std::vector<double> moved;
        for (size_t i = 0; i < from.size(); ++i)
            if (from[i] != to[i]) moved.push_back(to[i] - from[i]);
        if (dtype == Dtype::f32 || dtype == Dtype::f64) {
            EXPECT_NEAR(double(moved.size()) / double(from.size()), 0.7, 0.01);
            EXPECT_NEAR(deviation(moved), 0.25, 0.005);
        } else {
            EXPECT_LT(double(moved.size()) / double(from.size()), 0.71) << "rounding hides small differences";
            EXPECT_NEAR(deviation(moved), 0.25, 0.04) << info(dtype).name;
        }
        double norm_mean = 0;
        for (double value : values(dtype, base.at("model.norm.weight"))) norm_mean += value / 64;
        EXPECT_NEAR(norm_mean, 1, 0.3);
        // Streams of their own: no two tensors alike, no two experts alike.
        EXPECT_NE(base.at("model.layers.0.mlp.up_proj.weight"), base.at("model.layers.1.mlp.up_proj.weight"));
        EXPECT_NE(expert.at(name), tensor_bytes(options.folder + "/expert-2").at(name));
    }
}

TEST(Synthesize, DoublesUseTheirLowBits) {
    TemporaryFolder folder;
    SynthesizeOptions options = small(folder, "a");
    options.dtype = Dtype::f64;
    synthesize(options);
    int low = 0;
    const std::vector<double> numbers = values(Dtype::f64, tensor_bytes(folder / "a/expert-1").at("lm_head.weight"));
    for (double number : numbers) low += double(float(number)) != number;
    EXPECT_GT(low, int(numbers.size() * 9 / 10));
}

TEST(Synthesize, SameBytesForAnyThreadsShardsAndCompany) {
    TemporaryFolder folder;
    SynthesizeOptions options = small(folder, "one");
    options.untouched = 0.1;
    synthesize(options);
    SynthesizeOptions other = options;
    other.folder = folder / "many";
    other.threads = 3;
    synthesize(other);
    for (const char* model : {"base", "expert-1", "expert-2"})
        EXPECT_EQ(file_text(folder / "one/" + model + "/model.safetensors"),
                  file_text(folder / "many/" + model + "/model.safetensors"));
    other.folder = folder / "shards";
    other.experts = 1;
    other.shard_bytes = 100'000;
    synthesize(other);
    EXPECT_TRUE(fs::exists(folder / "shards/base/model.safetensors.index.json"));
    EXPECT_EQ(tensor_bytes(folder / "one/expert-1"), tensor_bytes(folder / "shards/expert-1"));
    other.folder = folder / "seed";
    other.seed = 6;
    synthesize(other);
    EXPECT_NE(tensor_bytes(folder / "one/base"), tensor_bytes(folder / "seed/base"));
}

TEST(Synthesize, FlatHasOneTensor) {
    TemporaryFolder folder;
    SynthesizeOptions options = small(folder, "a");
    options.flat_elements = 4096 * 33;
    uint64_t done = 0, all = 0;
    int calls = 0;
    synthesize(options, [&](uint64_t now, uint64_t total) {
        EXPECT_GT(now, done);
        done = now;
        all = total;
        ++calls;
    });
    EXPECT_EQ(done, 3u * 2 * 4096 * 33);
    EXPECT_EQ(all, done);
    EXPECT_EQ(calls, 3);
    const Checkpoint checkpoint = open_checkpoint(*disk_files(), folder / "a/expert-2");
    ASSERT_EQ(checkpoint.tensors.size(), 1u);
    EXPECT_EQ(checkpoint.tensors[0].shape, (std::vector<int64_t>{33, 4096}));
    EXPECT_EQ(checkpoint.config, "");
    options.folder = folder / "odd";
    options.flat_elements = 70'001;
    synthesize(options);
    EXPECT_EQ(open_checkpoint(*disk_files(), folder / "odd/base").tensors[0].shape, (std::vector<int64_t>{70'001}));
}

TEST(Synthesize, WhatIsThereIsLeftAlone) {
    TemporaryFolder folder;
    SynthesizeOptions options = small(folder, "a");
    folder.write("a/expert-2/precious", "x");
    folder.write("a/base.partial/model.safetensors", "left by a run that was killed");
    EXPECT_THAT([&] { synthesize(options); }, testing::ThrowsMessage<Error>(HasSubstr("expert-2 exists")));
    EXPECT_TRUE(fs::exists(folder / "a/expert-2/precious"));
    EXPECT_FALSE(fs::exists(folder / "a/base"));
    fs::remove_all(folder / "a/expert-2");
    EXPECT_EQ(synthesize(options).folders.size(), 3u);
    EXPECT_FALSE(fs::exists(folder / "a/base.partial"));
}

TEST(Synthesize, RefusesWithAReason) {
    TemporaryFolder folder;
    const auto expect = [&](const std::string& part, auto&& change) {
        SynthesizeOptions options = small(folder, "refused");
        change(options);
        EXPECT_THAT([&] { synthesize(options); }, testing::ThrowsMessage<Error>(HasSubstr(part)));
        EXPECT_FALSE(fs::exists(folder / "refused")) << part;
    };
    expect("heads", [](auto& options) { options.heads = 5; });
    expect("kv heads", [](auto& options) { options.kv_heads = 3; });
    expect("layers", [](auto& options) { options.layers = 0; });
    expect("I64", [](auto& options) { options.dtype = Dtype::i64; });
    expect("untouched", [](auto& options) { options.untouched = 1.5; });
    expect("finite", [](auto& options) { options.base_scale = NAN; });
    expect("experts", [](auto& options) { options.experts = -1; });
    expect("2^6", [](auto& options) { options.flat_elements = INT64_MAX; });
    const std::string file = folder.write("file", "x");
    expect("file", [&](auto& options) { options.folder = file; });
    // 2^58 bytes: more than any disk of ours has.
    SynthesizeOptions options = small(folder, "large");
    options.flat_elements = int64_t(1) << 57;
    EXPECT_THAT([&] { synthesize(options); }, testing::ThrowsMessage<Error>(HasSubstr("model.safetensors")));
}

}  // namespace
}  // namespace amalgam
