#include "src/run/cgroup.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>

namespace amalgam {
namespace {

/// A number that is a word of its own at the text's beginning; nothing for "max", for what is too large and for what is none.
std::optional<uint64_t> number_of(std::string_view text) {
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc()) return std::nullopt;
    if (end != text.data() + text.size() && std::string_view(" \n\t").find(*end) == std::string_view::npos)
        return std::nullopt;
    return value;
}

/// Calls `visit(version, folder)` for the group with this controller and what it is in. In a container the names may be those
/// of the machine outside: then only the root's files are there.
template <class Visit>
void visit_groups(const ReadText& read, std::string_view controller, const Visit& visit) {
    const std::string lines = read("/proc/self/cgroup");
    for (size_t at = 0; at < lines.size();) {
        const size_t end = std::min(lines.find('\n', at), lines.size());
        const std::string_view line = std::string_view(lines).substr(at, end - at);
        at = end + 1;
        const size_t first = line.find(':');
        const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
        if (second == std::string_view::npos) continue;
        const std::string controllers = "," + std::string(line.substr(first + 1, second - first - 1)) + ",";
        const bool unified = controllers == ",,";
        if (!unified && controllers.find(fmt::format(",{},", controller)) == std::string::npos) continue;
        const std::string root = unified ? "/sys/fs/cgroup" : fmt::format("/sys/fs/cgroup/{}", controller);
        std::string path(line.substr(second + 1));
        // A group outside of what this container sees.
        if (path.empty() || path[0] != '/' || (path + "/").find("/../") != std::string::npos) path = "/";
        for (;;) {
            if (path == "/") path.clear();
            visit(unified ? 2 : 1, root + path);
            if (path.empty()) break;
            path.resize(path.rfind('/'));
        }
    }
}

}  // namespace

std::string system_text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string text(size_t(64) << 10, '\0');
    file.read(text.data(), std::streamsize(text.size()));
    text.resize(size_t(std::max<std::streamsize>(file.gcount(), 0)));
    return text;
}

uint64_t number_behind(std::string_view text, std::string_view word) {
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size());
        std::string_view line = text.substr(at, end - at);
        at = end + 1;
        if (line.substr(0, word.size()) != word) continue;
        line.remove_prefix(word.size());
        const size_t blanks = std::min(line.find_first_not_of(" \t"), line.size());
        if (blanks == 0) continue;
        return number_of(line.substr(blanks)).value_or(0);
    }
    return 0;
}

std::string number_list(const std::vector<int>& numbers) {
    std::string text;
    for (size_t first = 0, last = 0; first < numbers.size(); first = last + 1) {
        last = first;
        while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
        text += fmt::format("{}{}", text.empty() ? "" : ",", numbers[first]);
        if (last > first) text += fmt::format("-{}", numbers[last]);
    }
    return text;
}

CgroupMemory cgroup_memory(const ReadText& read) {
    // What is not limited is written as a number near 2^63 in version 1.
    constexpr uint64_t no_limit = uint64_t(1) << 60;
    CgroupMemory memory;
    visit_groups(read, "memory", [&](int version, const std::string& folder) {
        const bool unified = version == 2;
        const std::string text = read(folder + (unified ? "/memory.max" : "/memory.limit_in_bytes"));
        if (text.empty()) return;
        memory.version = version;
        std::optional<uint64_t> limit = number_of(text);
        // Beyond `high` it is held back until it hardly moves.
        if (unified)
            if (const auto high = number_of(read(folder + "/memory.high")))
                limit = std::min(limit.value_or(*high), *high);
        if (!limit || *limit >= no_limit) return;
        uint64_t used = number_of(read(folder + (unified ? "/memory.current" : "/memory.usage_in_bytes"))).value_or(0);
        // The page cache is given back when memory is short, files in memory (/dev/shm, tmpfs), counted in it, are not.
        const std::string facts = read(folder + "/memory.stat");
        const uint64_t cache = number_behind(facts, unified ? "file" : "total_cache"),
                       kept = number_behind(facts, unified ? "shmem" : "total_shmem");
        used -= std::min(used, cache - std::min(cache, kept));
        memory.limit = std::min(memory.limit, *limit);
        memory.free = std::min(memory.free, *limit - std::min(*limit, used));
    });
    return memory;
}

double cgroup_cores(const ReadText& read) {
    double cores = 0;
    visit_groups(read, "cpu", [&](int version, const std::string& folder) {
        std::optional<uint64_t> quota, period;
        if (version == 2) {
            const std::string text = read(folder + "/cpu.max");  // "150000 100000"
            quota = number_of(text);
            if (const size_t blank = text.find(' '); blank != std::string::npos)
                period = number_of(std::string_view(text).substr(blank + 1));
        } else {
            quota = number_of(read(folder + "/cpu.cfs_quota_us"));  // -1: none
            period = number_of(read(folder + "/cpu.cfs_period_us"));
        }
        if (!quota || !period || *quota == 0 || *period == 0) return;
        const double here = double(*quota) / double(*period);
        cores = cores > 0 ? std::min(cores, here) : here;
    });
    return cores;
}

}  // namespace amalgam
