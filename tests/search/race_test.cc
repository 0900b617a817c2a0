#include "src/search/race.h"

#include <gmock/gmock.h>

#include <cmath>

#include "src/search/statistics.h"

namespace amalgam {
namespace {

using Items = std::vector<std::vector<double>>;

std::vector<Task> tasks_of(const std::vector<size_t>& sizes) {
    std::vector<Task> tasks;
    int32_t number = 0;
    for (size_t size : sizes) {
        Task& task = tasks.emplace_back();
        task.items.resize(size);
        for (TaskItem& item : task.items) item.answer = {number++};
    }
    return tasks;
}

double p_value(const Items& own, const Items& cut, const std::vector<double>& weights) {
    return race_p_value({own, cut, weights});
}

/// `right` of the first items, then `wrong`.
std::vector<double> items(int right, int wrong) {
    std::vector<double> scores(size_t(right), 1);
    scores.resize(size_t(right + wrong), 0);
    return scores;
}

TEST(Rounds, HaveEveryItemOnceInOrder) {
    for (const std::vector<size_t>& sizes :
         {std::vector<size_t>{1}, {31}, {32}, {33}, {256}, {7, 100}, {64, 1, 9}, {40, 24}})
        for (int64_t block : {1, 5, 32, 1000}) {
            const std::vector<Task> tasks = tasks_of(sizes);
            const auto rounds = rounds_of(tasks, block);
            for (size_t task = 0; task < tasks.size(); ++task) {
                std::vector<int32_t> seen;
                for (const auto& round : rounds) {
                    ASSERT_EQ(round.size(), tasks.size());
                    EXPECT_FALSE(round[task].items.empty());
                    for (const TaskItem& item : round[task].items) seen.push_back(item.answer[0]);
                }
                std::vector<int32_t> wanted;
                for (const TaskItem& item : tasks[task].items) wanted.push_back(item.answer[0]);
                EXPECT_EQ(seen, wanted);
            }
        }
    EXPECT_EQ(rounds_of(tasks_of({256}), 32).size(), 8u);
    EXPECT_EQ(rounds_of(tasks_of({256}), 0).size(), 1u);
    EXPECT_EQ(rounds_of(tasks_of({100, 3}), 32).size(), 3u);
}

TEST(Race, RightAndWrongAreComparedBySigns) {
    // 2 wins, 9 losses: (1 + 11 + 55) / 2^11.
    std::vector<double> own = items(2, 9), cut = items(0, 2);
    for (int loss = 0; loss < 9; ++loss) cut.push_back(1);
    own.insert(own.end(), 20, 1);
    cut.insert(cut.end(), 20, 1);
    EXPECT_NEAR(p_value({own}, {cut}, {1}), 67. / 2048, 1e-14);
    EXPECT_NEAR(2 * p_value({own}, {cut}, {1}), sign_test(own, cut), 1e-12);
    EXPECT_EQ(p_value({cut}, {own}, {1}), 1);
    EXPECT_EQ(p_value({own}, {own}, {1}), 1);
    // The cut may have answered more than the candidate so far.
    cut.insert(cut.end(), 50, 1);
    EXPECT_NEAR(p_value({own}, {cut}, {1}), 67. / 2048, 1e-14);
    // Two tasks whose items weigh the same are one.
    EXPECT_NEAR(p_value({items(0, 4), items(0, 8)}, {items(4, 0), items(8, 0)}, {1, 2}), std::pow(0.5, 12), 1e-15);
}

TEST(Race, GradedScoresAreComparedByStudentsT) {
    // Differences -0.1, -0.2, -0.3, -0.4: mean -0.25, t = -0.25 / (0.129099 / 2) = -3.872983 with 3 degrees of freedom.
    const Items own = {{0.4, 0.3, 0.2, 0.1}}, cut = {{0.5, 0.5, 0.5, 0.5}};
    // Distribution function of t with 3 degrees of freedom in closed form.
    const double t = -std::sqrt(15.), x = t / std::sqrt(3.);
    const double wanted = 0.5 + (x / (1 + x * x) + std::atan(x)) / M_PI;
    EXPECT_NEAR(p_value(own, cut, {1}), wanted, 1e-12);
    EXPECT_NEAR(p_value(own, cut, {7}), wanted, 1e-12);
    EXPECT_EQ(p_value(cut, own, {1}), 1);
    // A difference that is always the same is certain; one item says nothing.
    EXPECT_EQ(p_value({{0.2, 0.3}}, {{0.4, 0.5}}, {1}), 0);
    EXPECT_EQ(p_value({{0.2}}, {{0.4}}, {1}), 1);
    // Right and wrong with weights of their own; a task without weight decides nothing.
    EXPECT_LT(p_value({items(0, 30), items(20, 10)}, {items(20, 10), items(20, 10)}, {5, 1}), 1e-6);
    EXPECT_EQ(p_value({items(0, 30), items(20, 10)}, {items(20, 10), items(20, 10)}, {0, 1}), 1);
}

TEST(Race, SharesItsLevelOutAndNeverEndsWithTheLastRound) {
    const Items own = {items(0, 6)}, cut = {items(6, 0)};  // p = 1/64
    const std::vector<double> weights = {1};
    EXPECT_TRUE(is_beaten({own, cut, weights}, 0, 4, 0.05));   // 0.05 / 3 > 1/64
    EXPECT_FALSE(is_beaten({own, cut, weights}, 0, 5, 0.05));  // 0.05 / 4 < 1/64
    EXPECT_FALSE(is_beaten({own, cut, weights}, 3, 4, 0.05));
    EXPECT_FALSE(is_beaten({own, cut, weights}, 0, 1, 0.5));
    EXPECT_FALSE(is_beaten({own, cut, weights}, 0, 4, 0));
}

TEST(Race, EstimatesWhatAllItemsWouldGive) {
    // 1 of 4 where the cut has 3 of 4, of 6 in 8 altogether: 0.75 - 0.5.
    EXPECT_DOUBLE_EQ(race_estimate({Items{items(1, 3)}, Items{{1, 1, 1, 0, 1, 1, 1, 0}}, std::vector<double>{1}}),
                     0.25);
    EXPECT_DOUBLE_EQ(race_estimate({Items{{0.5}, {0.}}, Items{{0.5, 0.1}, {1, 1}}, std::vector<double>{3, 1}}),
                     (3 * 0.3 + 1 * 0) / 4);
}

}  // namespace
}  // namespace amalgam
