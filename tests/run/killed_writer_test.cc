// A writer of blocks killed with -9 at random moments: what journals and digests agree on is in the files for good, and what
// was lost is no more than what waited in memory.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <random>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "src/run/journal.h"
#include "src/run/output_files.h"
#include "tests/base/temporary_folder.h"

namespace amalgam {
namespace {

constexpr int64_t tasks = 2, blocks_of_task = 600;
constexpr uint64_t block_bytes = 32'771, data_begin = 4096;

OutputLayout make_layout() {
    OutputLayout layout;
    for (int64_t task = 0; task < tasks; ++task) {
        const uint64_t bytes = data_begin + blocks_of_task * block_bytes;
        layout.files.push_back({std::to_string(task), std::string(data_begin, '{'), data_begin, bytes});
        layout.file_bytes += bytes;
    }
    return layout;
}

std::vector<std::byte> block_of(int64_t task, int64_t block) {
    std::vector<std::byte> bytes(block_bytes);
    uint64_t word = uint64_t(task * 1'000'003 + block + 1);
    for (std::byte& byte : bytes) byte = std::byte((word = word * 6364136223846793005u + 1442695040888963407u) >> 56);
    return bytes;
}

uint64_t place_of(int64_t block) { return data_begin + uint64_t(block) * block_bytes; }

constexpr uint64_t waiting_memory = uint64_t{1} << 20;
/// A chunk more of each file may be on its way to the disk.
constexpr size_t most_lost = size_t((waiting_memory + 2 * (uint64_t{2} << 20)) / block_bytes + 4);

using Places = std::set<std::pair<int64_t, int64_t>>;

/// Blocks of the journals whose bytes are in the files.
Places finished_blocks(const std::string& folder, const OutputLayout& layout, size_t* lost = nullptr) {
    Places finished;
    OutputFiles files(folder, layout, waiting_memory);
    std::vector<std::byte> bytes(block_bytes);
    for (const FinishedBlock& block : read_journals(folder).blocks) {
        files.read(int(block.task), place_of(block.block), bytes);
        if (block_digest(bytes) == block.digest)
            finished.insert({block.task, block.block});
        else if (lost)
            ++*lost;
    }
    return finished;
}

/// What is not finished yet, by two threads.
void work(const std::string& folder, const OutputLayout& layout, int rank) {
    const Places done = finished_blocks(folder, layout);
    OutputFiles files(folder, layout, waiting_memory);
    Journal journal(folder, rank);
    const auto half = [&](int64_t task) {
        for (int64_t block = 0; block < blocks_of_task; ++block) {
            if (done.contains({task, block})) continue;
            const std::vector<std::byte> bytes = block_of(task, block);
            files.write(int(task), place_of(block), bytes);
            journal.block_done(task, block, block_digest(bytes));
        }
    };
    std::thread other(half, 0);
    half(1);
    other.join();
    journal.flush();
    files.sync();
}

TEST(KilledWriter, WhatIsFinishedStaysAndLittleIsLost) {
    const TemporaryFolder folder;
    const OutputLayout layout = make_layout();
    OutputFiles::create(folder.path(), layout);
    std::mt19937 random(20240607);
    Places finished;
    size_t kills = 0, went_on = 0;
    bool complete = false;
    for (int start = 0; start < 200 && !complete; ++start) {
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            work(folder.path(), layout, start % 3);
            ::_exit(0);
        }
        ::usleep(useconds_t(random() % 24'000));
        ::kill(child, SIGKILL);
        int status = 0;
        ::waitpid(child, &status, 0);
        complete = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        kills += complete ? 0 : 1;

        size_t lost = 0;
        Places now = finished_blocks(folder.path(), layout, &lost);
        ASSERT_TRUE(std::includes(now.begin(), now.end(), finished.begin(), finished.end()))
            << "finished work was lost";
        ASSERT_LE(lost, most_lost);
        for (const auto& [task, block] : now) ASSERT_LT(block, blocks_of_task) << task;
        went_on += now.size() > finished.size() && !finished.empty();
        finished = std::move(now);
    }
    // However slow the machine is, the last start may take its time.
    if (!complete) work(folder.path(), layout, 0);
    EXPECT_GE(kills, 2u);
    EXPECT_GE(went_on + (complete ? 0 : 2), 1u);

    ASSERT_EQ(finished_blocks(folder.path(), layout).size(), size_t(tasks * blocks_of_task));
    OutputFiles files(folder.path(), layout);
    std::vector<std::byte> bytes(block_bytes);
    for (int64_t task = 0; task < tasks; ++task)
        for (int64_t block = 0; block < blocks_of_task; ++block) {
            files.read(int(task), place_of(block), bytes);
            ASSERT_TRUE(bytes == block_of(task, block)) << task << " " << block;
        }
}

}  // namespace
}  // namespace amalgam
