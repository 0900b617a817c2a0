#include "src/base/files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "src/base/error.h"
#include "tests/base/memory_files.h"
#include "tests/base/temporary_folder.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

/// Permissions say nothing to the superuser.
class AsNobody {
  public:
    AsNobody() {
        if (::geteuid() == 0 && ::seteuid(65534) != 0) throw std::runtime_error("cannot change the user");
    }
    ~AsNobody() {
        if (::seteuid(::getuid()) != 0) std::abort();
    }
};

class DiskFilesTest : public testing::Test {
  protected:
    TemporaryFolder folder_;
    std::unique_ptr<Files> files_ = disk_files();
};

TEST_F(DiskFilesTest, StatusTellsKindAndSize) {
    const std::string file = folder_.write("sub/a.bin", "12345");
    EXPECT_EQ(files_->status(file).kind, FileKind::file);
    EXPECT_EQ(files_->status(file).bytes, 5u);
    EXPECT_EQ(files_->status(folder_ / "sub").kind, FileKind::folder);
    EXPECT_EQ(files_->status("/dev/null").kind, FileKind::other);
    EXPECT_EQ(files_->status(folder_ / "nothing").kind, FileKind::missing);
    EXPECT_EQ(files_->status(file + "/below-a-file").kind, FileKind::missing);
    EXPECT_EQ(files_->status("").kind, FileKind::missing);
}

TEST_F(DiskFilesTest, StatusFollowsLinks) {
    const std::string file = folder_.write("blob", "123");
    ASSERT_EQ(::symlink(file.c_str(), (folder_ / "link").c_str()), 0);
    EXPECT_EQ(files_->status(folder_ / "link").bytes, 3u);
    ASSERT_EQ(::symlink("nowhere", (folder_ / "dangling").c_str()), 0);
    EXPECT_EQ(files_->status(folder_ / "dangling").kind, FileKind::missing);
}

TEST_F(DiskFilesTest, StatusThrowsWhereNothingCanBeKnown) {
    ASSERT_EQ(::symlink("loop", (folder_ / "loop").c_str()), 0);
    EXPECT_THAT([&] { files_->status(folder_ / "loop"); },
                ThrowsMessage<Error>(HasSubstr("/loop: cannot be examined (Too many levels")));
    EXPECT_THAT([&] { files_->status(folder_ / std::string(5000, 'x')); },
                ThrowsMessage<Error>(HasSubstr("File name too long")));
    EXPECT_THAT([&] { files_->status(folder_ / std::string("a\0b", 3)); }, ThrowsMessage<Error>(HasSubstr("NUL")));
    folder_.write("closed/file", "1");
    std::filesystem::permissions(folder_ / "closed", std::filesystem::perms::none);
    {
        const AsNobody nobody;
        EXPECT_THAT([&] { files_->status(folder_ / "closed/file"); },
                    ThrowsMessage<Error>(HasSubstr("Permission denied")));
        EXPECT_THAT([&] { files_->list(folder_ / "closed"); }, ThrowsMessage<Error>(HasSubstr("Permission denied")));
    }
    std::filesystem::permissions(folder_ / "closed", std::filesystem::perms::owner_all);
}

TEST_F(DiskFilesTest, ReadGivesTheBytesAskedFor) {
    const std::string file = folder_.write("a", std::string("ab\0cd", 5));
    EXPECT_EQ(files_->read(file, 0, 5), std::string("ab\0cd", 5));
    EXPECT_EQ(files_->read(file, 1, 3), std::string("b\0c", 3));
    EXPECT_EQ(files_->read(file, 5, 0), "");
}

TEST_F(DiskFilesTest, ReadOfMoreThanThereIsThrowsBeforeItAllocates) {
    const std::string file = folder_.write("a", "12345");
    for (const auto& range : {std::pair<uint64_t, uint64_t>{0, 6}, {6, 0}, {1, 1ull << 60}, {~0ull, 2}, {2, ~0ull}})
        EXPECT_THAT([&] { files_->read(file, range.first, range.second); },
                    ThrowsMessage<Error>(AllOf(HasSubstr(file), HasSubstr("has 5 bytes"), HasSubstr("truncated"))));
}

TEST_F(DiskFilesTest, ReadRefusesWhatIsNoFile) {
    EXPECT_THAT([&] { files_->read(folder_ / "nothing", 0, 1); }, ThrowsMessage<Error>(HasSubstr("No such file")));
    EXPECT_THAT([&] { files_->read(folder_.path(), 0, 1); }, ThrowsMessage<Error>(HasSubstr("not a regular file")));
    ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
    EXPECT_THAT([&] { files_->read(folder_ / "pipe", 0, 1); }, ThrowsMessage<Error>(HasSubstr("not a regular file")));
    const std::string file = folder_.write("secret", "1");
    std::filesystem::permissions(file, std::filesystem::perms::none);
    const AsNobody nobody;
    EXPECT_THAT([&] { files_->read(file, 0, 1); }, ThrowsMessage<Error>(HasSubstr("Permission denied")));
}

TEST_F(DiskFilesTest, ListIsSorted) {
    for (const char* name : {"b", "a", "B", ".hidden"}) folder_.write(name, "");
    EXPECT_THAT(files_->list(folder_.path()), ElementsAre(".hidden", "B", "a", "b"));
    EXPECT_THAT([&] { files_->list(folder_ / "a"); }, ThrowsMessage<Error>(HasSubstr("Not a directory")));
    EXPECT_THAT([&] { files_->list(folder_ / "nothing"); }, ThrowsMessage<Error>(HasSubstr("No such file")));
}

