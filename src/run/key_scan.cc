#include "src/run/key_scan.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

namespace amalgam {

KeyScan::KeyScan(KeyKind kind, bool wide, int64_t elements, std::vector<KeyOrder> orders, int threads,
                 int64_t sample_keys, int64_t sample_piece)
    : kind_(kind),
      wide_(wide),
      elements_(elements),
      orders_(std::move(orders)),
      threads_(threads),
      piece_(sample_piece) {
    // Pieces of the tensor at equal distances; all of it if it is small.
    int64_t wanted =
        elements <= sample_keys ? elements : std::clamp<int64_t>(elements / 64, sample_keys / 8, sample_keys);
    stride_ = std::max<int64_t>(1, elements / std::max<int64_t>(wanted, piece_));
    int64_t pieces = (elements + piece_ - 1) / piece_;
    sample_size_ = (pieces + stride_ - 1) / stride_ * piece_;
    if (stride_ == 1) sample_size_ = elements;
    const int key_bits = kind == KeyKind::distance && wide ? 63 : 31;
    bool any = false;
    for (const KeyOrder& order : orders_) {
        searches_.emplace_back(elements, order.k, key_bits, order.cut_ties);
        any |= !searches_.back().done();
    }
    thresholds_.assign(orders_.size(), Threshold::keep_none());
    cuts_.resize(orders_.size());
    located_.resize(orders_.size());
    inside_by_block_.resize(orders_.size());
    if (!any) phase_ = Phase::done;
}

void KeyScan::begin_round() {
    if (phase_ == Phase::sample) {
        samples_.assign(orders_.size(), {});
        for (size_t i = 0; i < orders_.size(); ++i)
            if (!searches_[i].done()) samples_[i].resize(size_t(sample_size_));
    } else if (phase_ == Phase::count) {
        active_.clear();
        for (size_t i = 0; i < orders_.size(); ++i)
            if (!searches_[i].done()) active_.push_back(i);
        counts_.assign(active_.size(), {});
        bins_.clear();
        for (size_t order : active_) {
            bins_.emplace_back(size_t(searches_[order].bins()));
            inside_by_block_[order].assign(size_t(block_count(elements_)), 0);
        }
        by_thread_.assign(size_t(threads_), {});
    } else {
        std::fill(located_.begin(), located_.end(), 0);
    }
}

bool KeyScan::wants(int64_t first_block, int64_t last_block) const {
    if (phase_ == Phase::sample) {
        int64_t step = stride_ * piece_, first = first_block * block_elements;
        return (first + step - 1) / step * step < std::min(last_block * block_elements, elements_);
    }
    if (phase_ == Phase::locate)
        return std::any_of(cuts_.begin(), cuts_.end(),
                           [&](const Cut& cut) { return cut.block >= first_block && cut.block < last_block; });
    return true;
}

namespace {
KeyArguments key_arguments(const Window& window, int64_t first, int64_t count, const float* factors, Scratch& scratch) {
    return {base_from(window, first), scratch.inputs_from(window, first), int(window.inputs.size()),
            factors ? factors + (first - window.first) : nullptr, count};
}
}  // namespace

void KeyScan::scan(const Window& window, const float* factors, Scratch& scratch) {
    if (phase_ == Phase::sample) sample(window, factors, scratch);
    if (phase_ == Phase::count) count(window, factors, scratch);
    if (phase_ == Phase::locate) locate(window, factors, scratch);
}

void KeyScan::sample(const Window& window, const float* factors, Scratch& scratch) {
    const int64_t last = window.first + window.count, step = stride_ * piece_;
    for (int64_t at = (window.first + step - 1) / step * step; at < last; at += step) {
        // A sample of everything is taken in one go.
        int64_t count = stride_ == 1 ? last - at : std::min(piece_, last - at);
        const KeyArguments what = key_arguments(window, at, count, factors, scratch);
        for (size_t i = 0; i < orders_.size(); ++i)
            if (!samples_[i].empty())
                scratch.lane->extract_keys(kind_, wide_, what, orders_[i].input,
                                           samples_[i].data() + (stride_ == 1 ? at : at / step * piece_));
        if (stride_ == 1) break;
    }
}

void KeyScan::count(const Window& window, const float* factors, Scratch& scratch) {
    Totals& totals = by_thread_[size_t(scratch.thread)];
    if (totals.counts.empty()) {
        totals.counts.resize(active_.size());
        for (size_t order : active_) totals.bins.emplace_back(size_t(searches_[order].bins()));
    }
    std::vector<KeyStream> streams;
    for (size_t a = 0; a < active_.size(); ++a) {
        size_t order = active_[a];
        streams.push_back({orders_[order].input, searches_[order].window(),
                           totals.bins[a].empty() ? nullptr : totals.bins[a].data()});
    }
    std::vector<KeyCounts> counts(size_t(window.blocks()) * streams.size());
    scratch.lane->count_keys(kind_, wide_, key_arguments(window, window.first, window.count, factors, scratch), streams,
                             counts.data());
    for (size_t i = 0; i < counts.size(); ++i) {
        const size_t a = i % streams.size(), block = size_t(window.first_block()) + i / streams.size();
        totals.counts[a].from_low += counts[i].from_low;
        totals.counts[a].from_high += counts[i].from_high;
        inside_by_block_[active_[a]][block] = uint32_t(counts[i].from_low - counts[i].from_high);
    }
    totals.collected += window.count;
    if (totals.collected > int64_t(1) << 31) flush(totals);  // before a bin of 32 bits can overflow
}

void KeyScan::flush(Totals& totals) {
    for (size_t a = 0; a < totals.bins.size(); ++a)
        for (size_t b = 0; b < totals.bins[a].size(); ++b)
            if (uint32_t count = std::exchange(totals.bins[a][b], 0))
                std::atomic_ref(bins_[a][b]).fetch_add(count, std::memory_order_relaxed);
    totals.collected = 0;
}

void KeyScan::locate(const Window& window, const float* factors, Scratch& scratch) {
    for (size_t i = 0; i < orders_.size(); ++i) {
        const Cut& cut = cuts_[i];
        if (cut.block < window.first_block() || cut.block >= window.first_block() + window.blocks()) continue;
        int64_t first = cut.block * block_elements, count = std::min(block_elements, elements_ - first);
        scratch.keys.resize(size_t(count));
        scratch.lane->extract_keys(kind_, wide_, key_arguments(window, first, count, factors, scratch),
                                   orders_[i].input, scratch.keys.data());
        int64_t rest = cut.rest;
        for (int64_t e = 0; e < count; ++e)
            if (scratch.keys[size_t(e)] == searches_[i].threshold() && --rest == 0) {
                located_[i] = uint64_t(first + e);
                break;
            }
    }
}

void KeyScan::exchange(Communicator& ranks) {
    if (phase_ == Phase::sample) {
        for (auto& keys : samples_)
            if (!keys.empty()) ranks.all_reduce_sum(std::span<uint64_t>(keys));
    } else if (phase_ == Phase::count) {
        for (Totals& totals : by_thread_) {
            flush(totals);
            for (size_t a = 0; a < totals.counts.size(); ++a) {
                counts_[a].from_low += totals.counts[a].from_low;
                counts_[a].from_high += totals.counts[a].from_high;
            }
            totals = {};
        }
        for (size_t a = 0; a < active_.size(); ++a) {
            int64_t both[2] = {counts_[a].from_low, counts_[a].from_high};
            ranks.all_reduce_sum(std::span<int64_t>(both));
            counts_[a] = {both[0], both[1]};
            if (!bins_[a].empty()) ranks.all_reduce_sum(std::span<uint64_t>(bins_[a]));
            ranks.all_reduce_sum(std::span<uint32_t>(inside_by_block_[active_[a]]));
        }
    } else if (phase_ == Phase::locate) {
        ranks.all_reduce_max(std::span<uint64_t>(located_));
    }
}

void KeyScan::end_round() {
    if (phase_ == Phase::sample) {
        end_sample();
    } else if (phase_ == Phase::count) {
        end_count();
    } else {
        for (size_t i = 0; i < orders_.size(); ++i)
            if (cuts_[i].block >= 0) thresholds_[i].last_equal = int64_t(located_[i]);
        phase_ = Phase::done;
    }
}

void KeyScan::settle_from_sample(size_t order) {
    ThresholdSearch& search = searches_[order];
    std::vector<uint64_t>& keys = samples_[order];
    if (!search.done()) {  // ties are cut: the counts of the last window are in the sample, too
        uint64_t low = search.window().low;
        KeyCounts counts;
        for (uint64_t key : keys) {
            counts.from_low += key >= low;
            counts.from_high += key > low;
        }
        search.absorb(counts, {});
    }
    Threshold& result = thresholds_[order];
    result.threshold = search.threshold();
    result.last_equal = INT64_MAX;
    if (search.keeps_all_equal()) return;
    int64_t rest = search.kept_equal();
    for (size_t e = 0; e < keys.size(); ++e)
        if (keys[e] == result.threshold && --rest == 0) {
            result.last_equal = int64_t(e);
            return;
        }
}

void KeyScan::end_sample() {
    bool all_done = true;
    // A last piece that is short, or a sample of everything, must not be mistaken for keys of 0.
    for (size_t i = 0; i < orders_.size(); ++i) {
        if (searches_[i].done()) continue;
        auto& keys = samples_[i];
        if (stride_ > 1) {
            int64_t last_piece = (sample_size_ / piece_ - 1) * stride_ * piece_;
            int64_t missing = std::max<int64_t>(0, last_piece + piece_ - elements_);
            keys.resize(keys.size() - size_t(missing));
        }
        searches_[i].guess(keys);
        if (stride_ == 1)
            settle_from_sample(i);
        else
            all_done = false;
        keys = {};
    }
    samples_ = {};
    phase_ = all_done ? Phase::done : Phase::count;
}

void KeyScan::end_count() {
    for (Totals& totals : by_thread_) {
        flush(totals);
        for (size_t a = 0; a < totals.counts.size(); ++a) {
            counts_[a].from_low += totals.counts[a].from_low;
            counts_[a].from_high += totals.counts[a].from_high;
        }
    }
    by_thread_ = {};
    bool all_done = true, any_cut = false;
    for (size_t a = 0; a < active_.size(); ++a) {
        size_t order = active_[a];
        ThresholdSearch& search = searches_[order];
        search.absorb(counts_[a], bins_[a]);
        if (!search.done()) {
            all_done = false;
            continue;
        }
        thresholds_[order] = {search.threshold(), INT64_MAX};
        if (search.keeps_all_equal()) continue;
        int64_t rest = search.kept_equal();
        const auto& inside = inside_by_block_[order];
        int64_t block = 0;
        while (rest > int64_t(inside[size_t(block)])) rest -= inside[size_t(block++)];
        cuts_[order] = {block, rest};
    }
    for (const Cut& cut : cuts_) any_cut |= cut.block >= 0;
    if (all_done) phase_ = any_cut ? Phase::locate : Phase::done;
}

std::string KeyScan::save(const std::vector<Threshold>& thresholds) {
    return {reinterpret_cast<const char*>(thresholds.data()), thresholds.size() * sizeof(Threshold)};
}

std::vector<Threshold> KeyScan::load(const std::string& bytes) {
    std::vector<Threshold> thresholds(bytes.size() / sizeof(Threshold));
    std::memcpy(thresholds.data(), bytes.data(), thresholds.size() * sizeof(Threshold));
    return thresholds;
}

}  // namespace amalgam
