#include <gmock/gmock.h>

#include "src/base/error.h"
#include "src/checkpoint/checkpoint.h"
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

class OpenCheckpoint : public testing::Test {
  protected:
    std::string& file(const std::string& name) { return files_.contents["m/" + name]; }
    void index(const std::string& entries) {
        file("model.safetensors.index.json") = R"({"metadata":{"total_size":1},"weight_map":{)" + entries + "}}";
    }
    Checkpoint open(const std::string& path = "m") { return open_checkpoint(files_, path); }
    template <class Matcher>
    void expect_error(Matcher matcher, const std::string& path = "m") {
        EXPECT_THAT([&] { open(path); }, ThrowsMessage<Error>(AllOf(StartsWith(path), matcher)));
    }
    /// Two shards, "a" and "c" in the first, "b" in the second.
    void two_shards(const std::string& first, const std::string& second) {
        file(first) = small_safetensors({{"c"}, {"a", "BF16", {3}}});
        file(second) = small_safetensors({{"b"}});
        index(fmt::format(R"("a":"{0}","b":"{1}","c":"{0}")", first, second));
    }

    MemoryFiles files_;
};

std::vector<std::string> names(const Checkpoint& checkpoint) {
    std::vector<std::string> result;
    for (const TensorInfo& tensor : checkpoint.tensors) result.push_back(tensor.name);
    return result;
}

TEST_F(OpenCheckpoint, AFolderWithOneFile) {
    file("model.safetensors") = small_safetensors({{"b"}, {"a", "I64", {5}}});
    file("config.json") = R"({"model_type":"llama"})";
    const Checkpoint checkpoint = open();
    EXPECT_EQ(checkpoint.path, "m");
    EXPECT_THAT(names(checkpoint), ElementsAre("a", "b"));
    EXPECT_EQ(checkpoint.config, R"({"model_type":"llama"})");
    ASSERT_EQ(checkpoint.files.size(), 1u);
    EXPECT_EQ(checkpoint.files[0].path, "m/model.safetensors");
    EXPECT_EQ(checkpoint.files[0].bytes, file("model.safetensors").size());
    EXPECT_NE(checkpoint.files[0].header_hash, 0u);
    EXPECT_THAT(checkpoint.warnings, IsEmpty());
    ASSERT_NE(checkpoint.find("a"), nullptr);
    EXPECT_EQ(checkpoint.find("a")->dtype, Dtype::i64);
    EXPECT_EQ(checkpoint.find("a")->end, checkpoint.files[0].bytes);
    for (const char* name : {"", "A", "aa", "c"}) EXPECT_EQ(checkpoint.find(name), nullptr);
}

