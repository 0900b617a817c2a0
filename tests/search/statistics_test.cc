#include "src/search/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace amalgam {
namespace {

TEST(Statistics, WilsonsInterval) {
    // Textbook values: 15 of 20, and none of 10.
    EXPECT_NEAR(wilson_interval(15, 20).first, 0.5313, 1e-4);
    EXPECT_NEAR(wilson_interval(15, 20).second, 0.8881, 1e-4);
    EXPECT_EQ(wilson_interval(0, 10).first, 0);
    EXPECT_NEAR(wilson_interval(0, 10).second, 0.2775, 1e-4);
    EXPECT_NEAR(wilson_interval(10, 10).first, 1 - 0.2775, 1e-4);
    EXPECT_EQ(wilson_interval(0, 0), std::pair(0., 1.));
}

TEST(Statistics, MeansOfGradedScores) {
    const std::vector<double> graded = {0.2, 0.4, 0.6, 0.8};
    const double deviation = std::sqrt((0.09 + 0.01 + 0.01 + 0.09) / 3 / 4);
    EXPECT_NEAR(mean_interval(graded).first, 0.5 - 1.959964 * deviation, 1e-6);
    EXPECT_NEAR(mean_interval(graded).second, 0.5 + 1.959964 * deviation, 1e-6);
    const std::vector<double> right = {1, 0, 1, 1};
    EXPECT_EQ(mean_interval(right), wilson_interval(3, 4));
}

TEST(Statistics, SignTest) {
    const auto test = [](int more, int less, int same) {
        std::vector<double> a, b;
        for (int i = 0; i < more; ++i) a.push_back(1), b.push_back(0);
        for (int i = 0; i < less; ++i) a.push_back(0), b.push_back(1);
        for (int i = 0; i < same; ++i) a.push_back(1), b.push_back(1);
        return sign_test(a, b);
    };
    EXPECT_EQ(test(0, 0, 9), 1);
    EXPECT_NEAR(test(5, 0, 3), 2. / 32, 1e-12);
    EXPECT_NEAR(test(1, 6, 0), 2 * (1 + 7) / 128., 1e-12);
    EXPECT_EQ(test(4, 4, 2), 1);
    // 2 sum_{k<=400} C(1000, k) / 2^1000, from exact integers.
    EXPECT_NEAR(test(600, 400, 0) / 2.728466e-10, 1, 1e-4);
}

}  // namespace
}  // namespace amalgam
