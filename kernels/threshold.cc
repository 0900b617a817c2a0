#include "kernels/threshold.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace amalgam {

ThresholdSearch::ThresholdSearch(int64_t n, int64_t k, int key_bits, bool cut_ties)
    : n_(n), k_(k), key_bits_(key_bits), cut_ties_(cut_ties), ceiling_(uint64_t(1) << key_bits) {
    if (k_ <= 0) {
        done_ = true;
        threshold_ = ceiling_;
        return;
    }
    next_window();
}

namespace {

/// Keys of ranks [first, last] in descending order. One pass sorts keys into coarse bins, the next picks those bins that
/// matter: several times faster than a selection over all of a sample.
std::vector<uint64_t> ranks_of(const std::vector<uint64_t>& keys, int64_t first, int64_t last, int shift) {
    std::vector<uint32_t> bins(size_t(1) << 15);
    for (uint64_t key : keys) ++bins[size_t(key >> shift)];
    int64_t above = 0;
    size_t top = bins.size() - 1;
    while (above + int64_t(bins[top]) <= first) above += int64_t(bins[top--]);
    size_t bottom = top;
    for (int64_t seen = above + int64_t(bins[top]); seen <= last;) seen += int64_t(bins[--bottom]);
    std::vector<uint64_t> chosen;
    for (uint64_t key : keys)
        if (size_t bin = size_t(key >> shift); bin >= bottom && bin <= top) chosen.push_back(key);
    std::sort(chosen.begin(), chosen.end(), std::greater<>());
    return {chosen.begin() + (first - above), chosen.begin() + (last - above) + 1};
}

}  // namespace

void ThresholdSearch::guess(std::vector<uint64_t> sample) {
    const int64_t size = int64_t(sample.size());
    if (done_ || size == 0) return;
    if (size >= n_) {
        std::nth_element(sample.begin(), sample.begin() + (k_ - 1), sample.end(), std::greater<>());
        uint64_t threshold = sample[size_t(k_ - 1)];
        int64_t above = std::count_if(sample.begin(), sample.end(), [&](uint64_t key) { return key > threshold; });
        int64_t equal = std::count(sample.begin(), sample.end(), threshold);
        settle(threshold, above, equal, false);
        return;
    }
    // The rank of the threshold in the sample is off by a few standard deviations at most.
    double share = double(k_) / double(n_), rank = share * double(size);
    double deviation = std::sqrt(std::max(share * (1 - share) * double(size), 1.0));
    int64_t first = std::clamp<int64_t>(int64_t(rank - 4 * deviation) - 1, 0, size - 1);
    int64_t last = std::clamp<int64_t>(int64_t(rank + 4 * deviation) + 1, 0, size - 1);
    sample_ = ranks_of(sample, first, last, std::max(0, key_bits_ - 15));
    // At the ends of the sample nothing bounds the threshold from outside.
    uint64_t high = first == 0 ? ceiling_ : sample_.front() + 1, low = last == size - 1 ? floor_ : sample_.back();
    uint64_t middle = sample_[size_t(std::clamp<int64_t>(int64_t(rank) - first, 0, last - first))];
    int64_t ties = std::count(sample_.begin(), sample_.end(), middle);
    // A value that fills most of the bracket is the threshold more often than not: prove it by counting alone.
    if (2 * ties > int64_t(sample_.size()) && middle + 1 <= ceiling_)
        look_at(middle, middle + 1, false);
    else
        look_at(low, high, true);
}

void ThresholdSearch::look_at(uint64_t low, uint64_t high, bool collect) {
    window_ = {low, high, 0};
    bins_ = 0;
    if (!collect || high - low == 1) return;
    while (((high - low - 1) >> window_.shift) + 1 > uint64_t(max_bins)) ++window_.shift;
    bins_ = int64_t(((high - low - 1) >> window_.shift) + 1);
}

void ThresholdSearch::next_window() {
    // What the sample says of the keys between floor and ceiling. Every window shrinks that interval, so a sample that
    // misleads costs a few passes at most.
    auto inside = [&](uint64_t key) { return key >= floor_ && key < ceiling_; };
    auto highest = std::find_if(sample_.begin(), sample_.end(), inside);
    if (highest == sample_.end()) {
        look_at(floor_, ceiling_, true);
        return;
    }
    uint64_t high = *highest, low = *std::find_if(sample_.rbegin(), sample_.rend(), inside);
    if (low == high)
        look_at(low, low + 1, false);
    else
        look_at(low, high + 1, true);
}

void ThresholdSearch::absorb(const KeyCounts& counts, std::span<const uint64_t> bins) {
    if (counts.from_high >= k_) {
        floor_ = window_.high;
    } else if (counts.from_low < k_) {
        ceiling_ = window_.low;
        above_ceiling_ = counts.from_low;
    } else if (window_.high - window_.low == 1) {
        settle(window_.low, counts.from_high, counts.from_low - counts.from_high, true);
        return;
    } else {
        floor_ = window_.low;
        ceiling_ = window_.high;
        above_ceiling_ = counts.from_high;
        if (!bins.empty()) {
            size_t bin = bins.size() - 1;
            while (above_ceiling_ + int64_t(bins[bin]) < k_) above_ceiling_ += int64_t(bins[bin--]);
            floor_ = window_.low + (uint64_t(bin) << window_.shift);
            ceiling_ = std::min(ceiling_, floor_ + (uint64_t(1) << window_.shift));
            if (ceiling_ - floor_ == 1) {
                settle(floor_, above_ceiling_, int64_t(bins[bin]), false);
                return;
            }
        }
    }
    next_window();
}

void ThresholdSearch::settle(uint64_t threshold, int64_t above, int64_t equal, bool counted_by_block) {
    threshold_ = threshold;
    equal_ = equal;
    kept_equal_ = cut_ties_ ? k_ - above : equal;
    if (cut_ties_ && kept_equal_ < equal && !counted_by_block) {
        floor_ = threshold;
        ceiling_ = threshold + 1;
        look_at(threshold, threshold + 1, false);
        return;
    }
    done_ = true;
}

}  // namespace amalgam
