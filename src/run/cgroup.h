// What the texts of /proc and of control groups say about memory and cores. No system call: files are read by a function, so
// that tests have a machine of their own.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace amalgam {

/// The beginning of a file of /proc or /sys; "" if there is none.
using ReadText = std::function<std::string(const std::string& path)>;
/// Of this machine: the first 64 KiB.
std::string system_text(const std::string& path);

struct CgroupMemory {
    int version = 0;              ///< of the control group that has the memory controller: 1 or 2; 0: none
    uint64_t limit = UINT64_MAX;  ///< the lowest of the group and what it is in; UINT64_MAX: none
    uint64_t free = UINT64_MAX;   ///< what is left of it; page cache counts as free
};

/// Of the group that this process is in.
CgroupMemory cgroup_memory(const ReadText& read);

/// Cores whose time the group may use; 0: no limit.
double cgroup_cores(const ReadText& read);

/// The number behind a word, as in "MemAvailable:  12345 kB"; 0 if there is none.
uint64_t number_behind(std::string_view text, std::string_view word);

/// "0-3,8" from numbers in ascending order.
std::string number_list(const std::vector<int>& numbers);

}  // namespace amalgam
