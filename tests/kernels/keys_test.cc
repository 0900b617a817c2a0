// Keys of the three orders, and what is counted of them, against sorting.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/cpu/passes.h"
#include "tests/kernels/key_problem.h"

namespace amalgam {
namespace {

using test::rank_of;
using test::Tensor;
using Problem = test::KeyProblem;

template <class T>
std::vector<uint64_t> extract(const Problem& problem, KeyKind kind, int input) {
    std::vector<uint64_t> keys(size_t(problem.arguments.count) + 3, 77);
    cpu::extract_keys(kind, sizeof(T) == 8, problem.arguments, input, keys.data());
    for (int guard = 0; guard < 3; ++guard) {
        EXPECT_EQ(keys.back(), 77u);
        keys.pop_back();
    }
    return keys;
}

template <class T>
void check_extraction(int64_t count) {
    const Problem problem(count, 3, sizeof(T) == 8);
    for (int m = 0; m < 3; ++m) {
        const auto distances = extract<T>(problem, KeyKind::distance, m);
        const auto importances = extract<T>(problem, KeyKind::importance, m);
        for (int64_t i = 0; i < count; ++i) {
            const T delta = problem.delta<T>(m, i);
            ASSERT_EQ(distances[size_t(i)], rank_of(delta));
            ASSERT_EQ(importances[size_t(i)], rank_of(float(float(delta) * problem.factors[size_t(i)])));
        }
    }
    const auto variances = extract<T>(problem, KeyKind::variance, 0);
    for (int64_t i = 0; i < count; ++i) {
        long double mean = 0, variance = 0;
        for (int m = 0; m < 3; ++m) mean += static_cast<long double>(problem.delta<T>(m, i)) / 3;
        for (int m = 0; m < 3; ++m)
            variance += std::pow(static_cast<long double>(problem.delta<T>(m, i)) - mean, 2) / 3;
        if (!std::isfinite(variance)) {
            ASSERT_EQ(variances[size_t(i)], 0x7f800001u) << i;
        } else {
            // Exact in long double but for its own rounding, which is as good as nothing in a float, except at 0.
            const uint64_t want = rank_of(static_cast<float>(variance));
            const bool zero = variance < 1e-30L && variances[size_t(i)] < rank_of(1e-30f);
            ASSERT_TRUE(zero || variances[size_t(i)] + 1 >= want) << i;
            ASSERT_TRUE(zero || variances[size_t(i)] <= want + 1) << i;
        }
    }
}

TEST(Keys, AreTheDefinition) {
    for (int64_t count : {0, 1, 7, 63, 64, 65, 255, 256, 257, 4099}) {
        check_extraction<float>(count);
        check_extraction<double>(count);
    }
}

TEST(Keys, VarianceByHand) {
    Tensor base(Dtype::f32, 2, 0), a(Dtype::f32, 2, 0), b(Dtype::f32, 2, 0);
    for (int64_t i = 0; i < 2; ++i) base.set(i, 10);
    a.set(0, 11);  // task vectors 1 and 4: mean 2.5, variance 2.25
    b.set(0, 14);
    a.set(1, 7);
    b.set(1, 7);
    const Operand inputs[] = {a.operand(), b.operand()};
    const KeyArguments arguments{base.operand(), inputs, 2, nullptr, 2};
    uint64_t keys[2];
    cpu::extract_keys(KeyKind::variance, false, arguments, 0, keys);
    EXPECT_EQ(keys[0], bits_of(2.25f));
    EXPECT_EQ(keys[1], 0u);
}

template <class T>
void check_counts(KeyKind kind, int64_t count) {
    const Problem problem(count, 3, sizeof(T) == 8);
    const int bits = sizeof(T) == 8 && kind == KeyKind::distance ? 63 : 31;
    std::vector<std::vector<uint64_t>> sorted;
    for (int m = 0; m < 3; ++m) {
        sorted.push_back(extract<T>(problem, kind, m));
        std::sort(sorted.back().begin(), sorted.back().end());
    }
    std::mt19937_64 random(4);
    for (int trial = 0; trial < 40; ++trial) {
        std::vector<KeyStream> streams;
        std::vector<std::vector<uint32_t>> bins(4);
        for (size_t s = 0; s < 4; ++s) {
            const auto& keys = sorted[s % 3];
            uint64_t low = keys.empty() ? 5 : keys[random() % keys.size()],
                     high = keys.empty() ? 9 : keys[random() % keys.size()];
            if (low > high) std::swap(low, high);
            ++high;
            if (trial == 0) low = 0;
            if (trial <= 1) high = uint64_t(1) << bits;
            KeyWindow window{low, high, 0};
            while ((high - low - 1) >> window.shift > 500) ++window.shift;
            bins[s].resize(size_t((high - low - 1) >> window.shift) + 1);
            streams.push_back({int(s % 3), window, s == 3 ? nullptr : bins[s].data()});
        }
        std::vector<KeyCounts> counts(4, KeyCounts{100, 200});
        cpu::count_keys(kind, sizeof(T) == 8, problem.arguments, streams.data(), 4, counts.data());
        for (size_t s = 0; s < 4; ++s) {
            const auto& keys = sorted[s % 3];
            const KeyWindow& window = streams[s].window;
            auto from = [&](uint64_t key) { return keys.end() - std::lower_bound(keys.begin(), keys.end(), key); };
            ASSERT_EQ(counts[s].from_low, 100 + from(window.low));
            ASSERT_EQ(counts[s].from_high, 200 + from(window.high));
            if (!streams[s].bins) continue;
            for (size_t b = 0; b < bins[s].size(); ++b) {
                const uint64_t begin = window.low + (b << window.shift);
                const uint64_t end = std::min(begin + (uint64_t(1) << window.shift), window.high);
                ASSERT_EQ(int64_t(bins[s][b]), from(begin) - from(end))
                    << "bin " << b << " of " << begin << " to " << end;
            }
        }
    }
}

TEST(KeyCounts, AgreeWithSorting) {
    for (KeyKind kind : {KeyKind::distance, KeyKind::variance, KeyKind::importance})
        for (int64_t count : {0, 1, 7, 255, 256, 257, 4099}) {
            check_counts<float>(kind, count);
            check_counts<double>(kind, count);
        }
}

TEST(KeyCounts, AWindowOverAll32Bits) {
    const Problem problem(300, 1, false);
    std::vector<uint32_t> bins(16);
    const KeyStream stream{0, {0, uint64_t(1) << 32, 28}, bins.data()};
    KeyCounts counts;
    cpu::count_keys(KeyKind::distance, false, problem.arguments, &stream, 1, &counts);
    uint32_t total = 0;
    for (uint32_t bin : bins) total += bin;
    EXPECT_EQ(total, 300u);
    EXPECT_EQ(counts.from_low, 300);
    EXPECT_EQ(counts.from_high, 0);
}

TEST(Changes, AreCounted) {
    for (bool wide : {false, true})
        for (int64_t count : {0, 1, 255, 257, 4099}) {
            const Problem problem(count, 3, wide);
            const double epsilon = 0.02;
            std::vector<int64_t> shared(3, 10), unique(3, 20), want_shared(3, 10), want_unique(3, 20);
            cpu::changes(wide, problem.arguments, epsilon, shared.data(), unique.data());
            for (int64_t i = 0; i < count; ++i) {
                std::vector<size_t> active;
                for (int m = 0; m < 3; ++m) {
                    const bool still = wide ? std::fabs(problem.delta<double>(m, i)) <= epsilon
                                            : std::fabs(problem.delta<float>(m, i)) <= float(epsilon);
                    if (!still) active.push_back(size_t(m));
                }
                for (size_t m : active) ++(active.size() > 1 ? want_shared : want_unique)[m];
            }
            EXPECT_EQ(shared, want_shared);
            EXPECT_EQ(unique, want_unique);
        }
}

}  // namespace
}  // namespace amalgam
