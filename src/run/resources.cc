#include "src/run/resources.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "src/base/error.h"
#include "src/run/cgroup.h"

namespace amalgam {

uint64_t machine_memory() {
    if (const uint64_t kibibytes = number_behind(system_text("/proc/meminfo"), "MemAvailable:"))
        return kibibytes * 1024;
    return uint64_t(sysconf(_SC_PHYS_PAGES)) * uint64_t(sysconf(_SC_PAGESIZE)) / 2;
}

uint64_t free_memory() { return std::min(machine_memory(), cgroup_memory(system_text).free); }

void check_budget(uint64_t memory) {
    constexpr uint64_t least = uint64_t(1) << 20;
    check(memory >= least, "--memory {} is too little to work with; give at least {}", memory, least);
}

int usable_cores() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
    return int(std::max(1u, std::thread::hardware_concurrency()));
}

int64_t cache_block(int64_t inputs, int bytes) {
    long cache = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (cache <= 0) cache = 1 << 20;
    int64_t block = 4096;
    while (block < 65536 && 2 * block * inputs * bytes <= cache / 2) block *= 2;
    return block;
}

void raise_file_limit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

uint64_t peak_memory() {
    // getrusage() also counts what this process was before it became this program: its parent, often a large one.
    if (const uint64_t kibibytes = number_behind(system_text("/proc/self/status"), "VmHWM:")) return kibibytes * 1024;
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return uint64_t(usage.ru_maxrss) * 1024;
}

}  // namespace amalgam
