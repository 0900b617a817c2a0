#include "src/run/held_inputs.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace amalgam {

namespace {
constexpr uint64_t line = 64;
constexpr uint64_t least_mapped = uint64_t(64) << 10;

/// Large ones from the system, to which they go back at once: a heap that threads share out keeps half as much again.
HeldMemory allocate(uint64_t bytes) {
    if (bytes < least_mapped) return {static_cast<std::byte*>(::operator new(bytes)), ReleaseHeld{}};
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    return {static_cast<std::byte*>(memory), ReleaseHeld{bytes}};
}

}  // namespace

void ReleaseHeld::operator()(std::byte* memory) const noexcept {
    if (mapped > 0)
        munmap(memory, mapped);
    else
        ::operator delete(memory);
}

void HeldInputs::keep(const Key& key, Pieces pieces, uint64_t limit) {
    Window window;
    window.bytes = line;
    for (const auto& piece : pieces) window.bytes += piece.size() + 2 * line;
    {
        std::lock_guard lock(mutex_);
        if (bytes_ + window.bytes > limit || windows_.contains(key)) return;
        bytes_ += window.bytes;
    }
    window.memory = allocate(window.bytes);
    auto at = (reinterpret_cast<uintptr_t>(window.memory.get()) + line - 1) / line * line;
    for (const auto& piece : pieces) {
        // As aligned as it was.
        auto* place = reinterpret_cast<std::byte*>(at + reinterpret_cast<uintptr_t>(piece.data()) % line);
        std::memcpy(place, piece.data(), piece.size());
        window.places.push_back(place);
        at = (reinterpret_cast<uintptr_t>(place) + piece.size() + line - 1) / line * line;
    }
    std::lock_guard lock(mutex_);
    windows_.emplace(key, std::move(window));
}

bool HeldInputs::has(const Key& key) const {
    std::lock_guard lock(mutex_);
    return windows_.contains(key);
}

uint64_t HeldInputs::bytes() const {
    std::lock_guard lock(mutex_);
    return bytes_;
}

std::vector<const std::byte*> HeldInputs::find(const Key& key) const {
    std::lock_guard lock(mutex_);
    const auto there = windows_.find(key);
    return there == windows_.end() ? std::vector<const std::byte*>() : there->second.places;
}

void HeldInputs::forget(int64_t task) {
    std::lock_guard lock(mutex_);
    for (auto window = windows_.lower_bound({task, INT64_MIN, 0});
         window != windows_.end() && window->first.task == task;) {
        bytes_ -= window->second.bytes;
        window = windows_.erase(window);
    }
}

}  // namespace amalgam
