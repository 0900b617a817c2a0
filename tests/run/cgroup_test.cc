// Texts of /proc and of control groups as machines, containers and nobody has them.
#include "src/run/cgroup.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <map>

namespace amalgam {
namespace {

class Machine {
  public:
    explicit Machine(std::map<std::string, std::string> files) : files_(std::move(files)) {}
    std::string operator()(const std::string& path) const {
        const auto found = files_.find(path);
        return found == files_.end() ? "" : found->second;
    }

  private:
    std::map<std::string, std::string> files_;
};

TEST(CgroupMemory, Version2TakesTheLowestOfAllThatItIsIn) {
    const Machine machine({{"/proc/self/cgroup", "0::/slurm/job_1/step_0\n"},
                           {"/sys/fs/cgroup/slurm/job_1/step_0/memory.max", "max\n"},
                           {"/sys/fs/cgroup/slurm/job_1/memory.max", "1000000\n"},
                           {"/sys/fs/cgroup/slurm/job_1/memory.current", "600000\n"},
                           {"/sys/fs/cgroup/slurm/job_1/memory.stat", "anon 1\nfile 200000\nfile_mapped 7\nshmem 0\n"},
                           {"/sys/fs/cgroup/slurm/memory.max", "5000000\n"},
                           {"/sys/fs/cgroup/slurm/memory.current", "4900000\n"}});
    const CgroupMemory memory = cgroup_memory(machine);
    EXPECT_EQ(memory.version, 2);
    EXPECT_EQ(memory.limit, 1'000'000u);
    EXPECT_EQ(memory.free, 100'000u);  // of the outer one, where less is left
}

TEST(CgroupMemory, Version2HoldsBackAboveHigh) {
    const Machine machine({{"/proc/self/cgroup", "0::/a\n"},
                           {"/sys/fs/cgroup/a/memory.max", "max\n"},
                           {"/sys/fs/cgroup/a/memory.high", "3000\n"},
                           {"/sys/fs/cgroup/a/memory.current", "1000\n"}});
    EXPECT_EQ(cgroup_memory(machine).limit, 3000u);
    EXPECT_EQ(cgroup_memory(machine).free, 2000u);
}

TEST(CgroupMemory, Version1BesideAnEmptyVersion2) {
    const Machine machine(
        {{"/proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/slurm/uid_0\n0::/\n"},
         {"/sys/fs/cgroup/memory/slurm/uid_0/memory.limit_in_bytes", "2000\n"},
         {"/sys/fs/cgroup/memory/slurm/uid_0/memory.usage_in_bytes", "1500\n"},
         {"/sys/fs/cgroup/memory/slurm/uid_0/memory.stat", "cache 1\nshmem 3\ntotal_cache 500\ntotal_shmem 100\n"},
         {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"}});
    const CgroupMemory memory = cgroup_memory(machine);
    EXPECT_EQ(memory.version, 1);
    EXPECT_EQ(memory.limit, 2000u);
    EXPECT_EQ(memory.free, 900u);  // what lies in /dev/shm is not given back
}

TEST(CgroupMemory, InAContainerOnlyTheRootIsSeen) {
    for (const char* line : {"0::/docker/0123\n", "0::/../../outside\n", "0::/\n", "0::\n", "0::relative\n"}) {
        const Machine machine({{"/proc/self/cgroup", line},
                               {"/sys/fs/cgroup/memory.max", "4096\n"},
                               {"/sys/fs/cgroup/memory.current", "96\n"},
                               {"/sys/fs/cgroup/../../outside/memory.max", "1\n"}});
        EXPECT_EQ(cgroup_memory(machine).free, 4000u) << line;
    }
}

TEST(CgroupMemory, NoLimit) {
    EXPECT_EQ(cgroup_memory(Machine({})).version, 0);
    const Machine machine({{"/proc/self/cgroup", "4:memory:/\n"},
                           {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
                           {"/sys/fs/cgroup/memory/memory.usage_in_bytes", "123\n"}});
    EXPECT_EQ(cgroup_memory(machine).version, 1);
    EXPECT_EQ(cgroup_memory(machine).limit, UINT64_MAX);
    EXPECT_EQ(cgroup_memory(machine).free, UINT64_MAX);
}

TEST(CgroupMemory, MoreIsUsedThanAllowed) {
    const Machine machine({{"/proc/self/cgroup", "0::/\n"},
                           {"/sys/fs/cgroup/memory.max", "10\n"},
                           {"/sys/fs/cgroup/memory.current", "20\n"}});
    EXPECT_EQ(cgroup_memory(machine).free, 0u);
}

TEST(CgroupMemory, WhatIsNoNumberIsNoLimit) {
    for (const std::string& limit :
         {std::string("-1\n"), std::string("99999999999999999999\n"), std::string("12cats\n"), std::string("0x10\n"),
          std::string("\n"), std::string(" 5\n"), std::string("1.5\n"), std::string("5\0", 2),
          std::string("\xff\xfe")}) {
        const Machine machine({{"/proc/self/cgroup", "0::/\n"}, {"/sys/fs/cgroup/memory.max", limit}});
        EXPECT_EQ(cgroup_memory(machine).limit, UINT64_MAX) << limit;
    }
}

TEST(CgroupMemory, TornAndForeignLines) {
    for (const std::string& lines :
         {std::string(":\n::\n0\n0:\nmemory\n\n\n"), std::string("4:memory"), std::string(5000, ':'),
          std::string(5000, '/'), std::string("0::") + std::string(3000, '/'), std::string(4096, '\0'),
          std::string("0::/a\0b", 7)})
        EXPECT_EQ(cgroup_memory(Machine({{"/proc/self/cgroup", lines}})).limit, UINT64_MAX);
    // Another controller whose name has the word in it.
    const Machine machine(
        {{"/proc/self/cgroup", "4:memory2:/\n5:x-memory:/\n"}, {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "1\n"}});
    EXPECT_EQ(cgroup_memory(machine).version, 0);
}

TEST(CgroupCores, BothVersions) {
    EXPECT_EQ(cgroup_cores(Machine({})), 0);
    EXPECT_EQ(cgroup_cores(Machine({{"/proc/self/cgroup", "0::/a\n"}, {"/sys/fs/cgroup/a/cpu.max", "max 100000\n"}})),
              0);
    EXPECT_EQ(cgroup_cores(Machine({{"/proc/self/cgroup", "0::/a\n"},
                                    {"/sys/fs/cgroup/a/cpu.max", "400000 100000\n"},
                                    {"/sys/fs/cgroup/cpu.max", "150000 100000\n"}})),
              1.5);
    EXPECT_EQ(cgroup_cores(Machine({{"/proc/self/cgroup", "1:cpu,cpuacct:/\n"},
                                    {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"},
                                    {"/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}})),
              0.5);
    for (const char* quota : {"-1\n", "0\n", "x\n", ""})
        EXPECT_EQ(cgroup_cores(Machine({{"/proc/self/cgroup", "1:cpu:/\n"},
                                        {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota},
                                        {"/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}})),
                  0);
    for (const char* text : {"5", "5 0", "5 ", " 5 5", "5 x", "18446744073709551616 1"})
        EXPECT_EQ(cgroup_cores(Machine({{"/proc/self/cgroup", "0::/\n"}, {"/sys/fs/cgroup/cpu.max", text}})), 0)
            << text;
}

TEST(NumberBehind, WholeWordsOnly) {
    const std::string text =
        "MemTotal:       24 kB\nMemAvailable:   12 kB\nMemAvailable2: 7\nEmpty:\nBad: x\nfile_mapped 3";
    EXPECT_EQ(number_behind(text, "MemAvailable:"), 12u);
    EXPECT_EQ(number_behind(text, "file_mapped"), 3u);
    EXPECT_EQ(number_behind(text, "file"), 0u);
    EXPECT_EQ(number_behind(text, "Empty:"), 0u);
    EXPECT_EQ(number_behind(text, "Bad:"), 0u);
    EXPECT_EQ(number_behind("", "MemAvailable:"), 0u);
}

TEST(NumberList, Runs) {
    EXPECT_EQ(number_list({}), "");
    EXPECT_EQ(number_list({3}), "3");
    EXPECT_EQ(number_list({0, 1, 2, 3, 8, 10, 11}), "0-3,8,10-11");
}

TEST(SystemText, ReadsABoundedPart) {
    EXPECT_GT(number_behind(system_text("/proc/meminfo"), "MemTotal:"), 0u);
    EXPECT_EQ(system_text("/nowhere"), "");
    EXPECT_EQ(system_text("/proc"), "");
    EXPECT_EQ(system_text("/dev/zero").size(), 65536u);
}

}  // namespace
}  // namespace amalgam