TEST_F(DiskFilesTest, EnvironmentTellsEmptyFromUnset) {
    ::setenv("AMALGAM_TEST_VARIABLE", "", 1);
    EXPECT_EQ(files_->environment("AMALGAM_TEST_VARIABLE"), "");
    ::setenv("AMALGAM_TEST_VARIABLE", "x=y", 1);
    EXPECT_EQ(files_->environment("AMALGAM_TEST_VARIABLE"), "x=y");
    ::unsetenv("AMALGAM_TEST_VARIABLE");
    EXPECT_EQ(files_->environment("AMALGAM_TEST_VARIABLE"), std::nullopt);
}

TEST_F(DiskFilesTest, ReadAllHasALimit) {
    const std::string file = folder_.write("a", "12345");
    EXPECT_EQ(files_->read_all(file, 5), "12345");
    EXPECT_THAT([&] { files_->read_all(file, 4); },
                ThrowsMessage<Error>(AllOf(HasSubstr(file), HasSubstr("5 bytes"), HasSubstr("4"))));
    EXPECT_THAT([&] { files_->read_all(folder_ / "nothing", 4); }, ThrowsMessage<Error>(HasSubstr("no such file")));
    EXPECT_THAT([&] { files_->read_all(folder_.path(), 4); }, ThrowsMessage<Error>(HasSubstr("is a folder")));
    EXPECT_THAT([&] { files_->read_all("/dev/zero", 4); }, ThrowsMessage<Error>(HasSubstr("not a regular file")));
}

TEST(RecordingTest, ReplayGivesEveryAnswerWithoutTheFiles) {
    std::string recording;
    {
        MemoryFiles source;
        source.contents = {{"m/a", std::string("a\0bc", 4)}, {"m/b", ""}};
        source.variables = {{"HOME", "/home/x"}, {"EMPTY", ""}};
        RecordingFiles files(source);
        EXPECT_EQ(files.read("m/a", 1, 2), std::string("\0b", 2));
        EXPECT_EQ(files.read_all("m/a", 10).size(), 4u);
        EXPECT_EQ(files.status("m/b").kind, FileKind::file);
        EXPECT_EQ(files.status("m").kind, FileKind::folder);
        EXPECT_EQ(files.status("n").kind, FileKind::missing);
        EXPECT_THAT(files.list("m"), ElementsAre("a", "b"));
        EXPECT_THAT(files.list("n"), ElementsAre());
        EXPECT_EQ(files.environment("HOME"), "/home/x");
        EXPECT_EQ(files.environment("EMPTY"), "");
        EXPECT_EQ(files.environment("NOTHING"), std::nullopt);
        EXPECT_THROW(files.read("n", 0, 1), Error);
        recording = files.recording();
    }
    const auto files = replay_files(recording);
    recording.clear();
    EXPECT_EQ(files->read("m/a", 1, 2), std::string("\0b", 2));
    EXPECT_EQ(files->read_all("m/a", 10), std::string("a\0bc", 4));
    EXPECT_EQ(files->status("m/a").bytes, 4u);
    EXPECT_EQ(files->status("m/b").kind, FileKind::file);
    EXPECT_EQ(files->status("m").kind, FileKind::folder);
    EXPECT_EQ(files->status("n").kind, FileKind::missing);
    EXPECT_THAT(files->list("m"), ElementsAre("a", "b"));
    EXPECT_THAT(files->list("n"), ElementsAre());
    EXPECT_EQ(files->environment("HOME"), "/home/x");
    EXPECT_EQ(files->environment("EMPTY"), "");
    EXPECT_EQ(files->environment("NOTHING"), std::nullopt);
    EXPECT_THAT([&] { files->read("n", 0, 1); }, ThrowsMessage<Error>("n: cannot be read"));
}

TEST(RecordingTest, AQuestionNeverAskedIsAnError) {
    MemoryFiles source;
    source.contents = {{"m/a", "abc"}};
    RecordingFiles recording(source);
    recording.read("m/a", 0, 2);
    const auto files = replay_files(recording.recording());
    EXPECT_EQ(files->read("m/a", 0, 2), "ab");
    const auto is_a_bug = ThrowsMessage<Error>(HasSubstr("bug of amalgam"));
    EXPECT_THAT([&] { files->read("m/a", 0, 1); }, is_a_bug);
    EXPECT_THAT([&] { files->read("m/a", 1, 2); }, is_a_bug);
    EXPECT_THAT([&] { files->status("m/a"); }, is_a_bug);
    EXPECT_THAT([&] { files->list("m"); }, is_a_bug);
    EXPECT_THAT([&] { files->environment("HOME"); }, is_a_bug);
}

TEST(RecordingTest, ADamagedRecordingIsAnError) {
    MemoryFiles source;
    source.contents = {{"m/a", "abc"}};
    RecordingFiles recording(source);
    recording.read("m/a", 0, 2);
    const std::string bytes = recording.recording();
    for (size_t size = 1; size < bytes.size(); ++size) EXPECT_THROW(replay_files(bytes.substr(0, size)), Error) << size;
}

}  // namespace
}  // namespace amalgam
