#include "src/base/log.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <string>

namespace amalgam {
namespace {

std::atomic<LogLevel> lowest{LogLevel::info};
std::atomic<int> own_rank{0};
std::atomic<int> all_ranks{1};
std::atomic<bool> over_progress{false};

std::string_view prefix(LogLevel level) {
    switch (level) {
        case LogLevel::warning: return "warning: ";
        case LogLevel::error: return "error: ";
        default: return "";
    }
}

/// Nothing can be done about a stderr that takes nothing: the rest is dropped.
void write_all(std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return;
        text.remove_prefix(size_t(written));
    }
}

}  // namespace

void set_log_level(LogLevel level) { lowest = level; }

void set_log_rank(int rank, int ranks) {
    own_rank = rank;
    all_ranks = ranks;
}

void set_log_over_progress(bool on) { over_progress = on; }

void log_line(LogLevel level, bool every_rank, std::string_view text) {
    if (level < lowest) return;
    const int rank = own_rank;
    if (!every_rank && rank != 0) return;
    std::string line;
    if (over_progress) line = "\r\x1b[K";
    if (every_rank && all_ranks > 1) line += fmt::format("rank {}: ", rank);
    line += prefix(level);
    line += text;
    line += '\n';
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    write_all(line);
}

}  // namespace amalgam
