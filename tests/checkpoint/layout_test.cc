#include "src/checkpoint/layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "src/base/error.h"

namespace amalgam {
namespace {

std::vector<OutputTensor> bytes_tensors(const std::vector<int64_t>& sizes) {
    std::vector<OutputTensor> tensors;
    for (int64_t size : sizes) tensors.push_back({"t" + std::to_string(tensors.size()), Dtype::u8, {size}});
    return tensors;
}

/// How many tensors each file holds.
std::vector<int> counts(const OutputLayout& layout) {
    std::vector<int> result(layout.files.size());
    for (const OutputLayout::Place& place : layout.places) ++result[size_t(place.file)];
    return result;
}

uint64_t length_word(const std::string& header) {
    uint64_t length = 0;
    for (int byte = 7; byte >= 0; --byte) length = length << 8 | static_cast<unsigned char>(header[size_t(byte)]);
    return length;
}

TEST(Layout, OneFileByHand) {
    const std::vector<OutputTensor> tensors = {
        {"b", Dtype::bf16, {2, 3}}, {"a \"x\"", Dtype::f32, {}}, {"e", Dtype::f64, {0, 7}}};
    const OutputLayout layout = layout_output(tensors, 0);
    ASSERT_EQ(layout.files.size(), 1u);
    const std::string json =
        R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},)"
        R"("a \"x\"":{"dtype":"F32","shape":[],"data_offsets":[12,16]},)"
        R"("e":{"dtype":"F64","shape":[0,7],"data_offsets":[16,16]}})";
    EXPECT_EQ(layout.files[0].name, "model.safetensors");
    EXPECT_EQ(layout.files[0].header.substr(8), json + std::string(4096 - 8 - json.size(), ' '));
    EXPECT_EQ(length_word(layout.files[0].header), 4088u);
    EXPECT_EQ(layout.files[0].data_begin, 4096u);
    EXPECT_EQ(layout.files[0].bytes, 4112u);
    EXPECT_EQ(layout.tensor_bytes, 16u);
    EXPECT_EQ(layout.file_bytes, 4112u);
    EXPECT_EQ(layout.places[1].begin, 4108u);
    EXPECT_EQ(layout.places[2].begin, 4112u);
    EXPECT_EQ(layout.index, "");
}

TEST(Layout, IndexByHand) {
    const OutputLayout layout = layout_output(bytes_tensors({10, 10, 5}), 20);
    ASSERT_EQ(layout.files.size(), 2u);
    EXPECT_EQ(layout.files[0].name, "model-00001-of-00002.safetensors");
    EXPECT_EQ(layout.files[1].name, "model-00002-of-00002.safetensors");
    EXPECT_EQ(layout.index, R"({
  "metadata": {
    "total_size": 25
  },
  "weight_map": {
    "t0": "model-00001-of-00002.safetensors",
    "t1": "model-00001-of-00002.safetensors",
    "t2": "model-00002-of-00002.safetensors"
  }
}
)");
}

TEST(Layout, FilesAreFilledGreedily) {
    EXPECT_EQ(counts(layout_output(bytes_tensors({4, 6, 1}), 10)), (std::vector<int>{2, 1}))
        << "what fits exactly stays";
    EXPECT_EQ(counts(layout_output(bytes_tensors({4, 7, 1}), 10)), (std::vector<int>{1, 2}));
    EXPECT_EQ(counts(layout_output(bytes_tensors({1, 50, 1, 1}), 10)), (std::vector<int>{1, 1, 2}))
        << "too large: alone";
    EXPECT_EQ(counts(layout_output(bytes_tensors({50, 0, 50}), 10)), (std::vector<int>{1, 1, 1}));
    EXPECT_EQ(counts(layout_output(bytes_tensors({0, 0, 10, 0}), 10)), (std::vector<int>{4}))
        << "empty ones always fit";
    EXPECT_EQ(counts(layout_output(bytes_tensors({1, 1, 1}), 1)), (std::vector<int>{1, 1, 1}));
    EXPECT_EQ(counts(layout_output(bytes_tensors({1 << 30, 1 << 30}), 0)), (std::vector<int>{2}));
}

