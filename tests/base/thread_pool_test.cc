#include "src/base/thread_pool.h"

#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "src/base/error.h"

namespace {

using amalgam::ThreadPool;

class Threads : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Pool, Threads, testing::Values(0, 1, 2, 3, 8));

TEST_P(Threads, EveryIndexOnce) {
    ThreadPool pool(GetParam());
    EXPECT_EQ(pool.threads(), std::max(1, GetParam()));
    for (const int64_t count : {0, 1, 2, 3, 7, 64, 1000, 12345}) {
        std::vector<int> calls(static_cast<size_t>(count), 0);
        pool.parallel_for(count, [&](int64_t index, int) { ++calls[size_t(index)]; });
        EXPECT_EQ(calls, std::vector<int>(static_cast<size_t>(count), 1));
    }
}

TEST_P(Threads, EachHasItsOwnNumber) {
    ThreadPool pool(GetParam());
    std::vector<int> inside(static_cast<size_t>(pool.threads()), 0);
    std::vector<int64_t> sums(static_cast<size_t>(pool.threads()), 0);
    for (int round = 0; round < 20; ++round) {
        pool.parallel_for(1000, [&](int64_t index, int thread) {
            ASSERT_EQ(++inside[size_t(thread)], 1);
            sums[size_t(thread)] += index;
            --inside[size_t(thread)];
        });
    }
    EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), int64_t{0}), 20 * 999 * 500);
}

TEST_P(Threads, ManyShortLoops) {
    ThreadPool pool(GetParam());
    std::atomic<int64_t> sum = 0;
    for (int round = 0; round < 3000; ++round)
        pool.parallel_for(3, [&](int64_t index, int) { sum.fetch_add(index + 1, std::memory_order_relaxed); });
    EXPECT_EQ(sum.load(), 3000 * 6);
}

TEST_P(Threads, ExceptionComesOutAndThePoolGoesOn) {
    ThreadPool pool(GetParam());
    std::atomic<int64_t> calls = 0;
    const auto body = [&](int64_t index, int) {
        ++calls;
        if (index == 5) throw std::runtime_error("five");
    };
    EXPECT_THAT([&] { pool.parallel_for(1'000'000, body); }, testing::ThrowsMessage<std::runtime_error>("five"));
    EXPECT_LT(calls.load(), 1'000'000);
    calls = 0;
    pool.parallel_for(4, [&](int64_t, int) { ++calls; });
    EXPECT_EQ(calls.load(), 4);
}

TEST_P(Threads, OneOfManyExceptionsComesOut) {
    ThreadPool pool(GetParam());
    for (int round = 0; round < 100; ++round)
        EXPECT_THROW(pool.parallel_for(50, [](int64_t, int) { throw std::runtime_error("each"); }), std::runtime_error);
}

TEST_P(Threads, LoopInALoopIsAnError) {
    ThreadPool pool(GetParam());
    const auto nested = [&](int64_t, int) { pool.parallel_for(1, [](int64_t, int) {}); };
    EXPECT_THROW(pool.parallel_for(1, nested), amalgam::Error);
    EXPECT_THROW(pool.parallel_for(10, nested), amalgam::Error);
    ThreadPool other(GetParam());
    std::atomic<int> calls = 0;
    pool.parallel_for(1, [&](int64_t, int) { other.parallel_for(5, [&](int64_t, int) { ++calls; }); });
    EXPECT_EQ(calls.load(), 5);
}

TEST_P(Threads, CallsOfSeveralThreads) {
    ThreadPool pool(GetParam());
    std::vector<std::thread> callers;
    std::vector<int64_t> sums(3, 0);
    for (size_t caller = 0; caller < 3; ++caller)
        callers.emplace_back([&, caller] {
            for (int round = 0; round < 100; ++round) {
                std::atomic<int64_t> sum = 0;
                pool.parallel_for(10, [&](int64_t index, int) { sum += index; });
                sums[caller] += sum.load();
            }
        });
    for (std::thread& caller : callers) caller.join();
    EXPECT_THAT(sums, testing::Each(4500));
}

TEST(Pool, ThreadsShareTheWork) {
    ThreadPool pool(2);
    std::atomic<int> arrived = 0;
    // Each body waits for the other: only two threads can end this.
    pool.parallel_for(2, [&](int64_t, int) {
        ++arrived;
        const auto start = std::chrono::steady_clock::now();
        while (arrived < 2 && std::chrono::steady_clock::now() - start < std::chrono::seconds(20))
            std::this_thread::yield();
    });
    EXPECT_EQ(arrived.load(), 2);
}

TEST(Pool, WakesSleepers) {
    ThreadPool pool(3);
    std::atomic<int> calls = 0;
    for (int round = 0; round < 20; ++round) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        pool.parallel_for(30, [&](int64_t, int) { ++calls; });
    }
    EXPECT_EQ(calls.load(), 600);
}

TEST(Pool, RefusesImpossibleNumbers) {
    EXPECT_THROW(ThreadPool(-1), amalgam::Error);
    EXPECT_THROW(ThreadPool(1 << 20), amalgam::Error);
}

}  // namespace
