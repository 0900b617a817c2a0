#include "src/run/fingerprint.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cstdio>
#include <set>

#include "tests/base/temporary_folder.h"
#include "tests/run/test_files.h"

namespace amalgam {
namespace {

std::string some_bytes(size_t size) {
    std::string bytes(size, '\0');
    for (size_t i = 0; i < size; ++i) bytes[i] = char(i * 31 + i / 4096);
    return bytes;
}

TEST(Fingerprint, SmallFilesAreHashedWhole) {
    const TemporaryFolder folder;
    for (size_t size : {size_t{0}, size_t{1}, size_t{4095}, size_t{4096}, size_t{4097}, size_t{64 * 4096}}) {
        const std::string bytes = some_bytes(size);
        const Fingerprint found = fingerprint(folder.write("x", bytes), 7);
        EXPECT_EQ(found.bytes, size);
        EXPECT_EQ(found.header, 7u);
        EXPECT_EQ(found.sample, XXH64(bytes.data(), bytes.size(), 0)) << size;
    }
}

TEST(Fingerprint, LargeFilesAreHashedAtEvenlySpreadPages) {
    const TemporaryFolder folder;
    // 9 pages, the last of 5 bytes; 5 samples: pages 0, 2, 4, 6, 8.
    const std::string bytes = some_bytes(8 * 4096 + 5);
    std::string sampled;
    for (size_t page : {0, 2, 4, 6, 8}) sampled += bytes.substr(page * 4096, 4096);
    ASSERT_EQ(sampled.size(), 4u * 4096 + 5);
    EXPECT_EQ(fingerprint(folder.write("x", bytes), 0, 5).sample, XXH64(sampled.data(), sampled.size(), 0));
    EXPECT_EQ(fingerprint(folder / "x", 0, 1).sample, XXH64(bytes.data(), 4096, 0));
}

TEST(Fingerprint, ChangesAtBothEndsAndInTheMiddleAreSeen) {
    const TemporaryFolder folder;
    const size_t size = 1000 * 4096 + 100;
    std::set<std::string> seen;
    seen.insert(fingerprint(folder.write("x", some_bytes(size)), 0).text());
    std::string changed = some_bytes(size);
    changed.front() = 'x';
    seen.insert(fingerprint(folder.write("x", changed), 0).text());
    changed = some_bytes(size);
    changed.back() = 'x';
    seen.insert(fingerprint(folder.write("x", changed), 0).text());
    // A change of a tenth of the file in one run covers sampled pages wherever it lies.
    changed = some_bytes(size);
    changed.replace(size / 2, size / 10, size / 10, 'x');
    seen.insert(fingerprint(folder.write("x", changed), 0).text());
    EXPECT_EQ(seen.size(), 4u);
}

TEST(Fingerprint, IsTheSameForCopiesAndAfterATouch) {
    const TemporaryFolder folder;
    const std::string first = folder.write("x", some_bytes(500'000)), second = folder.write("y", some_bytes(500'000));
    const struct timespec times[2] = {{1000, 0}, {1000, 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, second.c_str(), times, 0), 0);
    EXPECT_EQ(fingerprint(first, 1), fingerprint(second, 1));
    EXPECT_NE(fingerprint(first, 1), fingerprint(second, 2));
}

TEST(Fingerprint, HugeFilesAreNoTrouble) {
    const TemporaryFolder folder;
    const std::string path = folder.write("x", "");
    ASSERT_EQ(::truncate(path.c_str(), int64_t{10} << 40), 0) << "10 TiB of nothing";
    const Fingerprint found = fingerprint(path, 0);
    EXPECT_EQ(found.bytes, uint64_t{10} << 40);
    const std::string zeros(64 * 4096, '\0');
    EXPECT_EQ(found.sample, XXH64(zeros.data(), zeros.size(), 0));
}

TEST(Fingerprint, WhatCannotBeReadIsAnError) {
    const TemporaryFolder folder;
    EXPECT_NE(error_of([&] { fingerprint(folder / "missing", 0); }).find("No such file"), std::string::npos);
    EXPECT_NE(error_of([&] { fingerprint(folder.path(), 0); }).find("not a regular file"), std::string::npos);
    ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
    EXPECT_THROW(fingerprint(folder / "pipe", 0), Error);
}

TEST(JobKey, EveryPartAndItsBordersCount) {
    const std::set<std::string> keys = {job_key({}),      job_key({""}),        job_key({"", ""}),
                                        job_key({"a"}),   job_key({"ab", "c"}), job_key({"a", "bc"}),
                                        job_key({"abc"}), job_key({"c", "ab"})};
    EXPECT_EQ(keys.size(), 8u);
    for (const std::string& key : keys) {
        EXPECT_EQ(key.size(), 32u);
        EXPECT_EQ(key.find_first_not_of("0123456789abcdef"), std::string::npos);
    }
    EXPECT_EQ(job_key({"recipe", "inputs"}), job_key({"recipe", "inputs"}));
    // A key must not change from one start to the next, nor from one build to the next.
    const std::string bytes("\1\0\0\0\0\0\0\0a", 9);
    const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
    char text[33];
    std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                  static_cast<unsigned long long>(hash.low64));
    EXPECT_EQ(job_key({"a"}), text);
}

}  // namespace
}  // namespace amalgam
