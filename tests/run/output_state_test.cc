#include "src/run/output_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "src/base/log.h"
#include "src/checkpoint/output_folder.h"
#include "src/run/journal.h"
#include "tests/base/temporary_folder.h"
#include "tests/run/test_files.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Tree = std::map<std::string, std::string>;

using State = OutputState;

class Crash : public std::exception {};

class Output : public testing::Test {
  protected:
    Output() { fs::create_directory(root_ / "model"); }

    std::unique_ptr<OutputFolder> open(const std::string& key = "key", bool force = false) {
        return OutputFolder::open(out(), key, {root_ / "model"}, force);
    }
    std::string refusal(const std::string& key = "key", bool force = false) {
        return error_of([&] { open(key, force); });
    }
    std::string refusal_of(const std::string& path, bool force = false) {
        return error_of([&] { OutputFolder::open(path, "key", {root_ / "model"}, force); });
    }

    /// What a merge leaves before it publishes.
    static void build(const OutputFolder& folder, const std::string& weights) {
        write_output_text(folder.building(), {"model.safetensors", weights});
        write_output_text(folder.building(), {"config.json", "{}"});
        Journal(folder.building(), 0).block_done(0, 0, 1);
        Journal(folder.building(), 1).block_done(0, 1, 1);
    }
    void make(const std::string& key, const std::string& weights, bool force = false) {
        const auto folder = open(key, force);
        ASSERT_EQ(folder->state(), State::fresh);
        build(*folder, weights);
        folder->publish();
    }
    /// Everything in the folder of the output but the output itself.
    Tree around() {
        Tree tree;
        for (const auto& [name, contents] : tree_of(root_.path()))
            if (!name.starts_with("out/") && name != "out" && name != "model") tree[name] = contents;
        return tree;
    }
    static Tree result(const std::string& key, const std::string& weights) {
        const std::string sizes = "2 config.json\n" + std::to_string(weights.size()) + " model.safetensors\n";
        return {{".amalgam.key", "amalgam output 1\nkey " + key + "\n" + sizes},
                {"config.json", "{}"},
                {"model.safetensors", weights}};
    }

    std::string out() const { return root_ / "out"; }
    std::string building() const { return root_ / "out.partial"; }

    const TemporaryFolder root_;
};

TEST_F(Output, FreshThenPublishedThenFinished) {
    {
        const auto folder = open();
        EXPECT_EQ(folder->state(), State::fresh);
        EXPECT_EQ(folder->building(), building());
        EXPECT_EQ(folder->target(), out());
        EXPECT_FALSE(fs::exists(out()));
        EXPECT_THAT(contents_of(building() + "/lock"), HasSubstr("process " + std::to_string(::getpid()) + " on "));
        build(*folder, "abc");
        folder->publish();
        EXPECT_EQ(folder->state(), State::finished);
    }
    EXPECT_EQ(tree_of(out()), result("key", "abc"));
    EXPECT_THAT(around(), IsEmpty());
    for (bool force : {false, true}) EXPECT_EQ(open("key", force)->state(), State::finished);
    EXPECT_EQ(tree_of(out()), result("key", "abc"));
    EXPECT_THAT(around(), IsEmpty());
}

TEST_F(Output, ResumesTheSameKeyAndRefusesAnother) {
    build(*open(), "abc");
    EXPECT_EQ(open()->state(), State::resume);
    const Tree before = tree_of(building());
    EXPECT_THAT(refusal("other"), AllOf(HasSubstr("out.partial: holds an unfinished merge"), HasSubstr("--force")));
    EXPECT_EQ(tree_of(building()).size(), before.size());
    EXPECT_EQ(open("key", true)->state(), State::resume) << "force does not throw away our own work";
    {
        const auto folder = open("other", true);
        EXPECT_EQ(folder->state(), State::fresh);
        EXPECT_THAT(fs::exists(building() + "/model.safetensors"), false);
        EXPECT_TRUE(read_journals(building()).blocks.empty());
        build(*folder, "new");
        folder->publish();
    }
    EXPECT_EQ(tree_of(out()), result("other", "new"));
}

TEST_F(Output, EmptyFoldersAreTaken) {
    fs::create_directory(out());
    fs::create_directory(building());
    make("key", "abc");
    EXPECT_EQ(tree_of(out()), result("key", "abc"));
}

