#include "src/run/magnitude_orders.h"

#include <algorithm>
#include <numeric>

namespace amalgam {

namespace {

/// By key descending; equal keys keep their places. Three rounds of 11 bits do for float32.
std::vector<uint16_t> order_of(const std::vector<uint64_t>& keys) {
    constexpr int digit_bits = 11;
    constexpr size_t digits = size_t(1) << digit_bits;
    std::vector<uint16_t> order(keys.size()), next(keys.size());
    std::iota(order.begin(), order.end(), uint16_t(0));
    uint64_t used = 0;
    for (uint64_t key : keys) used |= key;
    for (int shift = 0; shift < 64 && used >> shift != 0; shift += digit_bits) {
        std::vector<uint32_t> places(digits + 1);
        const auto digit = [&](uint16_t at) { return digits - 1 - size_t(keys[at] >> shift & (digits - 1)); };
        for (uint16_t at : order) ++places[digit(at) + 1];
        for (size_t d = 0; d < digits; ++d) places[d + 1] += places[d];
        for (uint16_t at : order) next[places[digit(at)]++] = at;
        order.swap(next);
    }
    return order;
}

}  // namespace

MagnitudeOrder::MagnitudeOrder(int64_t elements, const Keys& keys, const Run& run)
    : elements_(elements), blocks_(size_t(block_count(elements))) {
    run(int64_t(blocks_.size()), [&](int64_t number, int thread) {
        Block& block = blocks_[size_t(number)];
        std::vector<uint64_t> own;
        keys(number, own, thread);
        block.order = order_of(own);
        for (size_t place = 0; place < own.size(); place += step) block.steps.push_back(own[block.order[place]]);
    });
}

uint64_t MagnitudeOrder::bytes(int64_t elements) {
    return uint64_t(elements) * sizeof(uint16_t) + uint64_t((elements + step - 1) / step) * sizeof(uint64_t) +
           uint64_t(block_count(elements)) * sizeof(Block);
}

int64_t MagnitudeOrder::count_from(int64_t number, uint64_t low, int64_t first, int64_t last,
                                   const std::function<uint64_t(int64_t)>& key) const {
    const Block& block = blocks_[size_t(number)];
    // Steps at or above `low`: the answer lies behind the last of them, and not behind the next one.
    const auto above =
        std::partition_point(block.steps.begin(), block.steps.end(), [&](uint64_t value) { return value >= low; });
    const int64_t steps = above - block.steps.begin();
    first = std::max(first, steps == 0 ? 0 : (steps - 1) * step + 1);
    last = std::min(last, steps * step);
    while (first < last) {
        const int64_t middle = (first + last) / 2;
        if (key(number * block_elements + block.order[size_t(middle)]) >= low)
            first = middle + 1;
        else
            last = middle;
    }
    return first;
}

Threshold MagnitudeOrder::keep(int64_t k, const std::function<uint64_t(int64_t)>& key) const {
    if (k <= 0) return Threshold::keep_none();
    const size_t count = blocks_.size();
    const auto place = [&](size_t block, int64_t at) {
        return int64_t(block) * block_elements + blocks_[block].order[size_t(at)];
    };
    if (count == 1) return {key(place(0, k - 1)), place(0, k - 1)};
    // The largest key that k elements reach, by bisection over keys. Within each block it lies between the numbers of elements
    // at or above the least key known to be too high, and the greatest known not to be.
    std::vector<int64_t> fewest(count), most(count);
    uint64_t low = 0, high = 0;
    for (size_t block = 0; block < count; ++block) {
        most[block] = int64_t(blocks_[block].order.size());
        high = std::max(high, blocks_[block].steps[0] + 1);
    }
    while (high - low > 1) {
        const uint64_t middle = low + (high - low) / 2;
        std::vector<int64_t> counts(count);
        int64_t total = 0;
        for (size_t block = 0; block < count; ++block)
            total += counts[block] = count_from(int64_t(block), middle, fewest[block], most[block], key);
        (total >= k ? low : high) = middle;
        (total >= k ? most : fewest) = std::move(counts);
    }
    int64_t rest = k - std::accumulate(fewest.begin(), fewest.end(), int64_t(0));
    size_t block = 0;
    for (; rest > most[block] - fewest[block]; ++block) rest -= most[block] - fewest[block];
    return {low, place(block, fewest[block] + rest - 1)};
}

}  // namespace amalgam
