#include "src/run/resources.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

namespace amalgam {

namespace {

/// A number in a file of /proc or /sys; 0 if there is none ("max").
uint64_t number_in(const std::string& path) {
    std::ifstream file(path);
    uint64_t value = 0;
    return file >> value ? value : 0;
}

/// "MemAvailable:  12345 kB"
uint64_t value_of(const std::string& path, const std::string& key) {
    std::ifstream file(path);
    std::string word;
    uint64_t value = 0;
    while (file >> word)
        if (word == key && file >> value) return value;
    return 0;
}

/// What the memory controller leaves, of cgroup version 2 or 1; its page cache counts as free.
uint64_t cgroup_memory() {
    std::ifstream file("/proc/self/cgroup");
    std::string line;
    uint64_t least = UINT64_MAX;
    while (std::getline(file, line)) {
        size_t first = line.find(':'), second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
        bool unified = controllers.empty(), memory = controllers.find("memory") != std::string::npos;
        if (!unified && !memory) continue;
        std::string root = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
        // Limits of all ancestors hold.
        for (;;) {
            std::string folder = root + path;
            uint64_t limit = number_in(folder + (unified ? "/memory.max" : "/memory.limit_in_bytes"));
            uint64_t used = number_in(folder + (unified ? "/memory.current" : "/memory.usage_in_bytes"));
            uint64_t cache = value_of(folder + "/memory.stat", unified ? "file" : "total_cache");
            used -= std::min(used, cache);
            if (limit > 0) least = std::min(least, limit - std::min(limit, used));
            size_t slash = path.rfind('/');
            if (path.empty() || path == "/" || slash == std::string::npos) break;
            path.resize(slash);
        }
    }
    return least;
}

}  // namespace

uint64_t free_memory() {
    uint64_t machine = value_of("/proc/meminfo", "MemAvailable:") * 1024;
    if (machine == 0) machine = uint64_t(sysconf(_SC_PHYS_PAGES)) * uint64_t(sysconf(_SC_PAGESIZE)) / 2;
    return std::min(machine, cgroup_memory());
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
    if (const uint64_t kibibytes = value_of("/proc/self/status", "VmHWM:")) return kibibytes * 1024;
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return uint64_t(usage.ru_maxrss) * 1024;
}

}  // namespace amalgam
