// How far a long job is, for the person who waits.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace amalgam {

struct ProgressOptions {
    std::string title = "merging";
    uint64_t total = 0;  ///< bytes; 0: unknown
    bool quiet = false;  ///< nothing at all; also for ranks other than 0
    /// From the bytes that add() counted here to those that are compared with `total`: of all ranks, if the caller knows them.
    /// Called by the drawing thread. Default: the same.
    std::function<uint64_t(uint64_t own)> whole;
    int descriptor = 2;  ///< stderr
};

/// What is shown.
struct ProgressView {
    std::string title;
    uint64_t done = 0, total = 0;  ///< bytes
    double rate = 0;               ///< bytes in a second; 0: not known yet
    int columns = 0;               ///< of the terminal; 0: a plain line without a bar
};

/// "merging [=====>    ]  43 %, 61 GB of 141 GB, 3.1 GB/s, 26 s left"
std::string progress_text(const ProgressView& view);

/// "41 s", "3 min 20 s", "2 h 05 min"
std::string duration_text(double seconds);

/// On a terminal one line, drawn again ten times a second by a thread of its own and wiped at the end. Else a line in the log
/// every 5 seconds, and one for 100 % unless the job took less than half a second.
class Progress {
  public:
    explicit Progress(const ProgressOptions& options);
    /// As finish(), without a line for 100 %: something went wrong.
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /// Any thread, any number of times.
    void add(uint64_t bytes) { done_.fetch_add(bytes, std::memory_order_relaxed); }
    /// Ends the drawing; the job is done.
    void finish();

  private:
    struct Drawing;
    std::atomic<uint64_t> done_{0};
    std::unique_ptr<Drawing> drawing_;
};

}  // namespace amalgam
