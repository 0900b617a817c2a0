#include "src/checkpoint/output_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "src/base/error.h"
#include "tests/base/temporary_folder.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class OutputFolder : public testing::Test {
  protected:
    OutputFolder() {
        fs::create_directory(from());
        fs::create_directory(to());
    }
    void put(const std::string& name, const std::string& text) { root_.write(name, text); }
    std::string get(const std::string& name) {
        std::ifstream file(root_ / name, std::ios::binary);
        std::stringstream text;
        text << file.rdbuf();
        return text.str();
    }
    std::string from() const { return root_ / "from"; }
    std::string to() const { return root_ / "to"; }

    const TemporaryFolder root_;
};

std::string error_of(const std::function<void()>& action) {
    try {
        action();
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

TEST_F(OutputFolder, WritesAndReplaces) {
    write_output_text(to(), {"config.json", "long text"});
    write_output_text(to(), {"config.json", std::string("a\0b", 3)});
    EXPECT_EQ(get("to/config.json"), std::string("a\0b", 3));
    sync_folder(to());
}

TEST_F(OutputFolder, NeverWritesOutside) {
    put("victim", "keep");
    fs::create_symlink(root_ / "victim", to() + "/README.md");
    EXPECT_THAT(error_of([&] { write_output_text(to(), {"README.md", "x"}); }), HasSubstr(to() + "/README.md"));
    for (const char* name : {"../victim", "", ".", "..", "/tmp/x", "a/b"})
        EXPECT_THROW(write_output_text(to(), {name, "x"}), Error) << name;
    EXPECT_EQ(get("victim"), "keep");
}

TEST_F(OutputFolder, ErrorsNamePathAndReason) {
    EXPECT_THAT(error_of([&] {
                    write_output_text(root_ / "nowhere", {"a", "x"});
                }),
                testing::AllOf(HasSubstr(root_ / "nowhere/a"), HasSubstr("No such file or directory")));
    EXPECT_THAT(error_of([&] { sync_folder(root_ / "nowhere"); }), HasSubstr("No such file or directory"));
    fs::create_directory(to() + "/tokenizer.json");
    put("from/tokenizer.json", "{}");
    EXPECT_THAT(error_of([&] { copy_companion_files(from(), to()); }), HasSubstr(to() + "/tokenizer.json"));
    if (fs::exists("/dev/full")) {
        // A disk that is full, without one.
        EXPECT_THAT(error_of([] { write_output_text("/dev", {"full", "x"}); }), HasSubstr("No space left"));
    }
}

TEST_F(OutputFolder, CopiesWhatLoadersLookForAndNothingElse) {
    const std::string large(3'000'000, 'x');
    put("from/tokenizer.json", large);
    put("blob", "linked");
    fs::create_symlink(root_ / "blob", from() + "/generation_config.json");
    fs::create_symlink(root_ / "gone", from() + "/vocab.txt");
    for (const char* other :
         {"config.json", "model.safetensors", "README.md", "modeling_x.py", "model.safetensors.index.json"})
        put(std::string("from/") + other, "no");
    EXPECT_THAT(copy_companion_files(from(), to()), ElementsAre("tokenizer.json", "generation_config.json"));
    EXPECT_EQ(get("to/tokenizer.json"), large);
    EXPECT_EQ(get("to/generation_config.json"), "linked");
    EXPECT_FALSE(fs::is_symlink(to() + "/generation_config.json"));
    EXPECT_EQ(std::distance(fs::directory_iterator(to()), {}), 2);
    EXPECT_THAT(copy_companion_files(root_ / "nowhere", to()), testing::IsEmpty());
    EXPECT_THAT(copy_companion_files(root_ / "blob", to()), testing::IsEmpty()) << "a single file as a model";
}

TEST_F(OutputFolder, OddThingsInTheDonorAreErrorsNotHangs) {
    ASSERT_EQ(::mkfifo((from() + "/tokenizer.json").c_str(), 0600), 0);
    EXPECT_THAT(error_of([&] { copy_companion_files(from(), to()); }), HasSubstr("not a file"));
    fs::remove(from() + "/tokenizer.json");
    fs::create_directory(from() + "/vocab.json");
    EXPECT_THAT(error_of([&] { copy_companion_files(from(), to()); }), HasSubstr("vocab.json"));
    fs::remove(from() + "/vocab.json");
    fs::create_symlink("merges.txt", from() + "/merges.txt");
    EXPECT_THAT(error_of([&] { copy_companion_files(from(), to()); }), HasSubstr("merges.txt"));
}

ModelCard card() {
    ModelCard card;
    card.name = "merged";
    card.method = "ties";
    card.summary = "Elects a sign for each element.";
    card.base_model = "org/base";
    card.models = {{"models/a", "weight 0.5"}, {"models/b", ""}, {"models/a", "weight 1"}};
    card.settings = "lambda 1";
    card.recipe = "method = \"ties\"\n";
    card.command = "amalgam merge amalgam_recipe.toml merged";
    card.version = "0.1.0";
    return card;
}

TEST(ModelCardText, SaysWhatWasDone) {
    EXPECT_EQ(model_card(card()), R"(---
base_model:
- "org/base"
- "models/a"
- "models/b"
library_name: transformers
tags:
- merge
- amalgam
---
# `merged`

A merge of language models made with amalgam 0.1.0.

- Method: `ties`: Elects a sign for each element.
- Settings: lambda 1
- Base: `org/base`

## Models

- `models/a`: weight 0.5
- `models/b`
- `models/a`: weight 1

## Recipe

The same text is in `amalgam_recipe.toml`.

```toml
method = "ties"
```

## Reproduce

```sh
amalgam merge amalgam_recipe.toml merged
```
)");
}

TEST(ModelCardText, NothingBreaksOut) {
    ModelCard odd = card();
    odd.base_model = "";
    odd.models = {{"a\"\n---\nevil: 1", "x\n# y"}, {"`back``tick`", ""}, {"no", ""}, {"\xff", ""}};
    odd.recipe = "a\n```\n# heading\n````";
    odd.yaml = true;
    const std::string text = model_card(odd);
    EXPECT_THAT(text, testing::StartsWith("---\nbase_model:\n"
                                          "- \"a\\\"\\n---\\nevil: 1\"\n"
                                          "- \"`back``tick`\"\n"
                                          "- \"no\"\n"
                                          "- \"\xef\xbf\xbd\"\n"
                                          "library_name: transformers\n"));
    EXPECT_THAT(text, HasSubstr("\n`````yaml\na\n```\n# heading\n````\n`````\n"));
    EXPECT_THAT(text, HasSubstr("- ``` `back``tick` ```\n"));
    EXPECT_THAT(text, HasSubstr("- `a\" --- evil: 1`: x # y\n"));
    EXPECT_STREQ(recipe_file_name(true), "amalgam_recipe.yaml");
    odd.models.clear();
    EXPECT_THAT(model_card(odd), testing::StartsWith("---\nbase_model: []\nlibrary_name"));
}

}  // namespace
}  // namespace amalgam
