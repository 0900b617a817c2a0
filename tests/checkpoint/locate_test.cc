#include <gmock/gmock.h>

#include "src/base/error.h"
#include "src/checkpoint/checkpoint.h"
#include "tests/base/memory_files.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;

const std::string commit = "0123456789abcdef0123456789abcdef01234567";
const std::string other_commit = "89abcdef0123456789abcdef0123456789abcdef";

class LocateModel : public testing::Test {
  protected:
    LocateModel() { files_.variables["HOME"] = "/home/me"; }

    /// A model of the Hub in a cache, as huggingface_hub lays it out.
    void cache(const std::string& root, const std::string& folder) {
        files_.contents[root + "/" + folder + "/refs/main"] = commit;
        files_.contents[root + "/" + folder + "/refs/v2"] = other_commit + "\n";
        files_.contents[root + "/" + folder + "/refs/refs/pr/1"] = other_commit;
        files_.contents[root + "/" + folder + "/snapshots/" + commit + "/model.safetensors"] = "";
        files_.contents[root + "/" + folder + "/snapshots/" + other_commit + "/model.safetensors"] = "";
    }
    std::string locate(const std::string& reference, const std::string& recipe_folder = "recipes") {
        return locate_model(files_, reference, recipe_folder);
    }
    template <class Matcher>
    void expect_error(const std::string& reference, Matcher matcher) {
        EXPECT_THAT([&] { locate(reference); }, ThrowsMessage<Error>(matcher)) << reference;
    }

    MemoryFiles files_;
    const std::string standard_ = "/home/me/.cache/huggingface/hub";
};

TEST_F(LocateModel, PathsComeFirst) {
    files_.contents = {{"org/name/model.safetensors", ""},
                       {"recipes/org/name/model.safetensors", ""},
                       {"recipes/b/x", ""},
                       {"/abs/x", ""},
                       {"one.safetensors", ""}};
    cache(standard_, "models--org--name");
    EXPECT_EQ(locate("org/name"), "org/name");
    EXPECT_EQ(locate("b"), "recipes/b");
    EXPECT_EQ(locate("b", "recipes/"), "recipes/b");
    EXPECT_EQ(locate("/abs"), "/abs");
    EXPECT_EQ(locate("one.safetensors"), "one.safetensors");
    files_.contents.erase("org/name/model.safetensors");
    EXPECT_EQ(locate("org/name"), "recipes/org/name");
    EXPECT_EQ(locate("org/name", ""), standard_ + "/models--org--name/snapshots/" + commit);
}

TEST_F(LocateModel, AnAbsolutePathIsNotLookedForBesideTheRecipe) {
    files_.contents = {{"recipes//abs/x", ""}};
    expect_error("/abs", AllOf(HasSubstr("there is no '/abs'"), Not(HasSubstr("recipe")), Not(HasSubstr("download"))));
}

TEST_F(LocateModel, HubNamesComeFromTheCache) {
    cache(standard_, "models--org--name");
    cache(standard_, "models--gpt2");
    const std::string snapshots = standard_ + "/models--org--name/snapshots/";
    EXPECT_EQ(locate("org/name"), snapshots + commit);
    EXPECT_EQ(locate("org/name@main"), snapshots + commit);
    EXPECT_EQ(locate("org/name@v2"), snapshots + other_commit);
    EXPECT_EQ(locate("org/name@refs/pr/1"), snapshots + other_commit);
    EXPECT_EQ(locate("org/name@" + other_commit), snapshots + other_commit);
    EXPECT_EQ(locate("gpt2"), standard_ + "/models--gpt2/snapshots/" + commit);
    EXPECT_EQ(locate("gpt2@v2"), standard_ + "/models--gpt2/snapshots/" + other_commit);
}