TEST(Layout, NoTensorsMakeOneEmptyFile) {
    const OutputLayout layout = layout_output({}, 5);
    ASSERT_EQ(layout.files.size(), 1u);
    EXPECT_EQ(layout.files[0].bytes, 4096u);
    EXPECT_EQ(nlohmann::json::parse(layout.files[0].header.substr(8)).dump(), R"({"__metadata__":{"format":"pt"}})");
}

TEST(Layout, HeaderThatFillsAPageExactly) {
    // The JSON of one tensor with an empty name has 31 + 48 + 1 + ... bytes; a name of the right length fills the page.
    const size_t rest = std::string(layout_output(std::vector<OutputTensor>{{"", Dtype::u8, {1}}}, 0).files[0].header)
                            .find_last_of('}') +
                        1;
    const OutputLayout full =
        layout_output(std::vector<OutputTensor>{{std::string(4096 - rest, 'n'), Dtype::u8, {1}}}, 0);
    EXPECT_EQ(full.files[0].data_begin, 4096u);
    EXPECT_EQ(full.files[0].header.back(), '}');
    const OutputLayout over =
        layout_output(std::vector<OutputTensor>{{std::string(4097 - rest, 'n'), Dtype::u8, {1}}}, 0);
    EXPECT_EQ(over.files[0].data_begin, 8192u);
}

TEST(Layout, RandomTensorsHoldTheFormat) {
    std::mt19937_64 random(7);
    for (int round = 0; round < 200; ++round) {
        std::vector<OutputTensor> tensors;
        const int count = int(random() % 40);
        for (int i = 0; i < count; ++i) {
            OutputTensor tensor{"layer." + std::to_string(i) + (random() % 4 ? "" : "\n\\\u00e9"), Dtype::f32, {}};
            const Dtype dtypes[] = {Dtype::boolean, Dtype::bf16, Dtype::f32, Dtype::i64, Dtype::f8_e4m3};
            tensor.dtype = dtypes[random() % 5];
            for (int d = int(random() % 4); d > 0; --d) tensor.shape.push_back(int64_t(random() % 30));
            tensors.push_back(tensor);
        }
        const uint64_t limit = random() % 3 ? 1 + random() % 20000 : 0;
        const OutputLayout layout = layout_output(tensors, limit);
        // Walk the files as a reader would, with a JSON parser of its own, and compare with what was asked for.
        size_t next = 0;
        uint64_t total = 0, previous = 0;
        for (size_t f = 0; f < layout.files.size(); ++f) {
            const OutputLayout::File& file = layout.files[f];
            ASSERT_EQ(file.header.size(), file.data_begin);
            ASSERT_EQ(file.data_begin % 4096, 0u);
            ASSERT_EQ(length_word(file.header), file.data_begin - 8);
            const auto json = nlohmann::ordered_json::parse(file.header.substr(8));
            ASSERT_EQ(json["__metadata__"]["format"], "pt");
            uint64_t offset = 0;
            for (const auto& [name, entry] : json.items()) {
                if (name == "__metadata__") continue;
                ASSERT_EQ(name, tensors[next].name);
                ASSERT_EQ(entry["shape"].get<std::vector<int64_t>>(), tensors[next].shape);
                ASSERT_EQ(entry["dtype"], info(tensors[next].dtype).name);
                ASSERT_EQ(entry["data_offsets"][0], offset);
                ASSERT_EQ(layout.places[next].file, int(f));
                ASSERT_EQ(layout.places[next].begin, file.data_begin + offset);
                int64_t elements = 1;
                for (int64_t dimension : tensors[next].shape) elements *= dimension;
                if (limit && offset == 0 && f > 0) {
                    ASSERT_GT(previous + uint64_t(elements * bytes_of(tensors[next].dtype)), limit)
                        << "closed too early";
                }
                offset += uint64_t(elements * bytes_of(tensors[next].dtype));
                ASSERT_EQ(entry["data_offsets"][1], offset);
                if (!layout.index.empty()) {
                    ASSERT_EQ(nlohmann::json::parse(layout.index)["weight_map"][name], file.name);
                }
                ++next;
            }
            ASSERT_EQ(file.bytes, file.data_begin + offset);
            if (limit && counts(layout)[f] > 1) {
                ASSERT_LE(offset, limit);
            }
            previous = offset;
            total += offset;
        }
        ASSERT_EQ(next, tensors.size());
        ASSERT_EQ(total, layout.tensor_bytes);
    }
}

