#include "src/run/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "tests/base/temporary_folder.h"
#include "tests/run/test_files.h"

namespace amalgam {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

MATCHER_P3(Block, task, block, digest, "") {
    return arg.task == task && arg.block == block && arg.digest == uint64_t(digest);
}

std::vector<std::string> names_in(const std::string& folder) {
    std::vector<std::string> names;
    for (const auto& [name, contents] : tree_of(folder)) names.push_back(name);
    return names;
}

TEST(Journal, GivesBackWhatWasWritten) {
    const TemporaryFolder folder;
    {
        Journal journal(folder.path(), 3);
        for (int64_t block = 20; block >= 0; --block) journal.block_done(7, block, uint64_t(block) * 1000);
        journal.statistics_done(5, "first");
        journal.statistics_done(5, std::string("a\0b", 3));
        journal.statistics_done(-1, "");
        journal.block_done(int64_t{1} << 40, int64_t{1} << 41, UINT64_MAX);
    }
    const JournalContents contents = read_journals(folder.path());
    ASSERT_EQ(contents.blocks.size(), 22u);
    for (int64_t block = 0; block <= 20; ++block) EXPECT_EQ(contents.digest(7, block), uint64_t(block) * 1000);
    EXPECT_EQ(contents.digest(int64_t{1} << 40, int64_t{1} << 41), UINT64_MAX);
    EXPECT_EQ(contents.digest(7, 21), std::nullopt);
    EXPECT_EQ(contents.digest(6, 0), std::nullopt);
    EXPECT_THAT(contents.statistics, ElementsAre(Pair(-1, ""), Pair(5, std::string("a\0b", 3))));
}

TEST(Journal, NothingThereIsNothingDone) {
    const TemporaryFolder folder;
    folder.write("model.safetensors", "x");
    folder.write("journal-x-1", "not ours");
    folder.write("journal-000001-", "not ours");
    const JournalContents contents = read_journals(folder.path());
    EXPECT_TRUE(contents.blocks.empty());
    EXPECT_TRUE(contents.statistics.empty());
    EXPECT_THROW(read_journals(folder / "missing"), Error);
}

TEST(Journal, LaterStartsWin) {
    const TemporaryFolder folder;
    { Journal(folder.path(), 9).block_done(1, 1, 11); }
    { Journal(folder.path(), 10).block_done(1, 1, 22); }
    { Journal(folder.path(), 0).block_done(1, 1, 33); }
    EXPECT_THAT(names_in(folder.path()), ElementsAre("journal-000001-9", "journal-000002-10", "journal-000003-0"));
    EXPECT_THAT(read_journals(folder.path()).blocks, ElementsAre(Block(1, 1, 33)));
    {
        Journal journal(folder.path(), 4);
        for (uint64_t digest : {1, 2, 3}) journal.block_done(1, 1, digest);
    }
    EXPECT_THAT(read_journals(folder.path()).blocks, ElementsAre(Block(1, 1, 3)));
}

TEST(Journal, WritesInSmallGroups) {
    const TemporaryFolder folder;
    Journal journal(folder.path(), 0);
    for (int64_t block = 0; block < 7; ++block) journal.block_done(0, block, 1);
    EXPECT_EQ(read_journals(folder.path()).blocks.size(), 0u);
    journal.block_done(0, 7, 1);
    EXPECT_EQ(read_journals(folder.path()).blocks.size(), 8u);
    journal.block_done(0, 8, 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(260));
    journal.block_done(0, 9, 1);
    EXPECT_EQ(read_journals(folder.path()).blocks.size(), 10u);
    journal.block_done(0, 10, 1);
    journal.statistics_done(3, "s");
    EXPECT_EQ(read_journals(folder.path()).blocks.size(), 11u);
    EXPECT_EQ(read_journals(folder.path()).statistics.size(), 1u);
    journal.block_done(0, 11, 1);
    journal.flush();
    EXPECT_EQ(read_journals(folder.path()).blocks.size(), 12u);
}

TEST(Journal, ReadsUpToATornTail) {
    const TemporaryFolder folder;
    {
        Journal journal(folder.path(), 0);
        journal.statistics_done(0, "zero");
        journal.statistics_done(1, "one");
        for (int64_t block = 0; block < 16; ++block) journal.block_done(2, block, 5);
    }
    const std::string whole = contents_of(folder / "journal-000001-0");
    // Magic, two records of statistics, two groups of eight blocks.
    const std::vector<size_t> ends = {8, 8 + 16 + 8 + 4, 8 + 2 * 16 + 2 * 8 + 7, whole.size() - 16 - 8 * 24,
                                      whole.size()};
    ASSERT_EQ(ends[3] - ends[2], 16u + 8 * 24);
    const TemporaryFolder torn;
    for (size_t size = 0; size <= whole.size(); ++size) {
        torn.write("journal-000001-0", whole.substr(0, size));
        const JournalContents contents = read_journals(torn.path());
        ASSERT_EQ(contents.statistics.size(), size_t(size >= ends[1]) + size_t(size >= ends[2])) << size;
        ASSERT_EQ(contents.blocks.size(), 8 * (size_t(size >= ends[3]) + size_t(size >= ends[4]))) << size;
    }
}

TEST(Journal, AFlippedBitEndsTheFileAndNeverChangesARecord) {
    const TemporaryFolder folder;
    {
        Journal journal(folder.path(), 0);
        journal.statistics_done(1, "one");
        for (int64_t block = 0; block < 8; ++block) journal.block_done(2, block, 77);
        journal.statistics_done(3, "three");
    }
    const std::string whole = contents_of(folder / "journal-000001-0");
    const TemporaryFolder damaged;
    for (size_t byte = 0; byte < whole.size(); ++byte) {
        std::string bytes = whole;
        bytes[byte] = char(bytes[byte] ^ 1 << byte % 8);
        damaged.write("journal-000001-0", bytes);
        const JournalContents contents = read_journals(damaged.path());
        ASSERT_LT(contents.blocks.size() + contents.statistics.size(), 10u) << byte;
        for (const FinishedBlock& block : contents.blocks) ASSERT_EQ(block.digest, 77u) << byte;
        for (const auto& [task, text] : contents.statistics) ASSERT_EQ(text, task == 1 ? "one" : "three") << byte;
    }
}

TEST(Journal, ManyThreadsWriteWholeRecords) {
    const TemporaryFolder folder;
    {
        Journal journal(folder.path(), 0);
        std::vector<std::thread> threads;
        for (int64_t thread = 0; thread < 4; ++thread)
            threads.emplace_back([&journal, thread] {
                for (int64_t block = 0; block < 1000; ++block)
                    journal.block_done(thread, block, uint64_t(thread * block));
                journal.statistics_done(thread, std::string(size_t(10 * thread), 'x'));
            });
        for (std::thread& thread : threads) thread.join();
    }
    const JournalContents contents = read_journals(folder.path());
    ASSERT_EQ(contents.blocks.size(), 4000u);
    for (size_t i = 0; i < 4000; ++i)
        ASSERT_THAT(contents.blocks[i], Block(int64_t(i / 1000), int64_t(i % 1000), (i / 1000) * (i % 1000)));
    EXPECT_EQ(contents.statistics.size(), 4u);
}

TEST(Journal, AMillionBlocksAreReadFast) {
    const TemporaryFolder folder;
    constexpr int64_t blocks = 250'000;
    for (int rank = 0; rank < 4; ++rank) {
        Journal journal(folder.path(), rank);
        for (int64_t block = 0; block < blocks; ++block) journal.block_done(block % 723, 4 * block + rank, 1);
    }
    const auto began = std::chrono::steady_clock::now();
    const JournalContents contents = read_journals(folder.path());
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
    EXPECT_EQ(contents.blocks.size(), size_t(4 * blocks));
    RecordProperty("milliseconds", int(seconds.count() * 1000));
    EXPECT_LT(seconds.count(), 60) << "a few tenths are usual; sanitizers and busy machines get more";
}

TEST(Journal, ADiskThatTakesNoMoreIsAnErrorFromThenOn) {
    const TemporaryFolder folder;
    EXPECT_THAT(error_of([&] { Journal(folder / "missing", 0); }), HasSubstr("No such file"));
    Journal journal(folder.path(), 0);
    journal.statistics_done(1, "kept");
    struct rlimit before {};
    ::getrlimit(RLIMIT_FSIZE, &before);
    const auto old = std::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit { 100, before.rlim_max };
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string text = error_of([&] { journal.statistics_done(2, std::string(200, 'x')); });
    ::setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, old);
    EXPECT_THAT(text, HasSubstr("journal-000001-0: the journal cannot be written (File too large)"));
    // There is half a record now, behind which nothing would be found.
    EXPECT_THROW(journal.flush(), Error);
    EXPECT_THROW(journal.statistics_done(3, "lost"), Error);
    EXPECT_THAT(read_journals(folder.path()).statistics, ElementsAre(Pair(1, "kept")));
}

}  // namespace
}  // namespace amalgam
