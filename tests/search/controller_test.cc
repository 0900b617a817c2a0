#include "src/search/controller.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <random>

#include "src/base/error.h"
#include "tests/search/simulated_groups.h"

namespace amalgam {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<SearchJob> some_jobs(int count, int64_t first_id = 1) {
    std::vector<SearchJob> jobs;
    for (int number = 0; number < count; ++number) {
        SearchJob job;
        job.id = first_id + number;
        job.instruction = std::to_string(job.id);
        jobs.push_back(job);
    }
    return jobs;
}

/// A controller over simulated groups, and what it told.
struct Rig {
    Rig(int groups, SimulatedGroups::Duration duration, ControllerSettings settings = {})
        : pool(groups, std::move(duration)),
          controller(
              pool, settings, [this](const SearchJob& job, const JobResult&) { finished.push_back(job.id); },
              [this](int group, const std::string& reason) {
                  lost.push_back(group);
                  reasons.push_back(reason);
              }) {}
    SimulatedGroups pool;
    std::vector<int64_t> finished;
    std::vector<int> lost;
    std::vector<std::string> reasons;
    SearchController controller;
};

void expect_answers(const std::vector<std::optional<JobResult>>& results, const std::vector<SearchJob>& jobs) {
    ASSERT_EQ(results.size(), jobs.size());
    for (size_t place = 0; place < jobs.size(); ++place) {
        ASSERT_TRUE(results[place]) << place;
        EXPECT_TRUE(results[place]->valid);
        EXPECT_EQ(results[place]->id, jobs[place].id);
        EXPECT_EQ(results[place]->answer, "answer to " + jobs[place].instruction);
    }
}

TEST(SearchController, ResultsAreInTheOrderOfTheJobs) {
    for (int groups : {1, 2, 3, 7, 64}) {
        std::mt19937 random(5);
        Rig rig(groups, [&](int, const SearchJob&) { return 0.1 + double(random() % 1000) / 100; });
        const auto jobs = some_jobs(20);
        expect_answers(rig.controller.run(jobs), jobs);
        EXPECT_EQ(rig.finished.size(), 20u);
        EXPECT_TRUE(rig.lost.empty());
    }
}

TEST(SearchController, GroupsAreBusyAllTheTime) {
    Rig rig(64, [](int, const SearchJob&) { return 0.5; });
    const auto jobs = some_jobs(64 * 10);
    rig.controller.run(jobs);
    EXPECT_NEAR(rig.pool.now(), 5, 0.01);
    EXPECT_EQ(rig.pool.started(), 640);
}

TEST(SearchController, LongestFirst) {
    std::vector<int64_t> order;
    Rig rig(1, [&](int, const SearchJob& job) {
        order.push_back(job.id);
        return 1.;
    });
    auto jobs = some_jobs(4);
    jobs[1].cost = 3;
    jobs[3].cost = 2;
    rig.controller.run(jobs);
    EXPECT_THAT(order, ElementsAre(2, 4, 1, 3));
}

TEST(SearchController, ALostGroupCostsARetry) {
    ControllerSettings settings;
    settings.lease = 10;
    settings.speculate = false;
    Rig rig(
        3, [](int group, const SearchJob&) { return group == 1 ? SimulatedGroups::forever : 1; }, settings);
    const auto jobs = some_jobs(9);
    const auto results = rig.controller.run(jobs);
    expect_answers(results, jobs);
    EXPECT_THAT(rig.lost, ElementsAre(1));
    EXPECT_THAT(rig.reasons[0], HasSubstr("20 s"));  // 20 times the median of 1 s
    EXPECT_EQ(results[1]->attempt, 2);
    EXPECT_EQ(rig.controller.groups_left(), 2);
    EXPECT_EQ(rig.pool.started(), 10);
    // It is not asked again.
    const auto more = some_jobs(4, 100);
    expect_answers(rig.controller.run(more), more);
    EXPECT_EQ(rig.pool.started(), 14);
}

TEST(SearchController, ACandidateThatLosesGroupsFails) {
    ControllerSettings settings;
    settings.lease = 10;
    settings.speculate = false;
    Rig rig(
        5, [](int, const SearchJob& job) { return job.id == 2 ? SimulatedGroups::forever : 1; }, settings);
    const auto results = rig.controller.run(some_jobs(4));
    EXPECT_TRUE(results[0]->valid);
    EXPECT_FALSE(results[1]->valid);
    EXPECT_THAT(results[1]->error, HasSubstr("2 groups that tried it were lost"));
    EXPECT_EQ(rig.lost.size(), 2u);
}

TEST(SearchController, AllGroupsLostIsAnError) {
    ControllerSettings settings;
    settings.lease = 1;
    Rig rig(
        2, [](int, const SearchJob&) { return SimulatedGroups::forever; }, settings);
    EXPECT_THROW(rig.controller.run(some_jobs(3)), Error);
}

TEST(SearchController, AGroupThatWasOnlySlowComesBack) {
    ControllerSettings settings;
    settings.lease = 5;
    settings.speculate = false;
    Rig rig(
        2, [](int group, const SearchJob& job) { return group == 1 && job.id == 2 ? 30. : 2.; }, settings);
    const auto jobs = some_jobs(40);
    const auto results = rig.controller.run(jobs);
    expect_answers(results, jobs);
    EXPECT_THAT(rig.lost, testing::IsEmpty());  // 20 x 2 s: the lease grew
    Rig hasty(
        2, [](int group, const SearchJob& job) { return group == 1 && job.id == 2 ? 120. : 2.; }, settings);
    const auto again = hasty.controller.run(some_jobs(100));
    EXPECT_THAT(hasty.lost, ElementsAre(1));
    EXPECT_EQ(hasty.controller.groups_left(), 2);
    EXPECT_EQ(again[1]->group, 0);
}

TEST(SearchController, StragglersAreRunTwice) {
    // The first run of job 3 takes a hundred times as long.
    Rig rig(4, [](int, const SearchJob& job) { return job.id == 3 && job.attempt == 1 ? 100. : 1.; });
    const auto jobs = some_jobs(12);
    expect_answers(rig.controller.run(jobs), jobs);
    EXPECT_LT(rig.pool.now(), 10);
    EXPECT_TRUE(rig.lost.empty());
    EXPECT_EQ(std::count(rig.finished.begin(), rig.finished.end(), 3), 1);
}

TEST(SearchController, AQuorumGivesUpTheRest) {
    ControllerSettings settings;
    settings.quorum = 0.9;
    settings.speculate = false;
    Rig rig(
        10, [](int, const SearchJob& job) { return job.id == 4 ? 50. : 1.; }, settings);
    const auto results = rig.controller.run(some_jobs(10));
    EXPECT_FALSE(results[3]);
    EXPECT_EQ(std::count_if(results.begin(), results.end(), [](const auto& each) { return each.has_value(); }), 9);
    EXPECT_NEAR(rig.pool.now(), 1.2, 0.6);
    // Its answer comes while others are at work.
    for (int64_t batch = 1; batch < 40; ++batch) rig.controller.run(some_jobs(18, 100 * batch));
    const auto late = rig.controller.late();
    EXPECT_EQ(std::count_if(late.begin(), late.end(), [](const JobResult& each) { return each.id == 4; }), 1);
}

TEST(SearchController, StopsBeforeWorkIsHandedOut) {
    int begun = 0;
    Rig rig(2, [&](int, const SearchJob&) {
        ++begun;
        return 1.;
    });
    const auto results = rig.controller.run(some_jobs(10), [&] { return begun >= 5; });
    EXPECT_EQ(begun, 5);
    EXPECT_EQ(std::count_if(results.begin(), results.end(), [](const auto& each) { return each.has_value(); }), 5);
}

}  // namespace
}  // namespace amalgam
