#include "src/base/thread_pool.h"

#include <algorithm>
#include <utility>

#include "src/base/error.h"

namespace amalgam {
namespace {

// The gate's word: bits 0-11 workers inside, bit 12 open, bits 13-31 number of the loop (it may wrap: a worker that
// sleeps through exactly 2^19 loops misses one, which costs time, not correctness).
constexpr uint32_t inside_mask = 0xfff;
constexpr uint32_t open_bit = 0x1000;
constexpr uint32_t loop_one = 0x2000;
constexpr int most_threads = 0xfff;

thread_local const ThreadPool* running = nullptr;

void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/// Waits until the word differs from `old`: a few microseconds awake, since loops often follow each other closely.
void wait_for_change(std::atomic<uint32_t>& word, uint32_t old) {
    for (int turn = 0; turn < 200; ++turn) {
        if (word.load(std::memory_order_acquire) != old) return;
        relax();
    }
    for (int turn = 0; turn < 10; ++turn) {
        if (word.load(std::memory_order_acquire) != old) return;
        std::this_thread::yield();
    }
    word.wait(old, std::memory_order_acquire);
}

class Running {
  public:
    explicit Running(const ThreadPool* pool) : before_(running) { running = pool; }
    ~Running() { running = before_; }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

  private:
    const ThreadPool* before_;
};

}  // namespace

ThreadPool::ThreadPool(int threads) {
    check(threads >= 0 && threads <= most_threads, "{} threads: a thread pool takes 0 to {}", threads, most_threads);
    for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { work(thread); });
}

ThreadPool::~ThreadPool() {
    stop_.store(true);
    gate_.fetch_add(loop_one);
    gate_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::take_chunks(int thread) {
    const Running mark(this);
    try {
        for (;;) {
            const int64_t first = next_.fetch_add(chunk_, std::memory_order_relaxed);
            if (first >= count_) return;
            range_(context_, first, std::min(first + chunk_, count_), thread);
        }
    } catch (...) {
        next_.store(count_, std::memory_order_relaxed);
        const std::lock_guard lock(error_mutex_);
        if (!error_) error_ = std::current_exception();
    }
}

void ThreadPool::run(int64_t count, Range range, const void* context) {
    check(running != this, "a parallel loop within a parallel loop of the same thread pool (a bug in the program)");
    if (count <= 0) return;
    if (workers_.empty() || count == 1) {
        const std::lock_guard lock(caller_mutex_);
        const Running mark(this);
        range(context, 0, count, 0);
        return;
    }
    const std::lock_guard lock(caller_mutex_);
    range_ = range;
    context_ = context;
    count_ = count;
    chunk_ = std::max<int64_t>(1, count / (int64_t{8} * threads()));
    next_.store(0, std::memory_order_relaxed);
    gate_.fetch_add(loop_one | open_bit, std::memory_order_release);
    gate_.notify_all();

    take_chunks(0);

    uint32_t word = gate_.fetch_and(~open_bit, std::memory_order_acq_rel) & ~open_bit;
    while (word & inside_mask) {
        wait_for_change(gate_, word);
        word = gate_.load(std::memory_order_acquire);
    }
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

/// Sleeps until a loop that this worker has not seen is open, and enters it; false: the pool ends.
bool ThreadPool::wait_for_loop(uint32_t& seen) {
    uint32_t word = gate_.load(std::memory_order_acquire);
    for (;;) {
        if (stop_.load(std::memory_order_relaxed)) return false;
        if ((word & open_bit) && word / loop_one != seen) {
            if (gate_.compare_exchange_weak(word, word + 1, std::memory_order_acq_rel)) {
                seen = word / loop_one;
                return true;
            }
            continue;
        }
        wait_for_change(gate_, word);
        word = gate_.load(std::memory_order_acquire);
    }
}

void ThreadPool::work(int thread) {
    uint32_t seen = 0;
    while (wait_for_loop(seen)) {
        take_chunks(thread);
        const uint32_t word = gate_.fetch_sub(1, std::memory_order_acq_rel);
        // The caller waits for the last one to leave a closed gate.
        if ((word & (open_bit | inside_mask)) == 1) gate_.notify_all();
    }
}

}  // namespace amalgam
