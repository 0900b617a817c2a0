#include "src/search/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <sstream>
#include <thread>

#include "src/base/error.h"
#include "tests/base/temporary_folder.h"

namespace amalgam {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

std::string contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return (std::ostringstream() << file.rdbuf()).str();
}

// Digests by another program (a few lines of Python, after the description of XXH64).
const std::string first_line = "ca0b885a32fc8b48 {\"a\":1}\n";
const std::string empty_line = "ef46db3751d8e999 \n";

TEST(SearchJournal, LinesAreAsOthersComputeThem) {
    const TemporaryFolder folder;
    const std::string path = folder / "journal.jsonl";
    {
        JournalWriter journal(path);
        journal.append("{\"a\":1}");
        journal.append("");
        journal.sync();
        EXPECT_EQ(contents(path), first_line + empty_line);
        EXPECT_EQ(journal.cut_bytes(), 0u);
    }
    EXPECT_THAT(read_journal(path).lines, ElementsAre("{\"a\":1}", ""));
}

TEST(SearchJournal, GoesOnWhereItEnded) {
    const TemporaryFolder folder;
    const std::string path = folder / "journal.jsonl";
    JournalWriter(path).append("one");
    const JournalEnd end = read_journal(path).end;
    EXPECT_EQ(end.offset, contents(path).size());
    EXPECT_FALSE(end.torn);
    {
        JournalWriter journal(path);
        journal.append("two");
        JournalWriter moved = std::move(journal);
        moved.append("three");
        moved.sync();
    }
    EXPECT_THAT(read_journal(path).lines, ElementsAre("one", "two", "three"));
    EXPECT_THAT(read_journal(path, end.offset).lines, ElementsAre("two", "three"));
}

TEST(SearchJournal, TornAnywhereItKeepsTheLinesBefore) {
    const TemporaryFolder folder;
    const std::string path = folder / "journal.jsonl";
    const std::vector<std::string> texts = {"{\"kind\":\"start\"}", "", "x", "{\"name\":\"\xc3\xa4\"}"};
    std::vector<size_t> ends = {0};
    {
        JournalWriter journal(path);
        for (const std::string& text : texts) {
            journal.append(text);
            ends.push_back(ends.back() + 18 + text.size());
        }
    }
    const std::string whole = contents(path);
    ASSERT_EQ(whole.size(), ends.back());
    for (size_t bytes = 0; bytes <= whole.size(); ++bytes) {
        for (const std::string& tail : {std::string(), std::string("\0\0\0", 3), std::string("\n")}) {
            // Behind a whole line a newline of its own is a torn line as well.
            folder.write("journal.jsonl", whole.substr(0, bytes) + tail);
            const size_t expected =
                size_t(std::upper_bound(ends.begin(), ends.end(), bytes + (tail == "\n" ? 1 : 0)) - ends.begin()) - 1;
            const JournalLines read = read_journal(path);
            ASSERT_EQ(read.lines, std::vector<std::string>(texts.begin(), texts.begin() + long(expected))) << bytes;
            EXPECT_EQ(read.end.offset, ends[expected]);
            EXPECT_EQ(read.end.torn, bytes + tail.size() > ends[expected]);
            if (expected == 0 && tail == "\n") continue;
            {
                JournalWriter journal(path);
                EXPECT_EQ(journal.cut_bytes(), bytes + tail.size() - ends[expected]);
                journal.append("after");
            }
            EXPECT_EQ(contents(path), whole.substr(0, ends[expected]) + "da3cc93855af1681 after\n");
        }
    }
}

TEST(SearchJournal, AChangedByteEndsIt) {
    const TemporaryFolder folder;
    const std::string path = folder / "journal.jsonl";
    {
        JournalWriter journal(path);
        for (const char* text : {"first", "second", "third"}) journal.append(text);
    }
    const std::string whole = contents(path);
    const size_t line_ends[] = {23, 47, 70};
    ASSERT_EQ(whole.size(), line_ends[2]);
    for (size_t at = 0; at < whole.size(); ++at) {
        for (const char change : {'\x01', '\x20', '\x80'}) {
            std::string damaged = whole;
            damaged[at] = char(damaged[at] ^ change);
            folder.write("journal.jsonl", damaged);
            const size_t line = at < line_ends[0] ? 0 : at < line_ends[1] ? 1 : 2;
            EXPECT_EQ(read_journal(path).lines.size(), line) << at;
            EXPECT_TRUE(read_journal(path).end.torn) << at;
        }
    }
}

TEST(SearchJournal, ADamagedOneIsKept) {
    const TemporaryFolder folder;
    const std::string path = folder / "journal.jsonl";
    {
        JournalWriter journal(path);
        for (const char* text : {"first", "second", "third"}) journal.append(text);
    }
    const std::string whole = contents(path);
    // A torn end is nothing to keep.
    folder.write("journal.jsonl", whole.substr(0, 60));
    EXPECT_EQ(JournalWriter(path).damaged_copy(), "");
    for (const char* copy : {"journal.jsonl.damaged-1", "journal.jsonl.damaged-2"}) {
        std::string damaged = whole;
        damaged[30] ^= 1;
        folder.write("journal.jsonl", damaged);
        EXPECT_EQ(JournalWriter(path).damaged_copy(), folder / copy);
        EXPECT_EQ(contents(folder / copy), damaged);
        EXPECT_EQ(contents(path), whole.substr(0, 23));
    }
}