TEST_F(OpenCheckpoint, AFolderWithShards) {
    two_shards("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    file("consolidated.safetensors") = "of no interest";
    const Checkpoint checkpoint = open("m/");
    EXPECT_THAT(names(checkpoint), ElementsAre("a", "b", "c"));
    EXPECT_EQ(checkpoint.config, "");
    ASSERT_EQ(checkpoint.files.size(), 2u);
    EXPECT_EQ(checkpoint.files[1].path, "m/model-00002-of-00002.safetensors");
    EXPECT_EQ(checkpoint.find("a")->file, 0);
    EXPECT_EQ(checkpoint.find("b")->file, 1);
}

TEST_F(OpenCheckpoint, ShardsHaveAnyName) {
    two_shards("weights/x", "shard_07.safetensors");
    const Checkpoint checkpoint = open();
    EXPECT_EQ(checkpoint.files[static_cast<size_t>(checkpoint.find("c")->file)].path, "m/weights/x");
    EXPECT_EQ(checkpoint.files[static_cast<size_t>(checkpoint.find("b")->file)].path, "m/shard_07.safetensors");
}

TEST_F(OpenCheckpoint, OnlyOneFileOfAnyName) {
    file("ema.safetensors") = small_safetensors({{"a"}});
    file("README.md") = "x";
    EXPECT_THAT(names(open()), ElementsAre("a"));
    file("adapter_model.safetensors") = small_safetensors({{"lora_A"}});
    EXPECT_THAT(names(open()), ElementsAre("a"));
    files_.contents.erase("m/ema.safetensors");
    file("model-00001-of-00001.safetensors") = small_safetensors({{"a"}});
    EXPECT_THAT(names(open()), ElementsAre("a"));
    file("second.safetensors") = small_safetensors({{"b"}});
    expect_error(AllOf(HasSubstr("several safetensors files"), HasSubstr("'second.safetensors'")));
}

TEST_F(OpenCheckpoint, ASingleFileStandsAlone) {
    file("x.bin") = small_safetensors({{"a"}});
    file("config.json") = "not JSON";
    EXPECT_THAT(names(open("m/x.bin")), ElementsAre("a"));
    EXPECT_EQ(open("m/x.bin").config, "");
    file("empty.safetensors") = small_safetensors({});
    EXPECT_THAT(names(open("m/empty.safetensors")), IsEmpty());
    index("");
    expect_error(HasSubstr("name the folder"), "m/model.safetensors.index.json");
    expect_error(HasSubstr("no such file or folder"), "nowhere");
}

TEST_F(OpenCheckpoint, OneFileWinsOverAForeignIndex) {
    two_shards("x1.safetensors", "x2.safetensors");
    file("model.safetensors") = small_safetensors({{"z"}});
    EXPECT_THAT(names(open()), ElementsAre("z"));
    EXPECT_THAT(open().warnings, ElementsAre(HasSubstr("both")));
    index(R"("z":"model.safetensors")");
    EXPECT_THAT(open().warnings, IsEmpty());
}

TEST_F(OpenCheckpoint, AnIndexThatPromisesTooMuch) {
    two_shards("x1", "x2");
    files_.contents.erase("m/x2");
    expect_error(AllOf(HasSubstr("'x2'"), HasSubstr("missing"), HasSubstr("download")));
    file("x2") = small_safetensors({{"other"}});
    expect_error(AllOf(HasSubstr("index.json"), HasSubstr("in none of its files: 'b'")));
    file("x2") = small_safetensors({{"b"}, {"d"}});
    expect_error(AllOf(HasSubstr("not in the index: 'd'")));
    file("x2") = small_safetensors({{"b"}, {"a"}});
    expect_error(AllOf(HasSubstr("'a' is in two files"), HasSubstr("m/x1"), HasSubstr("m/x2")));
    two_shards("x1", "x2");
    index(R"("a":"x2","b":"x2","c":"x1")");
    expect_error(AllOf(HasSubstr("'a' is in 'x2', but it is in 'x1'")));
}

TEST_F(OpenCheckpoint, ABadIndexIsNamed) {
    two_shards("x1", "x2");
    file("model.safetensors.index.json") = "{";
    expect_error(HasSubstr("m/model.safetensors.index.json: not a valid index: not valid JSON"));
    index(R"("a":"../x1")");
    expect_error(HasSubstr("'..'"));
    index(R"("a":"x1","a":"x1")");
    expect_error(HasSubstr("twice"));
}

TEST_F(OpenCheckpoint, ATruncatedShardIsNamed) {
    two_shards("x1", "x2");
    file("x2").pop_back();
    expect_error(AllOf(HasSubstr("m/x2"), HasSubstr("promises 16 bytes"), HasSubstr("has 15")));
}

TEST_F(OpenCheckpoint, ShardsWithoutAnIndex) {
    file("model-00001-of-00002.safetensors") = small_safetensors({{"a"}});
    expect_error(AllOf(HasSubstr("model.safetensors.index.json"), HasSubstr("download it too")));
    file("model-00002-of-00002.safetensors") = small_safetensors({{"b"}});
    expect_error(HasSubstr("model.safetensors.index.json"));
}

TEST_F(OpenCheckpoint, WhatIsNoModel) {
    file("config.json") = "{}";
    expect_error(HasSubstr("not a checkpoint"));
    file("pytorch_model.bin") = "x";
    expect_error(AllOf(HasSubstr("Convert them first"), HasSubstr("safe_serialization=True")));
    file("adapter_config.json") = "{}";
    file("adapter_model.safetensors") = small_safetensors({{"lora_A"}});
    expect_error(AllOf(HasSubstr("adapter"), HasSubstr("merge_and_unload")));
    files_.contents = {{"m/x.gguf", "GGUF"}};
    expect_error(HasSubstr("GGUF"));
}

TEST_F(OpenCheckpoint, ConfigIsAnObject) {
    file("model.safetensors") = small_safetensors({{"a"}});
    for (const char* text : {"", "[]", "null", "{", "{}x", "{'a':1}"}) {
        file("config.json") = text;
        expect_error(HasSubstr("config.json: not"));
    }
    file("config.json") = R"({"time_step_limit": [0.0, Infinity], "x": -Infinity, "y": NaN})";
    EXPECT_EQ(open().config, file("config.json"));
    file("config.json") = "\xef\xbb\xbf{}";
    EXPECT_EQ(open().config.size(), 5u);
    file("config.json") = "{}" + std::string(16 << 20, ' ');
    expect_error(HasSubstr("config.json: has 16777218 bytes"));
}

TEST_F(OpenCheckpoint, WarningsNameTheFile) {
    const std::string header =
        R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"note":1},"b":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":[],"y":{}}})";
    file("model.safetensors") = static_cast<char>(header.size()) + std::string(7, '\0') + header;
    EXPECT_THAT(
        open().warnings,
        ElementsAre("m/model.safetensors: ignored 3 unknown fields of tensor entries, the first is 'note' of 'a'"));
}

