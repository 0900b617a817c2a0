#include "src/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "src/base/error.h"
#include "tests/base/memory_files.h"
#include "tests/base/temporary_folder.h"
#include "tests/checkpoint/small_checkpoint.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;
using testing::ThrowsMessage;

std::string slurp(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

void run_script(const std::string& script, const std::string& arguments) {
    const std::string command = "python3 " AMALGAM_SOURCE_DIR "/tests/checkpoint/" + script + " " + arguments;
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
}

/// Lines of cells.
std::vector<std::vector<std::string>> table(const std::string& path) {
    std::vector<std::vector<std::string>> rows;
    std::istringstream lines(slurp(path));
    for (std::string line; std::getline(lines, line);) {
        std::vector<std::string>& cells = rows.emplace_back();
        std::istringstream rest(line);
        for (std::string cell; std::getline(rest, cell, '\t');) cells.push_back(cell);
    }
    return rows;
}

std::string hex(const std::string& text) {
    std::string result;
    for (unsigned char c : text) result += fmt::format("{:02x}", c);
    return result;
}

TEST(MalformedCorpus, EveryFileGetsItsVerdict) {
    const TemporaryFolder folder;
    ASSERT_NO_FATAL_FAILURE(run_script("make_malformed.py", folder.path()));
    const auto files = disk_files();
    const auto verdicts = table(folder / "verdicts.tsv");
    EXPECT_GT(verdicts.size(), 200u);
    for (const auto& row : verdicts) {
        ASSERT_GE(row.size(), 2u);
        const std::string path = folder / row[0];
        const std::string message = row.size() > 2 ? row[2] : "";
        SCOPED_TRACE(row[0]);
        try {
            const SafetensorsHeader header = read_safetensors_header(*files, path);
            EXPECT_NE(row[1], "reject");
            if (row[1] == "warn")
                EXPECT_THAT(header.warnings, ElementsAre(HasSubstr(message)));
            else
                EXPECT_THAT(header.warnings, IsEmpty());
        } catch (const Error& error) {
            EXPECT_EQ(row[1], "reject") << error.what();
            EXPECT_THAT(error.what(), AllOf(StartsWith(path + ": not a valid safetensors file: "), HasSubstr(message)));
            EXPECT_LT(std::string(error.what()).size(), 4000u);
        }
    }
}

/// Where the data end is the last thing looked at: every shorter file must be found out, none may crash.
TEST(MalformedCorpus, EveryTruncationIsRefused) {
    const std::string whole = small_safetensors({{"a", "F32", {3}}, {"b", "I8", {2, 2}}});
    MemoryFiles files;
    files.contents["whole"] = whole;
    EXPECT_EQ(read_safetensors_header(files, "whole").tensors.size(), 2u);
    for (size_t size = 0; size < whole.size(); ++size) {
        files.contents["cut"] = whole.substr(0, size);
        EXPECT_THAT([&] { read_safetensors_header(files, "cut"); },
                    ThrowsMessage<Error>(StartsWith("cut: not a valid")))
            << size;
    }
}

TEST(RandomFiles, AreReadAsByAnIndependentReader) {
    const TemporaryFolder folder;
    ASSERT_NO_FATAL_FAILURE(run_script("random_files.py", folder.path() + " 60 20240607"));
    const auto files = disk_files();
    std::vector<std::vector<std::string>> tensors;
    std::vector<std::vector<std::string>> metadata;
    std::set<std::string> names;
    for (const std::string& name : files->list(folder.path()))
        if (name.ends_with(".safetensors")) names.insert(name);
    ASSERT_EQ(names.size(), 60u);
    for (const std::string& name : names) {
        SafetensorsHeader header = read_safetensors_header(*files, folder / name);
        EXPECT_TRUE(std::is_sorted(header.tensors.begin(), header.tensors.end(),
                                   [](const auto& a, const auto& b) { return a.begin < b.begin; }));
        std::sort(header.tensors.begin(), header.tensors.end(),
                  [](const auto& a, const auto& b) { return a.name < b.name; });
        for (const TensorInfo& tensor : header.tensors)
            tensors.push_back({name, hex(tensor.name), std::string(info(tensor.dtype).name), shape_text(tensor.shape),
                               std::to_string(tensor.begin), std::to_string(tensor.end)});
        for (const auto& [key, value] : header.metadata) metadata.push_back({name, hex(key), hex(value)});
        EXPECT_EQ(std::filesystem::file_size(folder / name), header.file_bytes);
    }
    const auto by_file = [](const auto& a, const auto& b) { return a[0] < b[0]; };
    auto expected = table(folder / "expected.tsv");
    std::stable_sort(expected.begin(), expected.end(), by_file);
    EXPECT_EQ(tensors, expected);
    auto expected_metadata = table(folder / "metadata.tsv");
    for (auto& row : expected_metadata) row.resize(3);
    std::stable_sort(expected_metadata.begin(), expected_metadata.end(), by_file);
    EXPECT_EQ(metadata, expected_metadata);
    EXPECT_GT(tensors.size(), 100u);
    EXPECT_GT(metadata.size(), 20u);
}

TEST(SafetensorsHeader, TellsPlacesFromTheStartOfTheFile) {
    const std::string text =
        R"({"b":{"dtype":"BF16","shape":[3],"data_offsets":[4,10]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})";
    const SafetensorsHeader header = parse_safetensors_header(text, 8 + text.size() + 10);
    ASSERT_EQ(header.tensors.size(), 2u);
    const uint64_t data = 8 + text.size();
    EXPECT_EQ(header.data_begin, data);
    EXPECT_EQ(header.tensors[0].name, "a");
    EXPECT_EQ(header.tensors[0].begin, data);
    EXPECT_EQ(header.tensors[0].elements(), 1);
    EXPECT_EQ(header.tensors[1].begin, data + 4);
    EXPECT_EQ(header.tensors[1].bytes(), 6u);
    EXPECT_EQ(header.tensors[1].dtype, Dtype::bf16);
    EXPECT_THAT(header.tensors[1].shape, ElementsAre(3));
}

TEST(SafetensorsHeader, RefusesAFileSmallerThanItsHeader) {
    EXPECT_THAT([] { parse_safetensors_header("{}", 9); }, ThrowsMessage<Error>(HasSubstr("truncated")));
    EXPECT_THAT([] { parse_safetensors_header("{}", 0); }, ThrowsMessage<Error>(HasSubstr("truncated")));
    EXPECT_THAT([] { parse_safetensors_header("", 8); }, ThrowsMessage<Error>(HasSubstr("JSON")));
}

TEST(SafetensorsHeader, ErrorsNeverShowRawBytes) {
    const std::string text = R"({"\u001b[2J\u0000":1})";
    EXPECT_THAT([&] { parse_safetensors_header(text, 100); }, ThrowsMessage<Error>(HasSubstr("\\x1b[2J\\x00")));
}

TEST(SafetensorsHeader, HashCoversTheHeaderAndNothingElse) {
    MemoryFiles files;
    const std::string bytes = small_safetensors({{"a", "F32", {3}}});
    files.contents["a"] = bytes;
    const uint64_t hash = read_safetensors_header(files, "a").header_hash;
    EXPECT_EQ(hash, XXH64(bytes.data(), bytes.size() - 12, 0));
    files.contents["a"].back() = 'x';
    EXPECT_EQ(read_safetensors_header(files, "a").header_hash, hash);
    files.contents["a"] = small_safetensors({{"b", "F32", {3}}});
    EXPECT_NE(read_safetensors_header(files, "a").header_hash, hash);
}

TEST(SafetensorsHeader, NamesThePathOfWhatIsNoFile) {
    MemoryFiles files;
    files.contents["folder/a"] = "";
    EXPECT_THAT([&] { read_safetensors_header(files, "nothing"); },
                ThrowsMessage<Error>("nothing: there is no such file"));
    EXPECT_THAT([&] { read_safetensors_header(files, "folder"); },
                ThrowsMessage<Error>("folder: is a folder, not a safetensors file"));
}

/// A rank may read for all others: what it asked for must suffice.
TEST(SafetensorsHeader, IsReadFromARecording) {
    MemoryFiles source;
    source.contents["a"] = small_safetensors({{"x", "F32", {3}}});
    RecordingFiles recording(source);
    const SafetensorsHeader first = read_safetensors_header(recording, "a");
    const auto replay = replay_files(recording.recording());
    const SafetensorsHeader second = read_safetensors_header(*replay, "a");
    EXPECT_EQ(first.header_hash, second.header_hash);
    EXPECT_EQ(first.tensors.at(0).begin, second.tensors.at(0).begin);
}

TEST(TensorInfo, CountsElements) {
    const auto elements = [](std::vector<int64_t> shape) {
        return TensorInfo{.name = "", .shape = std::move(shape)}.elements();
    };
    EXPECT_EQ(elements({}), 1);
    EXPECT_EQ(elements({3, 4}), 12);
    EXPECT_EQ(elements({int64_t(1) << 62, 4, 0}), 0);
    EXPECT_EQ(shape_text({}), "[]");
    EXPECT_EQ(shape_text({32000, 4096}), "[32000, 4096]");
}

}  // namespace
}  // namespace amalgam