TEST_F(Output, ForeignFoldersAreReplacedByForceOnly) {
    root_.write("out/precious/data", "1");
    EXPECT_THAT(refusal(), AllOf(HasSubstr(out() + ": this folder is not empty"), HasSubstr("--force")));
    EXPECT_THAT(around(), IsEmpty());
    {
        const auto folder = open("key", true);
        build(*folder, "abc");
        EXPECT_EQ(contents_of(out() + "/precious/data"), "1") << "stays until the new one is complete";
        folder->publish();
    }
    EXPECT_EQ(tree_of(out()), result("key", "abc"));
    EXPECT_THAT(around(), IsEmpty());
}

TEST_F(Output, FinishedOutputsOfOtherKeysAreReplacedByForceOnly) {
    make("first", "1");
    EXPECT_THAT(refusal("second"), HasSubstr("holds a finished merge of another recipe"));
    EXPECT_THAT(around(), IsEmpty());
    make("second", "22", true);
    EXPECT_EQ(tree_of(out()), result("second", "22"));
    EXPECT_THAT(around(), IsEmpty());
}

TEST_F(Output, ADamagedOutputIsNotFinished) {
    make("key", "abc");
    root_.write("out/README.md", "edited by hand");
    EXPECT_EQ(open()->state(), State::finished);
    root_.write("out/model.safetensors", "abcd");
    EXPECT_THAT(refusal(), HasSubstr("by this very job, but model.safetensors has another size; --force replaces it"));
    fs::remove(out() + "/model.safetensors");
    EXPECT_THAT(refusal(), HasSubstr("model.safetensors is missing"));
    make("key", "abc", true);
    EXPECT_EQ(tree_of(out()), result("key", "abc"));
}

TEST_F(Output, TheLockKeepsOthersOut) {
    const auto folder = open();
    for (bool force : {false, true})
        for (const char* key : {"key", "other"})
            EXPECT_THAT(refusal(key, force), AllOf(HasSubstr("another job is working on this output"),
                                                   HasSubstr("process " + std::to_string(::getpid()) + " on ")));
    EXPECT_TRUE(fs::exists(building() + "/amalgam.key"));
}

TEST_F(Output, APublishedOutputFreesItsName) {
    const auto first = open("first");
    build(*first, "1");
    first->publish();
    // The object lives, but holds nothing any more.
    const auto second = open("second", true);
    EXPECT_EQ(second->state(), State::fresh);
    EXPECT_THROW(first->publish(), Error);
}

TEST_F(Output, FoldersThatAreNotOursAreLeftAlone) {
    root_.write("out.partial/model.safetensors", "somebody's download");
    for (bool force : {false, true})
        EXPECT_THAT(refusal("key", force),
                    AllOf(HasSubstr("out.partial"), HasSubstr("model.safetensors"), HasSubstr("not from amalgam")));
    EXPECT_EQ(tree_of(building()), (Tree{{"model.safetensors", "somebody's download"}}));
    fs::remove_all(building());

    build(*open("old"), "abc");
    root_.write("out.partial/notes.txt", "mine");
    const Tree before = tree_of(building());
    EXPECT_THAT(refusal("new", true), AllOf(HasSubstr("cannot be emptied"), HasSubstr("notes.txt")));
    EXPECT_EQ(contents_of(building() + "/notes.txt"), "mine");
    EXPECT_EQ(tree_of(building()).size(), before.size());
    fs::remove_all(building());

    root_.write("out.partial", "a file");
    EXPECT_THAT(refusal("key", true), HasSubstr("not a folder"));
    fs::remove(building());
    fs::create_directory(root_ / "elsewhere");
    fs::create_directory_symlink(root_ / "elsewhere", building());
    EXPECT_THAT(refusal("key", true), HasSubstr("not a folder"));
    EXPECT_TRUE(fs::is_empty(root_ / "elsewhere"));
}

TEST_F(Output, KilledBeforeTheKeyWasWritten) {
    root_.write("out.partial/lock", "process 1 on nowhere\n");
    root_.write("out.partial/.amalgam.key.new", "amalgam outp");
    EXPECT_EQ(open()->state(), State::fresh);
    EXPECT_EQ(open()->state(), State::resume);
}

