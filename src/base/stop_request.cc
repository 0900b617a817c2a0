#include "src/base/stop_request.h"

#include <signal.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <fstream>

#include "src/base/error.h"
#include "src/base/log.h"

namespace amalgam {
namespace {
std::atomic<int> first_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal's handler writes it");
}  // namespace

void catch_stop_signals(std::span<const int> signals) {
    struct sigaction action {};
    action.sa_handler = [](int number) {
        int none = 0;
        first_signal.compare_exchange_strong(none, number);
    };
    action.sa_flags = SA_RESTART;  // reads and writes that are under way go on
    for (int number : signals) ::sigaction(number, &action, nullptr);
}

bool stop_asked() { return first_signal.load() != 0; }

int stop_signal() { return first_signal.load(); }

void leave_requeue_marker() {
    const char* path = std::getenv("REQUEUE_MARKER");
    if (!path || !*path) return;
    std::ofstream file(path, std::ios::app);
    file.flush();
    check(bool(file), "{}: the marker that asks for another start cannot be written: {}", printable(path),
          errno_text(errno));
}

}  // namespace amalgam
