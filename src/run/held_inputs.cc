#include "src/run/held_inputs.h"

#include <cstring>

namespace amalgam {

namespace {
constexpr uint64_t line = 64;
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
    window.memory.reset(new std::byte[window.bytes]);
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
