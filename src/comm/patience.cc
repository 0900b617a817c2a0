#include "src/comm/patience.h"

#include <chrono>
#include <cstdlib>
#include <thread>

namespace amalgam {

double network_seconds() {
    constexpr double most = 1500;
    const char* text = std::getenv("AMALGAM_NETWORK_SECONDS");
    if (!text || !*text) return most;
    char* end = nullptr;
    const double seconds = std::strtod(text, &end);
    return *end == '\0' ? seconds : most;
}

bool Patience::wait() {
    const double idle = clock_.now() - moved_;
    // Short waits end soonest by asking again and again; long ones should not cost a core.
    if (idle < 0.002)
        std::this_thread::yield();
    else
        std::this_thread::sleep_for(std::chrono::microseconds(idle < 0.1 ? 20 : 200));
    return seconds_ <= 0 || idle <= seconds_;
}

}  // namespace amalgam
