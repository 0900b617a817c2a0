#include "src/run/magnitude_orders.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace amalgam {
namespace {

using Keys = std::vector<uint64_t>;

MagnitudeOrder order_of(const Keys& keys) {
    return MagnitudeOrder(
        int64_t(keys.size()),
        [&](int64_t block, Keys& out, int thread) {
            EXPECT_EQ(thread, 0);
            const auto first = keys.begin() + block * block_elements;
            out.assign(first, first + std::min<int64_t>(block_elements, keys.end() - first));
        },
        [](int64_t count, const std::function<void(int64_t, int)>& body) {
            for (int64_t block = count - 1; block >= 0; --block) body(block, 0);
        });
}

/// Compares with a sort of everything by the design's order.
void expect_sorted(const Keys& keys, std::vector<int64_t> counts) {
    std::vector<int64_t> sorted(keys.size());
    std::iota(sorted.begin(), sorted.end(), 0);
    std::stable_sort(sorted.begin(), sorted.end(),
                     [&](int64_t a, int64_t b) { return keys[size_t(a)] > keys[size_t(b)]; });
    const MagnitudeOrder order = order_of(keys);
    for (int64_t k : counts) {
        const Threshold found = order.keep(k, [&](int64_t element) { return keys[size_t(element)]; });
        const int64_t last = sorted[size_t(k - 1)];
        EXPECT_EQ(found.threshold, keys[size_t(last)]) << k << " of " << keys.size();
        EXPECT_EQ(found.last_equal, last) << k << " of " << keys.size();
    }
}

std::vector<int64_t> some_counts(int64_t elements, std::mt19937_64& random) {
    std::vector<int64_t> counts = {1, elements, (elements + 1) / 2};
    for (int i = 0; i < 40; ++i) counts.push_back(1 + int64_t(random() % uint64_t(elements)));
    return counts;
}

TEST(MagnitudeOrder, KeysOfAllKinds) {
    std::mt19937_64 random(3);
    for (const int64_t elements : {int64_t(1), int64_t(2), int64_t(255), int64_t(256), int64_t(257), int64_t(4099),
                                   block_elements, block_elements + 1, 3 * block_elements + 17}) {
        for (const int kind : {0, 1, 2, 3, 4}) {
            Keys keys;
            for (int64_t i = 0; i < elements; ++i) {
                const uint64_t bits = random();
                // few values, 31 bits, 63 bits, mostly zeros, all the same
                keys.push_back(kind == 0   ? bits % 5
                               : kind == 1 ? bits >> 33
                               : kind == 2 ? bits >> 1
                               : kind == 3 ? (bits % 100 ? 0 : bits >> 40)
                                           : 0x3f800000);
            }
            SCOPED_TRACE(testing::Message() << elements << " elements of kind " << kind);
            expect_sorted(keys, some_counts(elements, random));
        }
    }
}

TEST(MagnitudeOrder, BlocksThatDoNotOverlap) {
    Keys keys(size_t(4 * block_elements - 5));
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = uint64_t(i) / uint64_t(block_elements) * 1000 + i % 3;
    std::mt19937_64 random(4);
    expect_sorted(keys, some_counts(int64_t(keys.size()), random));
    std::reverse(keys.begin(), keys.end());
    expect_sorted(keys, some_counts(int64_t(keys.size()), random));
}

TEST(MagnitudeOrder, KeepsNothing) {
    const Keys keys = {3, 1, 2};
    const Threshold found = order_of(keys).keep(0, [](int64_t) { return uint64_t(0); });
    for (int64_t element : {0, 1, 2}) EXPECT_GT(found.low_at(element), keys[size_t(element)]);
}

TEST(MagnitudeOrder, TakesTwoBytesAnElementAndLittleMore) {
    EXPECT_GE(MagnitudeOrder::bytes(100 * block_elements), uint64_t(200 * block_elements));
    EXPECT_LE(MagnitudeOrder::bytes(100 * block_elements), uint64_t(210 * block_elements));
}

}  // namespace
}  // namespace amalgam
