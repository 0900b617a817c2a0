#include "src/base/awake_clock.h"

#include <gtest/gtest.h>

namespace amalgam {
namespace {

TEST(AwakeClock, LeavesOutWhatIsLongerThanAGap) {
    AwakeClock clock;
    EXPECT_EQ(clock.at(1000), 0);
    EXPECT_EQ(clock.at(1001), 1);
    EXPECT_EQ(clock.at(1001 + AwakeClock::longest_gap), 1 + AwakeClock::longest_gap);
    EXPECT_EQ(clock.at(5000), 1 + AwakeClock::longest_gap);  // stopped for an hour
    EXPECT_EQ(clock.at(5000.5), 1.5 + AwakeClock::longest_gap);
    EXPECT_EQ(clock.at(5000.5), 1.5 + AwakeClock::longest_gap);
}

TEST(AwakeClock, NeverGoesBack) {
    AwakeClock clock;
    double before = clock.now();
    for (int i = 0; i < 1000; ++i) {
        const double now = clock.now();
        EXPECT_GE(now, before);
        before = now;
    }
    EXPECT_LT(before, 1);
}

}  // namespace
}  // namespace amalgam
