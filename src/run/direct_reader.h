// Reads windows past the page cache, a few ahead of the computation.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "src/run/input_files.h"

namespace amalgam {

/// One byte range of one file that a window needs.
struct ReadRequest {
    const InputFile* file = nullptr;
    uint64_t begin = 0, end = 0;
};

/// Serves windows 0, 1, 2, ... of a list; each is acquired and released once, by any thread.
class DirectReader {
  public:
    /// `requests(i)` lists what window i needs (ranges of direct files only). `depth` windows of at most `window_bytes`
    /// (requests rounded out to pages) are in memory at once; `readers` threads read.
    DirectReader(int64_t windows, std::function<std::vector<ReadRequest>(int64_t)> requests, int depth,
                 uint64_t window_bytes, int readers);
    ~DirectReader();
    DirectReader(const DirectReader&) = delete;
    DirectReader& operator=(const DirectReader&) = delete;

    /// Waits until the window is in memory: places of its requests in their order. Throws what a reader threw. Windows must
    /// be acquired in about ascending order: at most `depth` are held at a time.
    std::vector<const std::byte*> acquire(int64_t window);
    void release(int64_t window);
    /// That its readers spent in reads, all together; of what is acquired.
    double seconds();

  private:
    struct Slot;
    void read_windows();

    int64_t windows_;
    std::function<std::vector<ReadRequest>(int64_t)> requests_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::unique_ptr<Slot>> slots_;
    int64_t next_ = 0;
    double seconds_ = 0;
    bool stop_ = false;
    std::exception_ptr error_;
    std::vector<std::thread> readers_;
};

}  // namespace amalgam
