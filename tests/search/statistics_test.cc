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

TEST(Statistics, IntervalOfSeveralTasks) {
    const std::vector<double> right = {1, 1, 1, 0}, wrong(40, 0.);
    const TaskItems one{9, right, {}}, other{1, wrong, {}};
    // Alone it is the interval of the mean; a score that is none moves it.
    EXPECT_NEAR(weighted_interval(0.75, {{one}}).first, wilson_interval(3, 4).first, 1e-12);
    EXPECT_NEAR(weighted_interval(0.65, {{one}}).second, wilson_interval(3, 4).second - 0.1, 1e-12);
    // Nine tenths of one and a tenth of the other, whatever their numbers of items.
    const double score = 0.9 * 0.75;
    const auto [low, high] = weighted_interval(score, {{one, other}});
    EXPECT_NEAR(low, score - 0.9 * (0.75 - wilson_interval(3, 4).first), 1e-12);
    EXPECT_NEAR(high,
                score + std::hypot(0.9 * (wilson_interval(3, 4).second - 0.75), 0.1 * wilson_interval(0, 40).second),
                1e-12);
}

TEST(Statistics, SignFlipTest) {
    std::vector<double> first, second, more(5, 0.), less(5, 0.);
    for (int item = 0; item < 9; ++item) {
        first.push_back(item < 6 ? 1 : 0.25);
        second.push_back(item < 6 ? 0 : 0.75);
    }
    more[0] = more[1] = 1;
    less[2] = 1;
    const std::vector<TaskItems> tasks = {{2, first, second}, {1, more, less}};
    EXPECT_EQ(sign_flip_test(std::vector<TaskItems>{{1, first, first}}), 1);
    // All signs, one after the other.
    std::vector<double> differences;
    for (const TaskItems& task : tasks)
        for (size_t item = 0; item < task.first.size(); ++item)
            differences.push_back(task.weight / double(task.first.size()) * (task.first[item] - task.second[item]));
    double seen = 0;
    for (double difference : differences) seen += difference;
    int as_large = 0;
    for (int signs = 0; signs < 1 << differences.size(); ++signs) {
        double sum = 0;
        for (size_t place = 0; place < differences.size(); ++place)
            sum += (signs >> place & 1) != 0 ? differences[place] : -differences[place];
        as_large += std::abs(sum) >= seen - 1e-12;
    }
    EXPECT_NEAR(sign_flip_test(tasks), double(as_large) / double(1 << differences.size()), 0.04);
}

}  // namespace
}  // namespace amalgam
