#include "src/run/output_files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "src/run/descriptor.h"
#include "tests/base/temporary_folder.h"
#include "tests/run/test_files.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// Files of the given sizes, with headers of one page.
OutputLayout layout_of(const std::vector<uint64_t>& data, uint64_t header = 4096) {
    OutputLayout layout;
    for (size_t i = 0; i < data.size(); ++i) {
        const std::string name = "model-" + std::to_string(i) + ".safetensors";
        layout.files.push_back({name, std::string(header, char('A' + i % 26)), header, header + data[i]});
        layout.file_bytes += header + data[i];
        layout.tensor_bytes += data[i];
    }
    return layout;
}

std::vector<std::byte> pattern(uint64_t seed, size_t size) {
    std::vector<std::byte> bytes(size);
    for (size_t i = 0; i < size; ++i) bytes[i] = std::byte((seed * 131 + i * 7 + i / 251) & 0xff);
    return bytes;
}

std::string as_text(const std::vector<std::byte>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// In a child, so that limits and mounts stay there: its exit code, 77 to skip.
int in_child(const std::function<int()>& body) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(body());
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

TEST(OutputFiles, CreatesFullSizesWithHeaders) {
    const TemporaryFolder folder;
    const OutputLayout layout = layout_of({100'000, 0, 5});
    OutputFiles::create(folder.path(), layout);
    EXPECT_EQ(contents_of(folder / "model-0.safetensors"), layout.files[0].header + std::string(100'000, '\0'));
    EXPECT_EQ(contents_of(folder / "model-1.safetensors"), layout.files[1].header);
    EXPECT_EQ(contents_of(folder / "model-2.safetensors"), layout.files[2].header + std::string(5, '\0'));
    struct stat status {};
    ASSERT_EQ(::stat((folder / "model-0.safetensors").c_str(), &status), 0);
    EXPECT_GE(status.st_blocks * 512, 100'000) << "space is reserved";
}

TEST(OutputFiles, KeepsDataOfTheRightSizeAndRepairsTheRest) {
    const TemporaryFolder folder;
    const OutputLayout layout = layout_of({10, 10, 10});
    folder.write("model-0.safetensors", std::string(4096, '\0') + "0123456789");  // killed before the header
    folder.write("model-1.safetensors", "short");
    folder.write("model-2.safetensors", std::string(5000, 'x'));
    OutputFiles::create(folder.path(), layout);
    EXPECT_EQ(contents_of(folder / "model-0.safetensors"), layout.files[0].header + "0123456789");
    EXPECT_EQ(contents_of(folder / "model-1.safetensors"), layout.files[1].header + std::string(10, '\0'));
    EXPECT_EQ(contents_of(folder / "model-2.safetensors"), layout.files[2].header + std::string(10, '\0'));
}

TEST(OutputFiles, WritesFromManyThreadsArrive) {
    const TemporaryFolder folder;
    constexpr size_t block = 100'003;  // borders of blocks and chunks never meet
    constexpr size_t blocks = 150;
    const OutputLayout layout = layout_of({block * blocks, block * blocks}, 8192);
    OutputFiles::create(folder.path(), layout);
    OutputFiles files(folder.path(), layout);
    std::atomic<size_t> next{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
            for (size_t k = next++; k < 2 * blocks; k = next++)
                files.write(int(k % 2), 8192 + k / 2 * block, pattern(k, block));
        });
    for (std::thread& thread : threads) thread.join();
    files.sync();
    for (int file = 0; file < 2; ++file) {
        std::string expected = layout.files[size_t(file)].header;
        for (size_t k = 0; k < blocks; ++k) expected += as_text(pattern(2 * k + size_t(file), block));
        EXPECT_TRUE(contents_of(folder / layout.files[size_t(file)].name) == expected) << file;
    }
    std::vector<std::byte> back(block);
    files.read(1, 8192 + 17 * block, back);
    EXPECT_TRUE(back == pattern(35, block));
}

TEST(OutputFiles, ManyFilesStayWithinTheLimitOfOpenOnes) {
    const TemporaryFolder folder;
    const OutputLayout layout = layout_of(std::vector<uint64_t>(80, 100));
    OutputFiles::create(folder.path(), layout);
    const int code = in_child([&] {
        const struct rlimit limit { 75, 75 };
        ::setrlimit(RLIMIT_NOFILE, &limit);
        try {
            OutputFiles files(folder.path(), layout);
            for (int round = 0; round < 2; ++round)
                for (int file = 0; file < 80; ++file)
                    files.write(file, 4096 + uint64_t(round) * 50, pattern(uint64_t(file), 50));
            files.sync();
        } catch (const Error&) {
            return 1;
        }
        return 0;
    });
    ASSERT_EQ(code, 0);
    for (int file = 0; file < 80; ++file) {
        const std::string half = as_text(pattern(uint64_t(file), 50));
        ASSERT_EQ(contents_of(folder / layout.files[size_t(file)].name).substr(4096), half + half);
    }
}

/// Bytes of the data of a file, and who writes them.
struct Piece {
    int file = 0;
    uint64_t begin = 0, end = 0;  ///< in the file
    int owner = 0;                ///< -1: nobody
};

/// All data in pieces of 1 byte to 300 kB in nearly ascending order, every file by turns. Owners change at pages only.
std::vector<Piece> random_pieces(const OutputLayout& layout, std::mt19937& random, int owners, bool gaps) {
    std::vector<Piece> pieces;
    for (size_t file = 0; file < layout.files.size(); ++file)
        for (uint64_t begin = layout.files[file].data_begin; begin < layout.files[file].bytes;) {
            const uint64_t end_of_owner =
                std::min((begin / 4096 + 1 + random() % 300) * 4096, layout.files[file].bytes);
            const int owner = gaps && random() % 8 == 0 ? -1 : int(random() % unsigned(owners));
            while (begin < end_of_owner) {
                const uint64_t most = random() % 4 == 0 ? 5'000 : 300'000;
                const uint64_t end = std::min(begin + 1 + random() % most, end_of_owner);
                pieces.push_back({int(file), begin, end, owner});
                begin = end;
            }
        }
    std::vector<std::pair<uint64_t, Piece>> order;
    for (const Piece& piece : pieces) order.push_back({piece.begin + random() % 1'000'000, piece});
    std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::transform(order.begin(), order.end(), pieces.begin(), [](const auto& entry) { return entry.second; });
    return pieces;
}

std::vector<std::byte> bytes_of(const Piece& piece) {
    return pattern(uint64_t(piece.file) * 1'000'003 + piece.begin, piece.end - piece.begin);
}

/// Writes pieces by `threads` threads for each owner, each owner with its own object, and compares whole files. What
/// nobody writes holds 'z' before and after.
void write_and_compare(const std::string& folder, std::mt19937& random, int owners, int threads, uint64_t memory,
                       bool sync_between) {
    const OutputLayout layout = layout_of({5'300'001, 2'100'000, 4096 * 300, 900'000, 4'194'304}, 8192);
    std::vector<std::string> expected;
    for (const OutputLayout::File& file : layout.files) {
        expected.push_back(file.header + std::string(file.bytes - file.data_begin, 'z'));
        std::ofstream(folder + "/" + file.name) << expected.back();
    }
    OutputFiles::create(folder, layout);
    const std::vector<Piece> pieces = random_pieces(layout, random, owners, true);
    for (const Piece& piece : pieces)
        if (piece.owner >= 0)
            expected[size_t(piece.file)].replace(piece.begin, piece.end - piece.begin, as_text(bytes_of(piece)));

    std::vector<std::unique_ptr<OutputFiles>> outputs;
    std::vector<std::atomic<size_t>> next(static_cast<size_t>(owners));
    std::vector<std::thread> running;
    for (int owner = 0; owner < owners; ++owner) {
        outputs.push_back(std::make_unique<OutputFiles>(folder, layout, memory));
        for (int thread = 0; thread < threads; ++thread)
            running.emplace_back([&, owner, &files = *outputs.back()] {
                for (size_t k = next[size_t(owner)]++; k < pieces.size(); k = next[size_t(owner)]++) {
                    if (pieces[k].owner == owner) files.write(pieces[k].file, pieces[k].begin, bytes_of(pieces[k]));
                    if (sync_between && k == pieces.size() / 2) files.sync();
                }
            });
    }
    for (std::thread& thread : running) thread.join();
    for (const auto& files : outputs) files->sync();
    for (size_t file = 0; file < layout.files.size(); ++file)
        ASSERT_TRUE(contents_of(folder + "/" + layout.files[file].name) == expected[file]) << file;
}

class OutputFilesOfAnyMemory : public testing::TestWithParam<uint64_t> {};

TEST_P(OutputFilesOfAnyMemory, RandomPiecesOfManyThreadsArrive) {
    std::mt19937 random(unsigned(GetParam()) + 1);
    for (int round = 0; round < 2; ++round) {
        const TemporaryFolder folder;
        write_and_compare(folder.path(), random, 1, 4, GetParam(), round == 1);
    }
}

TEST_P(OutputFilesOfAnyMemory, NeighbouringPagesHaveDifferentWriters) {
    std::mt19937 random(unsigned(GetParam()) + 2);
    for (int round = 0; round < 2; ++round) {
        const TemporaryFolder folder;
        write_and_compare(folder.path(), random, 2, 2, GetParam(), round == 1);
    }
}

INSTANTIATE_TEST_SUITE_P(Memory, OutputFilesOfAnyMemory, testing::Values(0, 5'000'000, 64 << 20));

TEST(OutputFiles, FileSystemInMemory) {
    std::string folder = "/dev/shm/amalgam-test-XXXXXX";
    if (!::mkdtemp(folder.data())) GTEST_SKIP() << "no /dev/shm";
    std::mt19937 random(5);
    write_and_compare(folder, random, 2, 2, 1 << 20, true);
    std::filesystem::remove_all(folder);
}

TEST(OutputFiles, WhatWaitsIsWrittenAtTheEndWithoutSync) {
    const TemporaryFolder folder;
    const OutputLayout layout = layout_of({6'000'000});
    OutputFiles::create(folder.path(), layout);
    OutputFiles(folder.path(), layout).write(0, 4096 + 1'000'001, pattern(3, 3'000'000));
    EXPECT_TRUE(contents_of(folder / "model-0.safetensors") == layout.files[0].header + std::string(1'000'001, '\0') +
                                                                   as_text(pattern(3, 3'000'000)) +
                                                                   std::string(1'999'999, '\0'));
}

TEST(OutputFiles, FullChunksDoNotWaitForSync) {
    const TemporaryFolder folder;
    const OutputLayout layout = layout_of({8'000'000});
    OutputFiles::create(folder.path(), layout);
    OutputFiles files(folder.path(), layout);
    files.write(0, 4096, pattern(9, 5'000'000));
    const std::string expected = layout.files[0].header + as_text(pattern(9, 5'000'000));
    const auto arrived = [&] {
        return contents_of(folder / "model-0.safetensors").substr(0, 4 << 20) == expected.substr(0, 4 << 20);
    };
    // However slow the disk: a minute.
    for (int turn = 0; turn < 6000 && !arrived(); ++turn) ::usleep(10'000);
    EXPECT_TRUE(arrived());
}

/// Pages of a file that are in the page cache.
size_t cached_pages(const std::string& path, uint64_t bytes) {
    const Descriptor file(::open(path.c_str(), O_RDONLY));
    void* memory = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file.number(), 0);
    std::vector<unsigned char> there((bytes + 4095) / 4096);
    if (memory == MAP_FAILED || ::mincore(memory, bytes, there.data()) != 0) return SIZE_MAX;
    ::munmap(memory, bytes);
    return size_t(std::count_if(there.begin(), there.end(), [](unsigned char page) { return page & 1; }));
}

TEST(OutputFiles, BulkDataGoesPastThePageCache) {
    const TemporaryFolder folder;
    const OutputLayout layout = layout_of({10'000'000, 10'000'000});
    OutputFiles::create(folder.path(), layout);
    const std::string path = folder / "model-0.safetensors";
    if (!Descriptor(::open(path.c_str(), O_WRONLY | O_DIRECT))) GTEST_SKIP() << "the file system does not offer it";
    // The header's page, the end, and where pieces meet while both are there: only what came in parts of pages.
    OutputFiles files(folder.path(), layout);
    for (uint64_t at = 0; at < 10'000'000; at += 100'000) files.write(0, 4096 + at, pattern(at, 100'000));
    files.sync();
    EXPECT_LE(cached_pages(path, 10'004'096), 4u);
    // A hole of one byte a megabyte: nothing outside of its page suffers.
    for (uint64_t at = 0; at < 10'000'000; at += 1'000'000) files.write(1, 4096 + at, pattern(at, 999'999));
    files.sync();
    EXPECT_LE(cached_pages(folder / "model-1.safetensors", 10'004'096), 30u);
}

TEST(OutputFiles, ManyLargeFilesStayWithinTheLimitOfOpenOnes) {
    const TemporaryFolder folder;
    const OutputLayout layout = layout_of(std::vector<uint64_t>(45, 1'100'000));
    OutputFiles::create(folder.path(), layout);
    const int code = in_child([&] {
        const struct rlimit limit { 80, 80 };
        ::setrlimit(RLIMIT_NOFILE, &limit);
        return error_of([&] {
                   OutputFiles files(folder.path(), layout);
                   for (uint64_t round = 0; round < 2; ++round)
                       for (int file = 0; file < 45; ++file)
                           files.write(file, 4096 + round * 550'000, pattern(uint64_t(file), 550'000));
                   files.sync();
               }) == "no error"
                   ? 0
                   : 1;
    });
    ASSERT_EQ(code, 0);
    for (int file = 0; file < 45; ++file) {
        const std::string half = as_text(pattern(uint64_t(file), 550'000));
        ASSERT_TRUE(contents_of(folder / layout.files[size_t(file)].name).substr(4096) == half + half) << file;
    }
}

/// A file that may not grow beyond its first MiB, as if the disk were full there.
int beyond_the_limit(const std::string& folder, uint64_t memory) {
    const OutputLayout layout = layout_of({40'000'000});
    std::ofstream(folder + "/model-0.safetensors").put('x');
    const struct rlimit limit { 1 << 20, 1 << 20 };
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::signal(SIGXFSZ, SIG_IGN);
    OutputFiles files(folder, layout, memory);
    const auto told = [](const std::string& text) {
        return text.find("model-0.safetensors: bytes ") != std::string::npos &&
               text.find("cannot be written (File too large)") != std::string::npos;
    };
    const std::string first = error_of([&] {
        for (uint64_t at = 0; at < 40'000'000; at += 500'000) files.write(0, 4096 + at, pattern(at, 500'000));
        files.sync();
    });
    if (!told(first)) return 1;
    if (error_of([&] { files.write(0, 4096, pattern(0, 1)); }) != first) return 2;
    if (error_of([&] { files.sync(); }) != first) return 3;
    return 0;
}

TEST_P(OutputFilesOfAnyMemory, ErrorsOfTheBackgroundComeWithTheNextCallAndStay) {
    const TemporaryFolder folder;
    EXPECT_EQ(in_child([&] { return beyond_the_limit(folder.path(), GetParam()); }), 0);
}

TEST(OutputFiles, RefusesBytesOutsideOfTheData) {
    const TemporaryFolder folder;
    const OutputLayout layout = layout_of({100});
    OutputFiles::create(folder.path(), layout);
    OutputFiles files(folder.path(), layout);
    const auto bytes = pattern(0, 60);
    EXPECT_THROW(files.write(0, 4095, bytes), Error);
    EXPECT_THROW(files.write(0, 4096 + 41, bytes), Error);
    EXPECT_THROW(files.write(0, UINT64_MAX - 10, bytes), Error);
    EXPECT_THROW(files.write(1, 4096, bytes), Error);
    EXPECT_THROW(files.write(-1, 4096, bytes), Error);
    files.write(0, 4096 + 40, bytes);
}

TEST(OutputFiles, ErrorsNameFileRangeAndReason) {
    const TemporaryFolder folder;
    const OutputLayout layout = layout_of({100});
    {
        OutputFiles files(folder.path(), layout);
        EXPECT_THAT(error_of([&] { files.write(0, 4096, pattern(0, 10)); }),
                    AllOf(HasSubstr(folder / "model-0.safetensors"), HasSubstr("No such file")));
    }
    OutputFiles::create(folder.path(), layout);
    OutputFiles files(folder.path(), layout);
    ASSERT_EQ(::truncate((folder / "model-0.safetensors").c_str(), 4100), 0);
    std::vector<std::byte> back(10);
    EXPECT_THAT(error_of([&] { files.read(0, 4096, back); }), AllOf(HasSubstr("ends at byte 4100"), HasSubstr("4196")));
    EXPECT_THAT(error_of([&] { OutputFiles::create(folder / "missing", layout); }), HasSubstr("No such file"));
    std::filesystem::remove(folder / "model-0.safetensors");
    std::filesystem::create_symlink("victim", folder / "model-0.safetensors");
    EXPECT_THAT(error_of([&] { OutputFiles::create(folder.path(), layout); }), HasSubstr("model-0.safetensors"));
    EXPECT_FALSE(std::filesystem::exists(folder / "victim"));
}

TEST(OutputFiles, WhatCannotFitIsRefusedBeforeAnythingIsReserved) {
    const TemporaryFolder folder;
    OutputLayout layout = layout_of({100});
    layout.files[0].bytes = 4'000'000'000'000'000'000;
    layout.file_bytes = layout.files[0].bytes;
    EXPECT_THAT(
        error_of([&] { OutputFiles::create(folder.path(), layout); }),
        AllOf(HasSubstr("needs"), HasSubstr("(4000000000000000000 bytes)"), HasSubstr("free in " + folder.path())));
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(OutputFiles, ALimitOfTheShellIsAnErrorNotASignal) {
    const TemporaryFolder folder;
    const int code = in_child([&] {
        const struct rlimit limit { 10'000, 10'000 };
        ::setrlimit(RLIMIT_FSIZE, &limit);
        const std::string text = error_of([&] { OutputFiles::create(folder.path(), layout_of({100'000})); });
        return text.find("ulimit -f") != std::string::npos ? 0 : 1;
    });
    EXPECT_EQ(code, 0);
}

/// A file system of 1 MiB of its own, if this machine lets us.
int on_small_disk(const std::string& folder, const std::function<int()>& body) {
    if (::unshare(CLONE_NEWNS | (::geteuid() == 0 ? 0 : CLONE_NEWUSER)) != 0) return 77;
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 77;
    if (::mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=1m") != 0) return 77;
    return body();
}

TEST(OutputFiles, AFullDiskShowsWhenFilesAreCreated) {
    const TemporaryFolder folder;
    const int code = in_child([&] {
        return on_small_disk(folder.path(), [&] {
            const std::string text = error_of([&] {
                OutputFiles::create(folder.path(), layout_of({300'000, 300'000, 900'000}));
            });
            const bool told = text.find("No space left") != std::string::npos &&
                              text.find("(1512288 bytes)") != std::string::npos &&
                              text.find("1048576") != std::string::npos;
            return told && std::filesystem::is_empty(folder.path()) ? 0 : 1;
        });
    });
    if (code == 77) GTEST_SKIP() << "no file system of our own";
    EXPECT_EQ(code, 0);
}

TEST(OutputFiles, AFullDiskShowsInAWrite) {
    const TemporaryFolder folder;
    const int code = in_child([&] {
        return on_small_disk(folder.path(), [&] {
            const OutputLayout layout = layout_of({2'000'000});
            // As where space cannot be reserved.
            folder.write("model-0.safetensors", "");
            if (::truncate((folder / "model-0.safetensors").c_str(), 2'004'096) != 0) return 2;
            OutputFiles files(folder.path(), layout);
            const std::string text = error_of([&] { files.write(0, 4096, pattern(0, 2'000'000)); });
            return text.find("No space left") != std::string::npos &&
                           text.find("(2004096 bytes)") != std::string::npos &&
                           text.find("to 2004096 cannot be written") != std::string::npos
                       ? 0
                       : 1;
        });
    });
    if (code == 77) GTEST_SKIP() << "no file system of our own";
    EXPECT_EQ(code, 0);
}

}  // namespace
}  // namespace amalgam
