// A fixed crew of threads that share out the indices of a loop.
#pragma once
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace amalgam {

/// Threads sleep between loops, after a short wait for the next one.
class ThreadPool {
  public:
    /// `threads` run the bodies, the caller's own among them: 0 and 1 start none and loops run inline.
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    /// How many values `thread` takes in a body; at least 1.
    int threads() const { return int(workers_.size()) + 1; }

    /// Calls body(index, thread) once for each index of [0, count), in any order, and returns when all are done.
    /// `thread` is in [0, threads()) and no two bodies run under the same one at a time. If bodies throw, the
    /// indices that have not started are left out and the first exception caught comes out of this call. A loop within a
    /// body of the same pool is an Error. Calls from several threads run one after the other.
    template <class Body>
    void parallel_for(int64_t count, Body&& body) {
        using Plain = std::remove_reference_t<Body>;
        const auto range = [](const void* context, int64_t first, int64_t last, int thread) {
            auto& call = *static_cast<Plain*>(const_cast<void*>(context));
            for (int64_t index = first; index < last; ++index) call(index, thread);
        };
        run(count, range, &body);
    }

  private:
    using Range = void (*)(const void* context, int64_t first, int64_t last, int thread);

    void run(int64_t count, Range range, const void* context);
    void take_chunks(int thread);
    void work(int thread);
    bool wait_for_loop(uint32_t& seen);

    // The loop in progress: written while the gate is closed and nobody is inside.
    Range range_ = nullptr;
    const void* context_ = nullptr;
    int64_t count_ = 0;
    int64_t chunk_ = 1;
    std::exception_ptr error_;
    std::mutex error_mutex_;
    std::mutex caller_mutex_;

    alignas(64) std::atomic<int64_t> next_{0};
    /// Number of the loop, whether it may be joined, and how many workers are inside: one word, so that the caller of a
    /// short loop need not wait for workers that never woke up.
    alignas(64) std::atomic<uint32_t> gate_{0};
    std::atomic<bool> stop_{false};
    std::vector<std::thread> workers_;
};

}  // namespace amalgam