TEST_F(OpenCheckpoint, WorksFromARecording) {
    two_shards("x1", "x2");
    file("config.json") = "{}";
    RecordingFiles recording(files_);
    const Checkpoint first = open_checkpoint(recording, "m");
    const Checkpoint second = open_checkpoint(*replay_files(recording.recording()), "m");
    EXPECT_EQ(names(first), names(second));
    EXPECT_EQ(first.files[1].header_hash, second.files[1].header_hash);
    EXPECT_EQ(second.config, "{}");
}

TEST_F(OpenCheckpoint, WorksFromARecordingOfAFailure) {
    two_shards("x1", "x2");
    file("x1") = "short";
    RecordingFiles recording(files_);
    EXPECT_THROW(open_checkpoint(recording, "m"), Error);
    EXPECT_THAT([&] { open_checkpoint(*replay_files(recording.recording()), "m"); },
                ThrowsMessage<Error>(HasSubstr("only 5 bytes")));
}

TEST(OpenCheckpointOnDisk, RefusesWhatIsNeitherFileNorFolder) {
    const auto files = disk_files();
    EXPECT_THAT([&] { open_checkpoint(*files, "/dev/null"); },
                ThrowsMessage<Error>(HasSubstr("neither a folder nor a regular file")));
    const TemporaryFolder folder;
    std::filesystem::create_directory(folder / "model.safetensors");
    EXPECT_THAT([&] { open_checkpoint(*files, folder.path()); }, ThrowsMessage<Error>(HasSubstr("not a checkpoint")));
}

TEST(OpenCheckpointOnDisk, ReadsARealModel) {
    const std::string path = AMALGAM_SOURCE_DIR "/tests/data/zoo/models/base";
    const Checkpoint checkpoint = open_checkpoint(*disk_files(), path);
    ASSERT_NE(checkpoint.find("model.embed_tokens.weight"), nullptr);
    EXPECT_THAT(checkpoint.config, HasSubstr("\"llama\""));
    uint64_t bytes = 0;
    for (const TensorInfo& tensor : checkpoint.tensors) bytes += tensor.bytes();
    const TensorInfo& first = *std::min_element(checkpoint.tensors.begin(), checkpoint.tensors.end(),
                                                [](const auto& a, const auto& b) { return a.begin < b.begin; });
    EXPECT_EQ(first.begin + bytes, checkpoint.files.at(0).bytes);
}

}  // namespace
}  // namespace amalgam
