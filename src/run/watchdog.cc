#include "src/run/watchdog.h"

#include <chrono>
#include <cstdlib>
#include <utility>

namespace amalgam {

Watchdog::Watchdog(double seconds, std::function<void()> expired) {
    if (seconds <= 0) return;
    thread_ = std::thread([this, seconds, expired = std::move(expired)] {
        uint64_t seen = moves_;
        std::unique_lock lock(mutex_);
        while (!stop_) {
            if (stopped_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return stop_; })) return;
            if (seen == moves_.load()) {
                expired();
                return;
            }
            seen = moves_;
        }
    });
}

Watchdog::~Watchdog() {
    {
        std::lock_guard lock(mutex_);
        stop_ = true;
    }
    stopped_.notify_all();
    if (thread_.joinable()) thread_.join();
}

double watchdog_seconds() {
    constexpr double half_an_hour = 1800;
    const char* text = std::getenv("AMALGAM_WATCHDOG_SECONDS");
    if (!text || !*text) return half_an_hour;
    char* end = nullptr;
    double seconds = std::strtod(text, &end);
    return *end == '\0' ? seconds : half_an_hour;
}

}  // namespace amalgam