TEST_F(Output, AnotherJobThatDidNothingIsNotInTheWay) {
    write_output_text(open("other")->building(), {"model.safetensors", "room for weights"});
    {
        const auto folder = open("key");
        EXPECT_EQ(folder->state(), State::fresh);
        EXPECT_FALSE(fs::exists(building() + "/model.safetensors"));
        Journal(building(), 0).statistics_done(3, "counts");
    }
    EXPECT_THAT(refusal("other"), HasSubstr("holds an unfinished merge"));
}

TEST_F(Output, AKeyThatIsNoKeyNeverMatches) {
    for (const char* text :
         {"", "key", "amalgam output 1\n", "amalgam output 1\nkey key", "amalgam output 2\nkey key\n",
          "amalgam output 1\nkey key\nx y\n", "amalgam output 1\nkey key2\n"}) {
        root_.write("out.partial/amalgam.key", text);
        Journal(building(), 0).block_done(0, 0, 1);
        EXPECT_THAT(refusal(), HasSubstr("unfinished merge of another recipe")) << text;
    }
    root_.write("out.partial/amalgam.key", "amalgam output 1\nkey key\n");
    EXPECT_EQ(open()->state(), State::resume);
    EXPECT_THROW(open(""), Error);
    EXPECT_THROW(open("two\nlines"), Error);
}

/// Crashes before step `count` of publish(), for one count after the other; `again` is the same command once more.
TEST_F(Output, ACrashAnywhereInPublishIsRepaired) {
    for (const std::string old : {"missing", "empty", "foreign", "finished", "same name in the way"}) {
        bool crashed = true;
        int steps = 0;
        for (int count = 0; crashed; ++count) {
            SCOPED_TRACE(old + ", crash before step " + std::to_string(count));
            for (const auto& entry : fs::directory_iterator(root_.path())) fs::remove_all(entry);
            if (old == "empty") fs::create_directory(out());
            if (old == "finished") make("before", "old weights");
            if (old == "foreign" || old == "same name in the way") root_.write("out/sub/data", "old");
            if (old == "same name in the way") root_.write("out.replaced/mine", "keep");
            const bool force = old != "missing" && old != "empty";
            const Tree old_tree = tree_of(out());

            crashed = false;
            try {
                const auto folder = open("key", force);
                build(*folder, "abc");
                folder->publish([&, left = count](const char*) mutable {
                    if (left-- == 0) throw Crash();
                });
            } catch (const Crash&) {
                crashed = true;
                steps = count + 1;
            }
            const bool published = fs::exists(out() + "/model.safetensors") &&
                                   tree_of(out()).contains(".amalgam.key") &&
                                   contents_of(out() + "/model.safetensors") == "abc";
            // At any moment the old output is somewhere, until the new one has its name.
            if (!published && !old_tree.empty()) {
                ASSERT_THAT(old_tree,
                            AnyOf(tree_of(out()), tree_of(out() + ".replaced"), tree_of(out() + ".replaced.2")));
            }
            {
                const auto folder = open("key", force);
                ASSERT_EQ(folder->state(), published ? State::finished : State::resume);
                if (!published) {
                    ASSERT_EQ(tree_of(out()), old_tree) << "what was moved aside is back";
                    ASSERT_EQ(read_journals(building()).blocks.size(), 2u);
                    ASSERT_FALSE(fs::exists(building() + "/.amalgam.key"));
                    folder->publish();
                }
            }
            ASSERT_EQ(tree_of(out()), result("key", "abc"));
            Tree expected;
            if (old == "same name in the way") expected = {{"out.replaced", "folder"}, {"out.replaced/mine", "keep"}};
            ASSERT_EQ(around(), expected);
        }
        EXPECT_GE(steps, old == "missing" || old == "empty" ? 6 : 9);
    }
}

TEST_F(Output, AfterACrashAnotherCommandFindsTheOldOutput) {
    make("before", "old");
    try {
        const auto folder = open("key", true);
        build(*folder, "abc");
        folder->publish([](const char* step) {
            if (std::string(step) == "rename") throw Crash();
        });
    } catch (const Crash&) {
    }
    ASSERT_FALSE(fs::exists(out()));
    EXPECT_THAT(refusal("another"), HasSubstr("holds a finished merge of another recipe"));
    EXPECT_EQ(tree_of(out()), result("before", "old"));
    EXPECT_EQ(open("before")->state(), State::finished);
}

