#include "src/run/watchdog.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>

namespace amalgam {
namespace {

using namespace std::chrono_literals;

TEST(Watchdog, Expires) {
    std::atomic<bool> expired{false};
    Watchdog watchdog(0.05, [&] { expired = true; });
    for (int i = 0; i < 1000 && !expired; ++i) std::this_thread::sleep_for(10ms);
    EXPECT_TRUE(expired);
}

TEST(Watchdog, TouchedInTimeItDoesNot) {
    std::atomic<int> expired{0};
    {
        Watchdog watchdog(30, [&] { ++expired; });
        for (int i = 0; i < 5; ++i) {
            watchdog.touch();
            std::this_thread::sleep_for(1ms);
        }
    }
    EXPECT_EQ(expired, 0);
}

TEST(Watchdog, NeverWithoutSeconds) {
    std::atomic<int> expired{0};
    {
        Watchdog watchdog(0, [&] { ++expired; });
        std::this_thread::sleep_for(20ms);
    }
    EXPECT_EQ(expired, 0);
}

TEST(Watchdog, SecondsFromTheEnvironment) {
    setenv("AMALGAM_WATCHDOG_SECONDS", "2.5", 1);
    EXPECT_EQ(watchdog_seconds(), 2.5);
    setenv("AMALGAM_WATCHDOG_SECONDS", "soon", 1);
    EXPECT_EQ(watchdog_seconds(), 1800);
    unsetenv("AMALGAM_WATCHDOG_SECONDS");
    EXPECT_EQ(watchdog_seconds(), 1800);
}

}  // namespace
}  // namespace amalgam