/// Seconds of processor time that a layout of `count` tensors takes; the machine may be busy with other things.
double processor_seconds(int count) {
    std::vector<OutputTensor> tensors;
    for (int i = 0; i < count; ++i)
        tensors.push_back(
            {"model.layers." + std::to_string(i / 9) + ".weight." + std::to_string(i % 9), Dtype::bf16, {64, 64}});
    const std::clock_t start = std::clock();
    const OutputLayout layout = layout_output(tensors, 200'000'000);
    const double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;
    EXPECT_EQ(layout.files.size(), size_t(count + 24'413) / 24'414) << "24,414 tensors of 8,192 bytes fit 200 MB";
    return seconds;
}

TEST(Layout, TimeIsLinearInTheNumberOfTensors) {
    const double few = std::max(processor_seconds(3'000), processor_seconds(3'000));
    EXPECT_LT(processor_seconds(60'000), 100 * few)
        << "20 times as many; a quadratic step would cost 400 times as much";
}

void expect_error(const std::vector<OutputTensor>& tensors, const std::string& part) {
    try {
        layout_output(tensors, 0);
        ADD_FAILURE() << "no error: " << part;
    } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
}

TEST(Layout, RefusesWhatCannotBeWritten) {
    expect_error({{"a", Dtype::u8, {1}}, {"a", Dtype::u8, {1}}}, "twice");
    expect_error({{"__metadata__", Dtype::u8, {1}}}, "__metadata__");
    expect_error({{"a\xff", Dtype::u8, {1}}}, "UTF-8");
    expect_error({{"a", Dtype::f4, {3}}}, "whole number of bytes");
    expect_error({{"a", Dtype::u8, {-1}}}, "negative");
    expect_error({{"a", Dtype::f32, {int64_t(1) << 40, int64_t(1) << 40}}}, "2^63");
    expect_error({{"a", Dtype::u8, {int64_t(1) << 59}},
                  {"b", Dtype::u8, {int64_t(1) << 59}},
                  {"c", Dtype::u8, {int64_t(1) << 59}},
                  {"d", Dtype::u8, {int64_t(1) << 59}},
                  {"e", Dtype::u8, {int64_t(1) << 59}},
                  {"f", Dtype::u8, {int64_t(1) << 59}},
                  {"g", Dtype::u8, {int64_t(1) << 59}},
                  {"h", Dtype::u8, {int64_t(1) << 59}}},
                 "2^62");
    EXPECT_NO_THROW(layout_output(
        std::vector<OutputTensor>{{"a", Dtype::f4, {4}}, {"b", Dtype::f32, {int64_t(1) << 62, 0, int64_t(1) << 62}}},
        0));
}

TEST(Layout, HeaderBeyondTheFormatsLimitNamesTheRemedy) {
    std::vector<OutputTensor> tensors;
    for (int i = 0; i < 110; ++i) tensors.push_back({std::to_string(i) + std::string(1'000'000, 'n'), Dtype::u8, {1}});
    expect_error(tensors, "smaller shard size");
    EXPECT_EQ(layout_output(tensors, 60).files.size(), 2u);
}

}  // namespace
}  // namespace amalgam
