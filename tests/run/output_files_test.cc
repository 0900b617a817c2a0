#include "src/run/output_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <thread>
#include <vector>

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
