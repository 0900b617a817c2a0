// Ends a process that has stopped moving: a file system that hangs, a peer that is gone without a word.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

namespace amalgam {

/// Calls `expired` from a thread of its own if touch() is not called for so many seconds. 0 or less: never.
class Watchdog {
  public:
    Watchdog(double seconds, std::function<void()> expired);
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    /// Something moved. Cheap; any thread.
    void touch() { moves_.fetch_add(1, std::memory_order_relaxed); }

  private:
    std::atomic<uint64_t> moves_{0};
    std::mutex mutex_;
    std::condition_variable stopped_;
    bool stop_ = false;
    std::thread thread_;
};

/// AMALGAM_WATCHDOG_SECONDS of the environment, else half an hour: a rank may wait long for slower ones.
double watchdog_seconds();

}  // namespace amalgam