TEST_F(LocateModel, VariablesSayWhereTheCacheIs) {
    for (const auto& [name, value, root] : {std::tuple{"HF_HUB_CACHE", "/hub", "/hub"},
                                            {"HUGGINGFACE_HUB_CACHE", "/old", "/old"},
                                            {"HF_HOME", "/hf", "/hf/hub"},
                                            {"XDG_CACHE_HOME", "/xdg", "/xdg/huggingface/hub"},
                                            {"HF_HOME", "~/hf", "/home/me/hf/hub"}}) {
        files_ = {};
        files_.variables = {{"HOME", "/home/me"}, {name, value}};
        cache(standard_, "models--org--name");
        cache(root, "models--org--name");
        EXPECT_EQ(locate("org/name"), std::string(root) + "/models--org--name/snapshots/" + commit) << name;
    }
    files_.variables["HF_HUB_CACHE"] = "/hub";
    cache("/hub", "models--org--name");
    EXPECT_THAT(locate("org/name"), HasSubstr("/hub/models--org--name")) << "HF_HUB_CACHE comes before HF_HOME";
    files_.variables = {{"HOME", "/home/me"}, {"HF_HUB_CACHE", ""}, {"HF_HOME", ""}};
    cache(standard_, "models--org--name");
    EXPECT_THAT(locate("org/name"), HasSubstr(standard_)) << "an empty variable is none";
}

TEST_F(LocateModel, WhatIsNotThereIsNamedWithTheCommandToType) {
    expect_error("org/name", AllOf(HasSubstr("no 'org/name' in the working directory"), HasSubstr("'recipes/org/name'"),
                                   HasSubstr(standard_), HasSubstr("hf download org/name ("),
                                   HasSubstr("huggingface-cli download org/name)")));
    expect_error("org/name@v9", AllOf(HasSubstr("hf download org/name --revision v9"),
                                      HasSubstr("huggingface-cli download org/name --revision v9")));
    expect_error("gpt2", HasSubstr("huggingface-cli download gpt2"));
    cache(standard_, "models--org--name");
    expect_error("org/name@v9", HasSubstr("download org/name --revision v9"));
    expect_error("org/name@" + std::string(40, '0'), HasSubstr("download"));
    files_.contents.erase(standard_ + "/models--org--name/snapshots/" + commit + "/model.safetensors");
    expect_error("org/name", HasSubstr("download org/name"));
    files_.variables.clear();
    expect_error("org/name", HasSubstr("neither HF_HUB_CACHE, HF_HOME nor HOME is set"));
}

TEST(DownloadCommand, IsForFoldersOfTheCache) {
    EXPECT_EQ(download_command("/x/hub/models--org--name/snapshots/" + commit),
              "hf download org/name --revision " + commit);
    EXPECT_EQ(download_command("/x/hub/models--gpt2/snapshots/" + commit + "/"),
              "hf download gpt2 --revision " + commit);
    for (const std::string folder : {"/x/models--org--name", "models/a", "/models--org--name/snapshots/main", ""})
        EXPECT_EQ(download_command(folder), "") << folder;
    EXPECT_EQ(download_command("/models--a;b--c/snapshots/" + commit), "");
}

TEST_F(LocateModel, ADamagedReferenceOfTheCacheIsAnError) {
    for (const char* text : {"", "../../../etc", "/etc", "0123", "0123456789abcdeg"}) {
        files_.contents[standard_ + "/models--org--name/refs/main"] = text;
        expect_error("org/name", AllOf(HasSubstr("refs/main"), HasSubstr("instead of a commit hash")));
    }
}

TEST_F(LocateModel, WhatIsNoHubNameNeverReachesTheCache) {
    for (const char* reference : {"a/b/c", "../x", "./x", "a/..", "-a/b", ".a", "a--b/c", "a b", "/x", "org/name@",
                                  "org/name@../../x", "org/name@/x", "@v1", "a/", "org/na\xc3\xbcme"})
        expect_error(reference, AllOf(HasSubstr("is not found"), Not(HasSubstr("download"))));
    expect_error(std::string(97, 'a'), Not(HasSubstr("download")));
    expect_error("", HasSubstr("empty"));
}

TEST_F(LocateModel, AdaptersAreForALaterVersion) {
    expect_error("org/name+some/lora", AllOf(HasSubstr("'org/name' with the adapter 'some/lora'"),
                                             HasSubstr("merge it into its base first")));
    files_.contents = {{"models/c++/x", ""}};
    EXPECT_EQ(locate("models/c++"), "models/c++");
}

TEST_F(LocateModel, WorksFromARecording) {
    cache(standard_, "models--org--name");
    RecordingFiles recording(files_);
    const std::string found = locate_model(recording, "org/name", "recipes");
    EXPECT_EQ(locate_model(*replay_files(recording.recording()), "org/name", "recipes"), found);
}

}  // namespace
}  // namespace amalgam
