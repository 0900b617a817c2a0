// Exact thresholds of one tensor: the k largest of several orderings at once, over threads and ranks.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cpu/passes.h"
#include "kernels/threshold.h"
#include "src/comm/communicator.h"
#include "src/run/window.h"

namespace amalgam {

/// Keep keys above `threshold`, and those equal to it up to flat index `last_equal` (design 3: T and E).
struct Threshold {
    uint64_t threshold = 0;
    int64_t last_equal = -1;

    static Threshold keep_all() { return {0, INT64_MAX}; }
    static Threshold keep_none() { return {~uint64_t(0) - 1, -1}; }
    /// Smallest key kept at flat index `element`.
    uint64_t low_at(int64_t element) const { return element <= last_equal ? threshold : threshold + 1; }
};

/// One ordering, of which the k largest are wanted.
struct KeyOrder {
    int input = 0;  ///< of the window; for variance and importance 0
    int64_t k = 0;
    bool cut_ties = true;  ///< exactly k; else everything equal to the threshold
};

/// Rounds: sample, count over windows until every threshold is proven, and locate where ties are cut.
class KeyScan {
  public:
    KeyScan(KeyKind kind, bool wide, int64_t elements, std::vector<KeyOrder> orders, int threads, int64_t sample_keys,
            int64_t sample_piece);

    bool done() const { return phase_ == Phase::done; }
    void begin_round();
    bool wants(int64_t first_block, int64_t last_block) const;
    bool sampling() const { return phase_ == Phase::sample; }
    /// `factors`: of the window's elements, for importance. Blocks of a window are counted whole.
    void scan(const Window& window, const float* factors, Scratch& scratch);
    void exchange(Communicator& ranks);
    void end_round();

    /// Once done, by order.
    const std::vector<Threshold>& thresholds() const { return thresholds_; }
    static std::string save(const std::vector<Threshold>& thresholds);
    static std::vector<Threshold> load(const std::string& bytes);

  private:
    enum class Phase { sample, count, locate, done };
    struct Totals {
        std::vector<KeyCounts> counts;
        std::vector<std::vector<uint32_t>> bins;
        int64_t collected = 0;
    };

    void sample(const Window& window, const float* factors, Scratch& scratch);
    void count(const Window& window, const float* factors, Scratch& scratch);
    void locate(const Window& window, const float* factors, Scratch& scratch);
    void flush(Totals& totals);
    void end_sample();
    void end_count();
    void settle_from_sample(size_t order);

    KeyKind kind_;
    bool wide_;
    int64_t elements_;
    std::vector<KeyOrder> orders_;
    int threads_;
    int64_t piece_, stride_, sample_size_;
    Phase phase_ = Phase::sample;
    std::vector<ThresholdSearch> searches_;
    std::vector<size_t> active_;                  ///< orders that are still counted
    std::vector<std::vector<uint64_t>> samples_;  ///< by order; pieces in flat order
    std::vector<Totals> by_thread_;
    std::vector<KeyCounts> counts_;                       ///< by active order
    std::vector<std::vector<uint64_t>> bins_;             ///< by active order
    std::vector<std::vector<uint32_t>> inside_by_block_;  ///< by order: keys in the last window, block by block
    struct Cut {
        int64_t block = -1, rest = 0;
    };
    std::vector<Cut> cuts_;  ///< by order: where the last kept tie lies
    std::vector<uint64_t> located_;
    std::vector<Threshold> thresholds_;
};

}  // namespace amalgam
