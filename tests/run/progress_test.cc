#include "src/run/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>
#include <vector>

#include "src/base/log.h"
#include "src/run/descriptor.h"

namespace amalgam {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;

TEST(DurationText, ReadsWell) {
    EXPECT_EQ(duration_text(0), "0 s");
    EXPECT_EQ(duration_text(0.2), "1 s");
    EXPECT_EQ(duration_text(59), "59 s");
    EXPECT_EQ(duration_text(59.5), "1 min 00 s");
    EXPECT_EQ(duration_text(200), "3 min 20 s");
    EXPECT_EQ(duration_text(7500), "2 h 05 min");
    EXPECT_EQ(duration_text(1e30), "277777 h 46 min");
    EXPECT_EQ(duration_text(-5), "0 s");
}

TEST(ProgressText, PlainLine) {
    EXPECT_EQ(progress_text({"merging", 61'000'000'000, 141'000'000'000, 3.1e9, 0}),
              "merging: 43 %, 61 GB of 141 GB, 3.1 GB/s, 26 s left");
    EXPECT_EQ(progress_text({"merging", 0, 141'000'000'000, 0, 0}), "merging: 0 %, 0 B of 141 GB");
    EXPECT_EQ(progress_text({"merging", 141, 141, 10, 0}), "merging: 100 %, 141 B of 141 B, 10 B/s");
    EXPECT_EQ(progress_text({"reading", 5000, 0, 1000, 0}), "reading: 5 kB, 1 kB/s");
}

TEST(ProgressText, HundredPercentMeansDone) {
    EXPECT_THAT(progress_text({"merging", 999'999, 1'000'000, 0, 0}), StartsWith("merging: 99 %"));
    EXPECT_THAT(progress_text({"merging", 2'000'000, 1'000'000, 0, 0}), StartsWith("merging: 100 %, 1 MB of 1 MB"));
}

TEST(ProgressText, BarFillsItsShare) {
    EXPECT_EQ(progress_text({"x", 0, 100, 0, 40}), "x [>              ]   0 %, 0 B of 100 B");
    EXPECT_EQ(progress_text({"x", 50, 100, 0, 40}), "x [=======>      ]  50 %, 50 B of 100 B");
    EXPECT_EQ(progress_text({"x", 100, 100, 0, 40}), "x [=============] 100 %, 100 B of 100 B");
    for (int columns = 1; columns < 200; ++columns) {
        const std::string text = progress_text({"merging", 61'000'000'000, 141'000'000'000, 3.1e9, columns});
        EXPECT_LT(int(text.size()), columns);
        EXPECT_LE(text.size(), 7u + 3 + 40 + 1 + 60);
    }
}

/// What reaches a pseudo terminal while `body` runs.
std::string seen_on_terminal(const std::function<void(int terminal)>& body) {
    ::setenv("TERM", "xterm", 1);
    struct winsize size {};
    size.ws_col = 100;
    int master = -1, slave = -1;
    if (::openpty(&master, &slave, nullptr, nullptr, &size) != 0) throw std::runtime_error("no pseudo terminal");
    const Descriptor close_master(master), close_slave(slave);
    body(slave);
    ::fcntl(master, F_SETFL, O_NONBLOCK);
    std::string seen;
    char piece[4096];
    for (ssize_t count; (count = ::read(master, piece, sizeof piece)) > 0;) seen.append(piece, size_t(count));
    return seen;
}

TEST(Progress, DrawsOneLineOnATerminalAndWipesIt) {
    const std::string seen = seen_on_terminal([](int terminal) {
        Progress progress({"merging", 1000, false, nullptr, terminal});
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i)
            threads.emplace_back([&] {
                for (int k = 0; k < 100; ++k) progress.add(1);
            });
        for (std::thread& thread : threads) thread.join();
        std::this_thread::sleep_for(milliseconds(700));  // a busy machine draws late
        progress.finish();
    });
    EXPECT_THAT(seen, AllOf(StartsWith("\rmerging ["), HasSubstr("]  40 %, 400 B of 1 kB"), EndsWith("\r\x1b[K"),
                            Not(HasSubstr("\n"))));
}

TEST(Progress, TheCallerKnowsWhatAllRanksHaveDone) {
    const std::string seen = seen_on_terminal([](int terminal) {
        Progress progress({"merging", 1000, false, [](uint64_t own) { return 3 * own; }, terminal});
        progress.add(300);
        std::this_thread::sleep_for(milliseconds(700));
    });
    EXPECT_THAT(seen, HasSubstr(" 90 %, 900 B of 1 kB"));
}

TEST(Progress, QuietIsQuiet) {
    EXPECT_EQ(seen_on_terminal([](int terminal) {
                  Progress progress({"merging", 1000, true, nullptr, terminal});
                  progress.add(300);
                  std::this_thread::sleep_for(milliseconds(700));
                  progress.finish();
              }),
              "");
}

TEST(Progress, ShortJobsPrintNoLine) {
    int pipe[2] = {-1, -1};
    ASSERT_EQ(::pipe(pipe), 0);
    const Descriptor in(pipe[0]), out(pipe[1]);
    testing::internal::CaptureStderr();
    {
        Progress progress({"merging", 1000, false, nullptr, out.number()});
        progress.add(1000);
        progress.finish();
    }
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Progress, LongerJobsEndWithALine) {
    int pipe[2] = {-1, -1};
    ASSERT_EQ(::pipe(pipe), 0);
    const Descriptor in(pipe[0]), out(pipe[1]);
    testing::internal::CaptureStderr();
    {
        Progress progress({"merging", 1'000'000, false, nullptr, out.number()});
        std::this_thread::sleep_for(milliseconds(550));
        progress.add(1'000'000);
        progress.finish();
        progress.finish();
    }
    EXPECT_THAT(testing::internal::GetCapturedStderr(),
                MatchesRegex("merging: 100 %, 1 MB of 1 MB, [0-9.]+ [kM]B/s\n"));
    testing::internal::CaptureStderr();
    {
        const Progress failed({"merging", 1'000'000, false, nullptr, out.number()});
        std::this_thread::sleep_for(milliseconds(550));
    }
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "") << "what failed is not at 100 %";
}

}  // namespace
}  // namespace amalgam
