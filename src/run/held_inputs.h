// Inputs that were read past the page cache for statistics, kept for the passes after.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <tuple>
#include <vector>

namespace amalgam {

struct ReleaseHeld {
    uint64_t mapped = 0;  ///< bytes; 0: from the heap
    void operator()(std::byte* memory) const noexcept;
};
using HeldMemory = std::unique_ptr<std::byte, ReleaseHeld>;

/// Windows of tensors in memory. Any thread may call any member.
class HeldInputs {
  public:
    struct Key {
        int64_t task = 0, first = 0, count = 0;  ///< elements of the inputs
        auto operator<=>(const Key&) const = default;
    };
    using Pieces = std::span<const std::span<const std::byte>>;

    /// Copies the pieces of a window, if all that is held is at most `limit` bytes then.
    void keep(const Key& key, Pieces pieces, uint64_t limit);
    /// Where the pieces lie; nothing if the window is not held. Valid until forget().
    std::vector<const std::byte*> find(const Key& key) const;
    bool has(const Key& key) const;
    uint64_t bytes() const;
    void forget(int64_t task);

  private:
    struct Window {
        HeldMemory memory;
        std::vector<const std::byte*> places;
        uint64_t bytes = 0;
    };

    mutable std::mutex mutex_;
    uint64_t bytes_ = 0;
    std::map<Key, Window> windows_;
};

}  // namespace amalgam