TEST(SearchJournal, IsReadWhileItIsWritten) {
    const TemporaryFolder folder;
    const std::string path = folder / "journal.jsonl";
    constexpr int lines = 3000;
    JournalWriter journal(path);
    std::atomic<bool> done = false;
    std::thread writer([&] {
        for (int i = 0; i < lines; ++i) {
            journal.append(std::string(size_t(i) % 700, 'x') + std::to_string(i));
            if (i % 10 == 9) journal.sync();
        }
        done = true;
    });
    std::vector<std::string> read;
    JournalEnd end;
    for (bool last = false; !last;) {
        last = done;
        end = read_journal(path, end.offset, [&](std::string_view line) { read.emplace_back(line); });
    }
    writer.join();
    ASSERT_EQ(read.size(), size_t(lines));
    for (int i = 0; i < lines; ++i) ASSERT_EQ(read[size_t(i)], std::string(size_t(i) % 700, 'x') + std::to_string(i));
    EXPECT_FALSE(end.torn);
}

TEST(SearchJournal, LongLines) {
    const TemporaryFolder folder;
    const std::string path = folder / "journal.jsonl";
    const std::string longest(most_journal_line_bytes, 'y');
    {
        JournalWriter journal(path);
        journal.append("short");
        journal.append(longest);
        journal.append("short");
        EXPECT_THROW(journal.append(longest + "y"), Error);
        EXPECT_THROW(journal.append("two\nlines"), Error);
    }
    EXPECT_THAT(read_journal(path).lines, ElementsAre("short", longest, "short"));
    std::ofstream(path, std::ios::app | std::ios::binary) << std::string(3 * most_journal_line_bytes, '0') << "\n";
    const JournalEnd end = read_journal(path).end;
    EXPECT_TRUE(end.torn);
    EXPECT_EQ(end.offset, 3 * 18 + 2 * 5 + most_journal_line_bytes);
}

TEST(SearchJournal, OtherFilesAreLeftAlone) {
    const TemporaryFolder folder;
    for (const std::string text : {"important\n", "z", "0123456789abcdef;", "\n"}) {
        const std::string path = folder.write("notes.txt", text);
        EXPECT_THAT([&] { JournalWriter journal(path); },
                    ThrowsMessage<Error>(HasSubstr("notes.txt: is no journal of a search")))
            << text;
        EXPECT_EQ(contents(path), text);
        EXPECT_THAT(read_journal(path).lines, IsEmpty());
    }
}

TEST(SearchJournal, PathsThatAreNoFile) {
    const TemporaryFolder folder;
    EXPECT_THAT([&] { read_journal(folder / "missing"); },
                ThrowsMessage<Error>(HasSubstr("missing: the journal cannot be opened (No such file or directory)")));
    EXPECT_THAT([&] { read_journal(folder.path()); }, ThrowsMessage<Error>(HasSubstr("is not a regular file")));
    EXPECT_THAT([&] { JournalWriter journal(folder.path()); }, ThrowsMessage<Error>(HasSubstr("cannot be opened")));
    EXPECT_THAT([&] { JournalWriter journal(folder / "no/journal"); },
                ThrowsMessage<Error>(HasSubstr("No such file or directory")));
    ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
    EXPECT_THAT([&] { read_journal(folder / "pipe"); }, ThrowsMessage<Error>(HasSubstr("is not a regular file")));
    EXPECT_THAT([&] { JournalWriter journal(folder / "pipe"); }, ThrowsMessage<Error>(HasSubstr("is not a regular")));
}

TEST(SearchJournal, OneWriterAtATime) {
    const TemporaryFolder folder;
    const std::string path = folder / "journal.jsonl";
    JournalWriter journal(path);
    EXPECT_THAT([&] { JournalWriter second(path); }, ThrowsMessage<Error>(HasSubstr("another process is writing")));
    // The one that is there for a moment only is waited for.
    std::thread ends([first = std::move(journal)]() mutable {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        JournalWriter ended = std::move(first);
    });
    EXPECT_NO_THROW(JournalWriter second(path));
    ends.join();
}

TEST(SearchJournal, AFullDiskIsToldAndNothingFollowsTheTornLine) {
    const TemporaryFolder folder;
    const std::string path = folder / "journal.jsonl";
    JournalWriter journal(path);
    journal.append("first");
    journal.sync();
    // A limit of the size of files stands in for a full disk.
    struct rlimit old {};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = old;
    limit.rlim_cur = 40;
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    journal.append("second, which is cut");
    EXPECT_THAT([&] { journal.sync(); },
                ThrowsMessage<Error>(HasSubstr("journal.jsonl: the journal cannot be written (File too large)")));
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
    std::signal(SIGXFSZ, handler);
    EXPECT_THAT([&] { journal.append("third"); }, ThrowsMessage<Error>(HasSubstr("could not be written before")));
    EXPECT_THAT([&] { journal.sync(); }, ThrowsMessage<Error>(HasSubstr("could not be written before")));
    EXPECT_EQ(contents(path).size(), 40u);
    EXPECT_THAT(read_journal(path).lines, ElementsAre("first"));
}

}  // namespace
}  // namespace amalgam
