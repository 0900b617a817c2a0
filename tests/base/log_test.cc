#include "src/base/log.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using amalgam::LogLevel;

class Log : public testing::Test {
  protected:
    void TearDown() override {
        amalgam::set_log_rank(0, 1);
        amalgam::set_log_level(LogLevel::info);
    }
};

template <class Body>
std::string captured(Body body) {
    testing::internal::CaptureStderr();
    body();
    return testing::internal::GetCapturedStderr();
}

TEST_F(Log, LinesSayTheirLevel) {
    EXPECT_EQ(captured([] {
                  amalgam::log_debug("unseen");
                  amalgam::log_info("{} models", 3);
                  amalgam::log_warning("odd");
                  amalgam::log_error("bad");
              }),
              "3 models\nwarning: odd\nerror: bad\n");
}

TEST_F(Log, LevelsBelowTheOneSetAreDropped) {
    amalgam::set_log_level(LogLevel::error);
    EXPECT_EQ(captured([] {
                  amalgam::log_warning("odd");
                  amalgam::log_error("bad");
              }),
              "error: bad\n");
    amalgam::set_log_level(LogLevel::silent);
    EXPECT_EQ(captured([] { amalgam::log_error("bad"); }), "");
    amalgam::set_log_level(LogLevel::debug);
    EXPECT_EQ(captured([] { amalgam::log_debug("seen"); }), "seen\n");
}

TEST_F(Log, OnlyRankZeroSpeaksForAll) {
    amalgam::set_log_rank(2, 4);
    EXPECT_EQ(captured([] {
                  amalgam::log_error("shared");
                  amalgam::log_here(LogLevel::warning, "{}", "mine");
              }),
              "rank 2: warning: mine\n");
    amalgam::set_log_rank(0, 4);
    EXPECT_EQ(captured([] { amalgam::log_error("shared"); }), "error: shared\n");
}

TEST_F(Log, LinesOfSeveralThreadsStayWhole) {
    const std::string text = captured([] {
        std::vector<std::thread> threads;
        for (int thread = 0; thread < 4; ++thread)
            threads.emplace_back([thread] {
                for (int i = 0; i < 50; ++i) amalgam::log_info("{}", std::string(300, char('a' + thread)));
            });
        for (std::thread& thread : threads) thread.join();
    });
    std::istringstream lines(text);
    int count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
        ASSERT_EQ(line.size(), 300u);
        EXPECT_EQ(std::count(line.begin(), line.end(), line[0]), 300);
    }
    EXPECT_EQ(count, 200);
}

}  // namespace
