// One thing after the other is wrong with a job, and each is named; nothing is found where nothing is wrong.
#include "src/run/findings.h"

#include <gmock/gmock.h>

#include <map>

namespace amalgam {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
constexpr uint64_t gigabyte = 1'000'000'000;

/// Two nodes with two ranks of four cores and a GPU each.
std::vector<RankSurroundings> healthy() {
    std::vector<RankSurroundings> ranks;
    for (int rank = 0; rank < 4; ++rank) {
        RankSurroundings here;
        here.rank = rank;
        here.ranks = here.job_ranks = 4;
        here.host = rank < 2 ? "n1" : "n2";
        here.launcher = "srun";
        here.version = "1";
        const int first = rank % 2 * 4;
        here.cores = {first, first + 1, first + 2, first + 3};
        here.machine_cores = 8;
        here.memory = 64 * gigabyte;
        here.cgroup = 2;
        here.shared_memory = 32 * gigabyte;
        here.locked_memory = UINT64_MAX;
        here.open_files = 65536;
        here.fast_network = here.gpu_devices = true;
        here.gpus = {{"A GPU", rank % 2 == 0 ? "0000:01:00" : "0000:02:00", 40 * gigabyte, true}};
        here.temporary = {"/tmp", "", "", 10 * gigabyte, 0, 0, false};
        if (rank % 2 == 0) here.disks = {{"/scratch", "", "lustre", 1000 * gigabyte, 1e9, 1e9, true}};
        ranks.push_back(here);
    }
    return ranks;
}

DoctorQuestions questions() { return {{"/scratch"}, {}, 0, gigabyte, 1 << 20}; }

std::vector<std::string> names(const std::vector<Finding>& findings) {
    std::vector<std::string> found;
    for (const Finding& finding : findings) {
        found.push_back(finding.name);
        EXPECT_NE(finding.what, "");
        EXPECT_NE(finding.why, "") << finding.what;
        EXPECT_NE(finding.remedy, "") << finding.what;
    }
    return found;
}

/// The names of what is found when each rank of node n1 (or all) is changed so.
template <class Change>
std::vector<Finding> found(const Change& change, const std::string& host = "n1", DoctorQuestions asked = questions()) {
    std::vector<RankSurroundings> ranks = healthy();
    for (RankSurroundings& rank : ranks)
        if (host.empty() || rank.host == host) change(rank);
    return find_problems(ranks, asked);
}

TEST(Findings, NoneInAHealthyJob) {
    EXPECT_THAT(find_problems(healthy(), questions()), IsEmpty());
    EXPECT_THAT(find_problems({}, questions()), IsEmpty());
}

TEST(Findings, NoneInALoneProcess) {
    RankSurroundings here = healthy()[0];
    here.ranks = here.job_ranks = 1;
    here.launcher = "";
    EXPECT_THAT(find_problems({here}, questions()), IsEmpty());
    // Messages between ranks do not matter then.
    here.shared_memory = here.locked_memory = 0;
    EXPECT_THAT(find_problems({here}, questions()), IsEmpty());
}

TEST(Findings, OneProcessInAJobOfFour) {
    RankSurroundings here = healthy()[0];
    here.ranks = 1;
    here.launcher = "";
    const auto findings = find_problems({here}, questions());
    EXPECT_THAT(names(findings), ElementsAre("not-launched"));
    EXPECT_THAT(findings[0].what, HasSubstr("4 tasks"));
}

TEST(Findings, OneCoreBoundForAllRanks) {
    const auto findings = found([](auto& rank) { rank.cores = {3}; });
    ASSERT_THAT(names(findings), ElementsAre("bound-to-few-cores"));
    EXPECT_THAT(findings[0].what, HasSubstr("2 ranks may run on 1 core of 8 only (3)"));
    EXPECT_THAT(findings[0].hosts, ElementsAre("n1"));
}

TEST(Findings, OneCoreForEachRank) {
    EXPECT_THAT(names(found([](auto& rank) { rank.cores = {rank.rank}; })), ElementsAre("one-core-each"));
    // All cores are in use so, or the machine has no more.
    EXPECT_THAT(found([](auto& rank) { rank.cores = {rank.rank}, rank.machine_cores = 2; }), IsEmpty());
    // One rank on a node too.
    std::vector<RankSurroundings> ranks = healthy();
    ranks = {ranks[0], ranks[2]};
    ranks[1].cores = {5};
    const auto findings = find_problems(ranks, questions());
    ASSERT_THAT(names(findings), ElementsAre("one-core-each"));
    EXPECT_THAT(findings[0].what, HasSubstr("the only rank is bound to one core, 1 of 8"));
}

TEST(Findings, AFolderThatIsAnotherOneOnTheSecondNode) {
    const auto local = [](auto& rank) {
        for (auto& disk : rank.disks) disk.shared = false;
    };
    EXPECT_THAT(found(local, "n2"), IsEmpty());  // a disk of the node's own may be that
    DoctorQuestions asked = questions();
    asked.shared = {"/scratch"};
    const auto findings = found(local, "n2", asked);
    ASSERT_THAT(names(findings), ElementsAre("not-shared /scratch"));
    EXPECT_THAT(findings[0].what, HasSubstr("another folder here than on n1"));
    EXPECT_THAT(findings[0].hosts, ElementsAre("n2"));
}

TEST(Findings, FewerCoresThanRanks) {
    EXPECT_THAT(names(found([](auto& rank) { rank.cores = {0}, rank.machine_cores = 1; })),
                ElementsAre("more-ranks-than-cores"));
}

TEST(Findings, TimeOfFewerCoresThanItSees) {
    EXPECT_THAT(names(found([](auto& rank) { rank.core_time = 1.5; })), ElementsAre("core-time"));
    EXPECT_THAT(found([](auto& rank) { rank.core_time = 8; }), IsEmpty());
}

TEST(Findings, MemoryControlGroupTooSmall) {
    const auto small = [](auto& rank) { rank.memory = rank.memory_limit = gigabyte; };
    const auto findings = found(small);
    ASSERT_THAT(names(findings), ElementsAre("little-memory"));
    EXPECT_THAT(findings[0].what, HasSubstr("control group (limit 1 GB)"));
    DoctorQuestions asked = questions();
    asked.memory = 100'000'000;
    EXPECT_THAT(found(small, "n1", asked), IsEmpty());
    asked.memory = 600'000'000;
    EXPECT_THAT(names(found(small, "n1", asked)), ElementsAre("memory-budget"));
    asked.memory = UINT64_MAX;
    EXPECT_THAT(names(found(small, "n1", asked)), ElementsAre("memory-budget"));
    EXPECT_THAT(names(found([](auto& rank) { rank.memory = 0; })), ElementsAre("little-memory"));
}

TEST(Findings, MoreMemoryThanTheJobWasGiven) {
    const auto given = [](auto& rank) { rank.job_memory = 4 * gigabyte; };
    const auto findings = found(given);
    ASSERT_THAT(names(findings), ElementsAre("more-than-asked-for"));
    EXPECT_THAT(findings[0].remedy, HasSubstr("--memory 1.6 GB"));
    DoctorQuestions asked = questions();
    asked.memory = gigabyte;
    EXPECT_THAT(found(given, "n1", asked), IsEmpty());
    // A control group that holds it to that is what half of the free memory is reckoned from.
    EXPECT_THAT(found([](auto& rank) { rank.job_memory = rank.memory_limit = rank.memory = 4 * gigabyte; }), IsEmpty());
}

TEST(Findings, TemporaryFolder) {
    auto findings = found([](auto& rank) { rank.temporary.error = "No space left on device"; });
    ASSERT_THAT(names(findings), ElementsAre("temporary-folder"));
    EXPECT_THAT(findings[0].what, HasSubstr("No space left"));
    findings = found([](auto& rank) { rank.temporary.free = 1000; });
    ASSERT_THAT(names(findings), ElementsAre("temporary-folder"));
    EXPECT_THAT(findings[0].what, HasSubstr("is full"));
    // Not again as one of the disks.
    findings = found([](auto& rank) {
        rank.temporary.error = "full";
        for (auto& disk : rank.disks) disk = rank.temporary;
    });
    EXPECT_THAT(names(findings), ElementsAre("temporary-folder"));
}

TEST(Findings, Disks) {
    const auto each_disk = [](const auto& change) {
        return found([&](auto& rank) {
            for (auto& disk : rank.disks) change(disk);
        });
    };
    EXPECT_THAT(names(each_disk([](auto& disk) { disk.error = "Read-only file system"; })),
                ElementsAre("disk /scratch"));
    EXPECT_THAT(names(each_disk([](auto& disk) { disk.free = gigabyte - 1; })), ElementsAre("room /scratch"));
    // Texts from outside do not reach the terminal as they are.
    const auto findings = each_disk([](auto& disk) { disk.folder = "/\x1b[31m", disk.error = "x"; });
    EXPECT_THAT(findings[0].what, testing::Not(HasSubstr("\x1b")));
}

TEST(Findings, Gpus) {
    EXPECT_THAT(names(found([](auto& rank) { rank.gpus.clear(); })), ElementsAre("unused-gpus"));
    EXPECT_THAT(names(found([](auto& rank) {
                    if (rank.rank == 0) rank.gpus.clear();
                })),
                ElementsAre("ranks-without-gpu", "shared-gpus"));
    EXPECT_THAT(names(found([](auto& rank) { rank.gpus[0].place = "0000:01:00"; })), ElementsAre("shared-gpus"));
    EXPECT_THAT(names(found([](auto& rank) { rank.gpus[0].supported = false; })), ElementsAre("old-gpu"));
    // All ranks see all GPUs and share them out.
    EXPECT_THAT(found([](auto& rank) {
                    rank.gpus = {{"A GPU", "0000:01:00", 0, true}, {"A GPU", "0000:02:00", 0, true}};
                }),
                IsEmpty());
    EXPECT_THAT(found([](auto& rank) { rank.gpus.clear(), rank.gpu_devices = false; }), IsEmpty());
}

TEST(Findings, Limits) {
    EXPECT_THAT(names(found([](auto& rank) { rank.shared_memory = 1000; })), ElementsAre("little-shared-memory"));
    EXPECT_THAT(names(found([](auto& rank) { rank.locked_memory = 65536; })), ElementsAre("locked-memory"));
    EXPECT_THAT(found([](auto& rank) { rank.locked_memory = 65536, rank.fast_network = false; }), IsEmpty());
    EXPECT_THAT(names(found([](auto& rank) { rank.open_files = 256; })), ElementsAre("open-files"));
}

TEST(Findings, VersionsOfTheProgram) {
    EXPECT_THAT(names(found([](auto& rank) { rank.version = "2"; })), ElementsAre("versions"));
}

TEST(Findings, TheSameOnSeveralHostsIsOne) {
    const auto findings = found([](auto& rank) { rank.open_files = 256; }, "");
    ASSERT_THAT(names(findings), ElementsAre("open-files"));
    EXPECT_THAT(findings[0].hosts, ElementsAre("n1", "n2"));
}

TEST(Findings, AllAtOnce) {
    EXPECT_THAT(
        names(found([](auto& rank) {
            rank.cores = {0}, rank.memory = 0, rank.open_files = 1, rank.shared_memory = 0;
            rank.temporary.free = 0;
        })),
        ElementsAre("bound-to-few-cores", "little-memory", "temporary-folder", "little-shared-memory", "open-files"));
}

Environment environment(std::map<std::string, std::string> variables) {
    return [variables = std::move(variables)](const char* name) -> std::optional<std::string> {
        const auto found = variables.find(name);
        return found == variables.end() ? std::nullopt : std::optional(found->second);
    };
}

Launch started(const std::string& launcher, int size) {
    Launch launch;
    launch.launcher = launcher;
    launch.size = size;
    return launch;
}

TEST(Unconnected, SrunWithoutPmi) {
    const auto finding = unconnected(started("srun", 4), environment({}));
    ASSERT_TRUE(finding);
    EXPECT_EQ(finding->name, "no-pmi");
    EXPECT_THAT(finding->what, HasSubstr("4 tasks"));
    EXPECT_THAT(finding->remedy, HasSubstr("--mpi=pmix"));
    EXPECT_FALSE(unconnected(started("srun", 1), environment({})));
    EXPECT_FALSE(unconnected(started("mpirun", 4), environment({})));
    EXPECT_FALSE(unconnected(started("", 1), environment({})));
    for (const char* name : {"PMIX_RANK", "PMI_RANK", "PMI_FD", "PALS_RANKID"})
        EXPECT_FALSE(unconnected(started("srun", 4), environment({{name, "0"}}))) << name;
}

TEST(Unconnected, AnOlderPmiIsDoubtful) {
    EXPECT_THAT(doubtful_launch(started("srun", 4), environment({{"PMI_FD", "3"}})), HasSubstr("--mpi=pmix"));
    EXPECT_EQ(doubtful_launch(started("srun", 4), environment({{"PMI_FD", "3"}, {"PMIX_RANK", "0"}})), "");
    EXPECT_EQ(doubtful_launch(started("mpirun", 4), environment({{"PMI_FD", "3"}})), "");
    EXPECT_EQ(doubtful_launch(started("srun", 1), environment({{"PMI_FD", "3"}})), "");
}

TEST(Unconnected, MpiThatSeesOne) { EXPECT_THAT(unusable_mpi("sees 1").what, HasSubstr("sees 1")); }

TEST(Surroundings, PackedAndUnpacked) {
    RankSurroundings here = healthy()[2];
    here.core_time = 1.5;
    here.memory_limit = 7;
    here.job_memory = 8;
    here.facts = {{"MPI", "a library"}, {"name", "\xff is not UTF-8"}};
    const RankSurroundings there = unpack_surroundings(pack_surroundings(here));
    EXPECT_EQ(there.host, "n2");
    EXPECT_EQ(there.cores, here.cores);
    EXPECT_EQ(there.core_time, 1.5);
    EXPECT_EQ(there.memory_limit, 7u);
    EXPECT_EQ(there.job_memory, 8u);
    EXPECT_EQ(there.locked_memory, UINT64_MAX);
    ASSERT_EQ(there.gpus.size(), 1u);
    EXPECT_EQ(there.gpus[0].place, "0000:01:00");
    EXPECT_TRUE(there.gpus[0].supported);
    ASSERT_EQ(there.disks.size(), 1u);
    EXPECT_EQ(there.disks[0].kind, "lustre");
    EXPECT_TRUE(there.disks[0].shared);
    EXPECT_EQ(there.facts[0], here.facts[0]);
    EXPECT_EQ(pack_surroundings(there), pack_surroundings(here));
    EXPECT_ANY_THROW(unpack_surroundings("{}"));
    EXPECT_ANY_THROW(unpack_surroundings("no JSON"));
}

}  // namespace
}  // namespace amalgam
