#include "src/run/direct_reader.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <new>

namespace amalgam {

namespace {
constexpr uint64_t page = 4096, huge_page = uint64_t(2) << 20;

uint64_t padded(const ReadRequest& request) {
    return (request.end + page - 1) / page * page - request.begin / page * page;
}

struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<std::byte, Free>;

/// Direct reads into small pages run at half the speed (storage reference 3.2).
Memory huge_memory(uint64_t bytes) {
    bytes = std::max(bytes, page);
    uint64_t alignment = bytes >= huge_page ? huge_page : page;
    bytes = (bytes + alignment - 1) / alignment * alignment;
    Memory memory(static_cast<std::byte*>(std::aligned_alloc(alignment, bytes)));
    if (!memory) throw std::bad_alloc();
    if (alignment == huge_page) madvise(memory.get(), bytes, MADV_HUGEPAGE);
    return memory;
}
}  // namespace

struct DirectReader::Slot {
    Memory memory;
    int64_t window = -1;
    bool ready = false;
    std::vector<const std::byte*> places;
};

DirectReader::DirectReader(int64_t windows, std::function<std::vector<ReadRequest>(int64_t)> requests, int depth,
                           uint64_t window_bytes, int readers)
    : windows_(windows), requests_(std::move(requests)) {
    for (int i = 0; i < depth; ++i) {
        slots_.push_back(std::make_unique<Slot>());
        slots_.back()->memory = huge_memory(window_bytes);
    }
    for (int i = 0; i < readers; ++i) readers_.emplace_back([this] { read_windows(); });
}

DirectReader::~DirectReader() {
    {
        std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& reader : readers_) reader.join();
}

void DirectReader::read_windows() {
    std::unique_lock lock(mutex_);
    while (!stop_ && !error_ && next_ < windows_) {
        auto free = std::find_if(slots_.begin(), slots_.end(), [](const auto& slot) { return slot->window < 0; });
        if (free == slots_.end()) {
            changed_.wait(lock);
            continue;
        }
        Slot& slot = **free;
        slot.window = next_++;
        slot.ready = false;
        lock.unlock();
        const auto start = std::chrono::steady_clock::now();
        try {
            slot.places.clear();
            std::byte* at = slot.memory.get();
            for (const ReadRequest& request : requests_(slot.window)) {
                slot.places.push_back(request.file->read(request.begin, request.end, at));
                at += padded(request);
            }
            lock.lock();
            slot.ready = true;
            seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        } catch (...) {
            lock.lock();
            error_ = std::current_exception();
        }
        changed_.notify_all();
    }
}

std::vector<const std::byte*> DirectReader::acquire(int64_t window) {
    std::unique_lock lock(mutex_);
    for (;;) {
        if (error_) std::rethrow_exception(error_);
        for (const auto& slot : slots_)
            if (slot->window == window && slot->ready) return slot->places;
        changed_.wait(lock);
    }
}

double DirectReader::seconds() {
    std::lock_guard lock(mutex_);
    return seconds_;
}

void DirectReader::release(int64_t window) {
    {
        std::lock_guard lock(mutex_);
        for (const auto& slot : slots_)
            if (slot->window == window) slot->window = -1;
    }
    changed_.notify_all();
}

}  // namespace amalgam
