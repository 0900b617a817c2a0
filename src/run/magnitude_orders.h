// Elements of task vectors in the order of their magnitudes: thresholds of any density without another pass.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "src/run/key_scan.h"

namespace amalgam {

/// One task vector of one tensor. Within a block of 65,536 elements, all of them by key descending, then by index
/// ascending: two bytes an element. A threshold is found by bisection over the blocks; the keys themselves are computed
/// again from the models, a few a block, when they are asked for.
class MagnitudeOrder {
  public:
    /// `keys` gives the keys of a block in flat order; `run` calls its argument with every block of [0, count) and the thread
    /// it does so on, in any order, on as many threads as it likes.
    using Keys = std::function<void(int64_t block, std::vector<uint64_t>& keys, int thread)>;
    using Run = std::function<void(int64_t count, const std::function<void(int64_t block, int thread)>& body)>;
    MagnitudeOrder(int64_t elements, const Keys& keys, const Run& run);

    /// Memory that the order of so many elements takes.
    static uint64_t bytes(int64_t elements);
    int64_t elements() const { return elements_; }

    /// Keeps exactly the `k` first in the order of keys descending, flat index ascending (design 3: T and E).
    /// `key` gives that of one element, the same as when the order was made.
    Threshold keep(int64_t k, const std::function<uint64_t(int64_t element)>& key) const;

  private:
    /// Keys of every 256th place of a block: most of a bisection stays within them.
    static constexpr int64_t step = 256;
    struct Block {
        std::vector<uint16_t> order;
        std::vector<uint64_t> steps;
    };

    /// Number of elements of a block whose keys are at or above `low`, known to be within [first, last].
    int64_t count_from(int64_t block, uint64_t low, int64_t first, int64_t last,
                       const std::function<uint64_t(int64_t)>& key) const;

    int64_t elements_;
    std::vector<Block> blocks_;
};

}  // namespace amalgam