TEST_F(Output, AnOutputThatCameBackIsNeverOverwritten) {
    make("before", "old");
    try {
        const auto folder = open("key", true);
        build(*folder, "abc");
        folder->publish([](const char* step) {
            if (std::string(step) == "rename") throw Crash();
        });
    } catch (const Crash&) {
    }
    root_.write("out/new", "put there by hand");
    EXPECT_THAT(refusal("key"), HasSubstr("not empty"));
    EXPECT_EQ(contents_of(out() + "/new"), "put there by hand");
    set_log_level(LogLevel::silent);
    const auto folder = open("key", true);
    set_log_level(LogLevel::info);
    folder->publish();
    EXPECT_EQ(contents_of(out() + "/model.safetensors"), "abc");
    EXPECT_EQ(contents_of(root_ / "out.replaced/model.safetensors"), "old") << "no note tells any more whose it is";
}

TEST_F(Output, ANoteThatLiesDeletesNothing) {
    root_.write("victim/data", "keep");
    root_.write("out.replaced/data", "keep");
    struct stat victim {};
    ASSERT_EQ(::stat((root_ / "victim").c_str(), &victim), 0);
    const std::string inode = std::to_string(victim.st_ino);
    const std::vector<std::string> notes = {inode + " ../victim\n",
                                            inode + " victim\n",
                                            inode + " out.replaced\n",
                                            inode + " out.replaced/../victim\n",
                                            "0 out.replaced\n",
                                            "x",
                                            ""};
    for (const std::string& note : notes) {
        for (const char* name : {"amalgam.key", ".amalgam.key"})
            root_.write(std::string("out/") + name, "amalgam output 1\nkey key\n");
        root_.write("out/.amalgam.replaced", note);
        EXPECT_EQ(open()->state(), State::finished);
        EXPECT_FALSE(fs::exists(out() + "/amalgam.key"));
        EXPECT_EQ(contents_of(root_ / "victim/data"), "keep");
        EXPECT_EQ(contents_of(root_ / "out.replaced/data"), "keep");
    }
}

TEST_F(Output, WhatAppearsWhileWeWorkIsNotReplaced) {
    const auto folder = open();
    build(*folder, "abc");
    root_.write("out/other", "by somebody else");
    EXPECT_THAT(error_of([&] { folder->publish(); }), HasSubstr("not empty"));
    EXPECT_EQ(contents_of(out() + "/other"), "by somebody else");
    EXPECT_EQ(contents_of(building() + "/model.safetensors"), "abc");
}

TEST_F(Output, NamesThatCannotBe) {
    EXPECT_THAT(refusal_of(""), HasSubstr("needs the name of a folder"));
    for (const char* path : {".", "..", "/", "./", "//", "x/..", "x/."})
        EXPECT_THAT(refusal_of(path, true), HasSubstr("cannot be an output"));
    EXPECT_THAT(refusal_of(std::string("a\0b", 3)), HasSubstr("NUL"));
    EXPECT_THAT(refusal_of(root_ / "no/such/out"),
                AllOf(HasSubstr("the folder " + root_.path() + "/no/such is missing"), HasSubstr("create it")));
    root_.write("file", "x");
    EXPECT_THAT(refusal_of(root_ / "file/out"), HasSubstr("is not a folder"));
    EXPECT_THAT(refusal_of(root_ / "file", true), HasSubstr("not a folder"));
    EXPECT_THAT(refusal_of("/proc", true), HasSubstr("root of a file system"));
    EXPECT_THAT(refusal_of("/proc/out"), HasSubstr("cannot be created"));
    EXPECT_THAT(refusal_of(fs::current_path().string(), true), HasSubstr("working directory"));
    EXPECT_THAT(
        refusal_of(fs::current_path().parent_path().string() + "/", true),
        AnyOf(HasSubstr("working directory"), HasSubstr("cannot be an output"), HasSubstr("root of a file system")));
}

TEST_F(Output, SlashesAtTheEndAreNoMatter) {
    const auto folder = OutputFolder::open(out() + "///", "key", {}, false);
    EXPECT_EQ(folder->building(), building());
    build(*folder, "abc");
    folder->publish();
    EXPECT_EQ(tree_of(out()), result("key", "abc"));
}

TEST_F(Output, RelativePathsWork) {
    const fs::path before = fs::current_path();
    fs::current_path(root_.path());
    {
        const auto folder = OutputFolder::open("out", "key", {"model"}, false);
        build(*folder, "abc");
        folder->publish();
    }
    EXPECT_THAT(error_of([&] { OutputFolder::open("model", "key", {"./model/"}, true); }), HasSubstr("is the input"));
    fs::current_path(before);
    EXPECT_EQ(tree_of(out()), result("key", "abc"));
}

