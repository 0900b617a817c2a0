// Exact selection of the k largest keys of a data set nobody holds in one place: decides what to count next.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/key_pass.h"

namespace amalgam {

/// Finds the k-th largest of n integer keys from counts over windows (design 3: the statistic (T, E)).
///
/// The usual course: a sample of the keys tells where the threshold lies; one counting pass over a narrow window proves
/// it. A guess that fails costs another pass, never the result. Pure: counts in, next window out; the counts may have been
/// summed over any number of ranks.
class ThresholdSearch {
  public:
    /// 0 <= k <= n. Keys are below 2^key_bits. `cut_ties`: keep exactly k, so that the number of keys equal to the
    /// threshold in each block must be known in the end; else all keys equal to the threshold are kept.
    ThresholdSearch(int64_t n, int64_t k, int key_bits, bool cut_ties);

    /// Keys of a sample, in any order; all n keys settle the search at once (but for where ties are cut).
    void guess(std::vector<uint64_t> sample);

    bool done() const { return done_; }
    /// What to count next.
    KeyWindow window() const { return window_; }
    /// Bins to fill in the window, (key - low) >> shift; 0: only count.
    int64_t bins() const { return bins_; }
    /// Result of the last window: keys at or above its two ends, and the bins if any were asked for.
    void absorb(const KeyCounts& counts, std::span<const uint64_t> bins);

    /// Once done: keys above are kept, and the first kept_equal() of those equal to it in flat order.
    uint64_t threshold() const { return threshold_; }
    int64_t kept_equal() const { return kept_equal_; }
    bool keeps_all_equal() const { return kept_equal_ == equal_; }
    bool keeps_nothing() const { return k_ == 0; }

    /// Most bins a window may ask for.
    static constexpr int64_t max_bins = 8192;

  private:
    void look_at(uint64_t low, uint64_t high, bool collect);
    void settle(uint64_t threshold, int64_t above, int64_t equal, bool counted_by_block);
    void next_window();

    int64_t n_, k_;
    int key_bits_;
    bool cut_ties_;
    uint64_t floor_ = 0, ceiling_;  ///< the threshold is in [floor, ceiling)
    int64_t above_ceiling_ = 0;     ///< keys >= ceiling; fewer than k
    std::vector<uint64_t> sample_;  ///< descending, near the threshold only
    KeyWindow window_;
    int64_t bins_ = 0;
    bool done_ = false;
    uint64_t threshold_ = 0;
    int64_t kept_equal_ = 0, equal_ = 0;
};

}  // namespace amalgam
