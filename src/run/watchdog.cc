#include "src/run/watchdog.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "src/base/awake_clock.h"

namespace amalgam {

Watchdog::Watchdog(double seconds, std::function<void()> expired) {
    if (seconds <= 0) return;
    thread_ = std::thread([this, seconds, expired = std::move(expired)] {
        uint64_t seen = moves_;
        AwakeClock clock;
        double since = clock.now();
        const std::chrono::duration<double> nap(std::min(seconds, 1.));
        std::unique_lock lock(mutex_);
        while (!stopped_.wait_for(lock, nap, [this] { return stop_; })) {
            const double now = clock.now();
            const uint64_t moves = moves_;
            if (moves != seen) {
                seen = moves;
                since = now;
            } else if (now - since >= seconds) {
                expired();
                return;
            }
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