TEST_F(Output, LinksLeadToEmptyFoldersOnly) {
    fs::create_directory(root_ / "disk");
    fs::create_directory(root_ / "disk/real");
    fs::create_directory_symlink("disk/real", out());
    {
        const auto folder = open();
        EXPECT_EQ(folder->target(), fs::canonical(root_ / "disk").string() + "/real");
        build(*folder, "abc");
        folder->publish();
    }
    EXPECT_TRUE(fs::is_symlink(out()));
    EXPECT_EQ(tree_of(root_ / "disk/real"), result("key", "abc"));
    EXPECT_EQ(open()->state(), State::finished);
    EXPECT_THAT(refusal("other", true), HasSubstr("symbolic link"));
    fs::remove_all(root_ / "disk/real");
    EXPECT_THAT(refusal(), HasSubstr("leads nowhere"));
}

TEST_F(Output, InputsAreNeverWrittenTo) {
    root_.write("model/model.safetensors", "input");
    root_.write("zoo/a/model.safetensors", "input");
    fs::create_directory_symlink(root_ / "model", root_ / "alias");
    const auto refused = [&](const std::string& path, const std::vector<std::string>& inputs) {
        return error_of([&] { OutputFolder::open(path, "key", inputs, true); });
    };
    EXPECT_THAT(refused(root_ / "model", {root_ / "alias"}), HasSubstr("is the input"));
    EXPECT_THAT(refused(root_ / "alias", {root_ / "model"}), HasSubstr("is the input"));
    EXPECT_THAT(refused(root_ / "model/merged", {root_ / "model"}), HasSubstr("is inside of the input"));
    EXPECT_THAT(refused(root_ / "alias/merged", {root_ / "model"}), HasSubstr("is inside of the input"));
    EXPECT_THAT(refused(root_ / "zoo", {root_ / "model", root_ / "zoo/a"}), HasSubstr("contains the input"));
    EXPECT_THAT(refused(root_ / "zoo/a", {root_ / "zoo/a/model.safetensors"}), HasSubstr("contains the input"));
    root_.write("x.partial/model.safetensors", "input");
    EXPECT_THAT(refused(root_ / "x", {root_ / "x.partial"}), HasSubstr("is the input"));
    EXPECT_EQ(contents_of(root_ / "model/model.safetensors"), "input");
    // Names that only begin alike.
    EXPECT_EQ(OutputFolder::open(root_ / "model-merged", "key", {root_ / "model", root_ / "missing"}, false)->state(),
              State::fresh);
}

TEST_F(Output, AReadOnlyParentIsAClearError) {
    const uid_t user = ::geteuid();
    fs::create_directory(root_ / "closed");
    fs::permissions(root_ / "closed", fs::perms(0555));
    if (user == 0) {
        ASSERT_EQ(::seteuid(65534), 0);
    }
    const std::string text = refusal_of(root_ / "closed/out", true);
    if (user == 0) {
        ASSERT_EQ(::seteuid(0), 0);
    }
    EXPECT_THAT(text, AllOf(HasSubstr("closed/out.partial: cannot be created"), HasSubstr("Permission denied"),
                            HasSubstr("choose")));
}

TEST_F(Output, AFinishedOutputInAReadOnlyPlaceIsFinished) {
    make("key", "abc");
    const uid_t user = ::geteuid();
    fs::permissions(root_.path(), fs::perms(0555));
    if (user == 0) {
        ASSERT_EQ(::seteuid(65534), 0);
    }
    std::string text = error_of([&] { EXPECT_EQ(open()->state(), State::finished); });
    if (user == 0) {
        ASSERT_EQ(::seteuid(0), 0);
    }
    fs::permissions(root_.path(), fs::perms(0755));
    EXPECT_EQ(text, "no error");
}

TEST_F(Output, RefusalsLeaveNoTrace) {
    root_.write("out/data", "1");
    const Tree before = tree_of(root_.path());
    for (int i = 0; i < 2; ++i) EXPECT_NE(refusal(), "no error");
    EXPECT_EQ(tree_of(root_.path()), before);
}

}  // namespace
}  // namespace amalgam
