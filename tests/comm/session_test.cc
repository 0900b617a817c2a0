#include "src/comm/session.h"

#include <gmock/gmock.h>

#include <chrono>
#include <map>

namespace amalgam {
namespace {

Launch with(const std::map<std::string, std::string>& variables) {
    return find_launch([&](const char* name) -> std::optional<std::string> {
        const auto found = variables.find(name);
        return found == variables.end() ? std::nullopt : std::optional<std::string>(found->second);
    });
}

TEST(FindLaunch, Alone) {
    const Launch launch = with({});
    EXPECT_FALSE(launch.parallel);
    EXPECT_EQ(launch.size, 1);
    EXPECT_EQ(launch.launcher, "");
}

TEST(FindLaunch, Mpirun) {
    Launch launch = with({{"OMPI_COMM_WORLD_SIZE", "4"},
                          {"OMPI_COMM_WORLD_RANK", "3"},
                          {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                          {"PMIX_RANK", "3"}});
    EXPECT_TRUE(launch.parallel);
    EXPECT_TRUE(launch.one_node);
    EXPECT_EQ(launch.rank, 3);
    EXPECT_EQ(launch.size, 4);
    launch = with({{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
    EXPECT_TRUE(launch.parallel);
    EXPECT_FALSE(launch.one_node);
    launch = with({{"OMPI_COMM_WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}});
    EXPECT_FALSE(launch.parallel);
}

TEST(FindLaunch, SlurmStep) {
    Launch launch = with({{"SLURM_STEP_ID", "0"},
                          {"SLURM_PROCID", "2"},
                          {"SLURM_STEP_NUM_TASKS", "8"},
                          {"SLURM_STEP_NUM_NODES", "2"},
                          {"SLURM_NTASKS", "8"}});
    EXPECT_TRUE(launch.parallel);
    EXPECT_FALSE(launch.one_node);
    EXPECT_EQ(launch.rank, 2);
    EXPECT_EQ(launch.size, 8);
    launch = with(
        {{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_STEP_NUM_NODES", "1"}});
    EXPECT_TRUE(launch.one_node);
    // One task in a large job.
    EXPECT_FALSE(
        with({{"SLURM_STEP_ID", "3"}, {"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_NTASKS", "8"}})
            .parallel);
}

TEST(FindLaunch, BatchScriptIsNoRank) {
    EXPECT_FALSE(with({{"SLURM_JOB_ID", "5"}, {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}}).parallel);
}

TEST(FindLaunch, OtherManagers) {
    Launch launch = with({{"PMI_RANK", "1"}, {"PMI_SIZE", "3"}});
    EXPECT_TRUE(launch.parallel);
    EXPECT_EQ(launch.rank, 1);
    EXPECT_EQ(launch.size, 3);
    EXPECT_FALSE(with({{"PMI_RANK", "0"}, {"PMI_SIZE", "1"}}).parallel);
    launch = with({{"PMIX_RANK", "1"}});
    EXPECT_TRUE(launch.parallel);
    EXPECT_EQ(launch.rank, 1);
    EXPECT_EQ(launch.size, 0);
}

TEST(FindLaunch, NonsenseIsIgnored) {
    EXPECT_FALSE(
        with({{"OMPI_COMM_WORLD_SIZE", "many"}, {"PMI_SIZE", "-3"}, {"PMIX_RANK", "1x"}, {"SLURM_STEP_ID", "1"}})
            .parallel);
    EXPECT_FALSE(with({{"OMPI_COMM_WORLD_SIZE", "0"}, {"PMI_SIZE", "99999999999"}, {"PMIX_RANK", ""}}).parallel);
}

TEST(Session, AloneStartsNothing) {
    const auto start = std::chrono::steady_clock::now();
    Session session;
    EXPECT_EQ(session.world().size(), 1);
    EXPECT_EQ(session.world().rank(), 0);
    // MPI takes 30 ms at best.
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(20));
}

TEST(SelfCommunicator, DoesNothingRight) {
    const std::unique_ptr<Communicator> self = self_communicator();
    std::vector<uint64_t> values = {3, 4};
    self->all_reduce_sum(std::span(values));
    self->all_reduce_max(std::span(values));
    EXPECT_THAT(values, testing::ElementsAre(3, 4));
    self->exclusive_sum(std::span(values));
    EXPECT_THAT(values, testing::ElementsAre(0, 0));
    std::string text = "text";
    self->broadcast(text, 0);
    EXPECT_EQ(text, "text");
    EXPECT_THAT(self->gather("a", 0), testing::ElementsAre("a"));
    EXPECT_THAT(self->all_gather("b"), testing::ElementsAre("b"));
    EXPECT_EQ(self->range(0, 1)->size(), 1);
    EXPECT_THROW(self->range(0, 2), Error);
    EXPECT_THROW(self->broadcast(text, 1), Error);
    EXPECT_THROW(self->send(text, 0, 0), Error);
    EXPECT_THAT([&] { self->agree("bad"); }, testing::ThrowsMessage<AgreedError>("bad"));
}

}  // namespace
}  // namespace amalgam
