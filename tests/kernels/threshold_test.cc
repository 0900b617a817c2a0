// The search for the k-th largest key, driven by data sets it cannot see.
#include "kernels/threshold.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "tests/kernels/formats.h"

namespace amalgam {
namespace {

/// Keys with how often each occurs: counts answers for any window.
class DataSet {
  public:
    struct Key {
        uint64_t key;
        int64_t times;
    };
    explicit DataSet(std::vector<Key> keys) : keys_(std::move(keys)) {
        std::sort(keys_.begin(), keys_.end(), [](const Key& a, const Key& b) { return a.key > b.key; });
        for (const Key& key : keys_) size_ += key.times, from_.push_back(size_);
    }
    explicit DataSet(const std::vector<uint64_t>& keys) : DataSet(once_each(keys)) {}

    int64_t size() const { return size_; }
    /// How many keys are at or above this one.
    int64_t from(uint64_t key) const {
        const size_t above = place(key);
        return above == 0 ? 0 : from_[above - 1];
    }
    int64_t equal(uint64_t key) const { return from(key) - from(key + 1); }
    uint64_t kth_largest(int64_t k) const {
        return keys_.at(size_t(std::lower_bound(from_.begin(), from_.end(), k) - from_.begin())).key;
    }
    std::vector<uint64_t> bins(const KeyWindow& window, int64_t count) const {
        std::vector<uint64_t> result(static_cast<size_t>(count));
        if (count > 0)
            for (size_t i = place(window.high); i < place(window.low); ++i)
                result.at((keys_[i].key - window.low) >> window.shift) += uint64_t(keys_[i].times);
        return result;
    }

  private:
    static std::vector<Key> once_each(const std::vector<uint64_t>& keys) {
        std::vector<Key> result;
        for (uint64_t key : keys) result.push_back({key, 1});
        return result;
    }
    /// Entries at or above a key: they come first.
    size_t place(uint64_t key) const {
        return size_t(std::partition_point(keys_.begin(), keys_.end(), [&](const Key& k) { return k.key >= key; }) -
                      keys_.begin());
    }
    std::vector<Key> keys_;      ///< descending
    std::vector<int64_t> from_;  ///< how many keys there are up to each entry
    int64_t size_ = 0;
};

/// Carries the search to its end; the number of counting passes, and whether the answer is right.
int rounds_of(ThresholdSearch& search, const DataSet& data, int64_t k, bool cut_ties, int key_bits) {
    int rounds = 0;
    while (!search.done()) {
        if (++rounds > 40) {
            ADD_FAILURE() << "no end";
            return rounds;
        }
        const KeyWindow window = search.window();
        EXPECT_LT(window.low, window.high);
        EXPECT_LE(window.high, uint64_t(1) << key_bits);
        EXPECT_LE(search.bins(), ThresholdSearch::max_bins);
        search.absorb({data.from(window.low), data.from(window.high)}, data.bins(window, search.bins()));
    }
    EXPECT_EQ(search.keeps_nothing(), k == 0);
    if (k == 0) {
        EXPECT_EQ(data.from(search.threshold()), 0);
        EXPECT_EQ(search.kept_equal(), 0);
        return rounds;
    }
    const uint64_t threshold = data.kth_largest(k);
    const int64_t equal = data.equal(threshold), above = data.from(threshold) - equal;
    EXPECT_EQ(search.threshold(), threshold);
    EXPECT_EQ(search.kept_equal(), cut_ties ? k - above : equal);
    EXPECT_EQ(search.keeps_all_equal(), !cut_ties || k - above == equal);
    return rounds;
}

int search_rounds(const DataSet& data, int64_t k, int key_bits, bool cut_ties, const std::vector<uint64_t>& sample) {
    SCOPED_TRACE(testing::Message() << "k = " << k << " of " << data.size() << ", " << sample.size() << " samples");
    ThresholdSearch search(data.size(), k, key_bits, cut_ties);
    if (!sample.empty()) search.guess(sample);
    return rounds_of(search, data, k, cut_ties, key_bits);
}

uint64_t float_key(double value) {
    return std::isnan(value) ? 0x7f800001u : test::encode(Dtype::f32, std::fabs(static_cast<long double>(value)));
}

/// Distances of fine-tuned bf16 weights: multiples of a weight's own last place, and many are zero.
std::vector<uint64_t> bf16_distances(size_t count, double change, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    std::vector<uint64_t> keys;
    for (size_t i = 0; i < count; ++i) {
        const long double base = test::round_unbounded(Dtype::bf16, 0.02 * normal(random));
        const long double other = test::round_unbounded(Dtype::bf16, base + change * normal(random));
        keys.push_back(float_key(double(other - base)));
    }
    return keys;
}

std::vector<uint64_t> normal_distances(size_t count, Dtype dtype, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal(0, 0.01);
    std::vector<uint64_t> keys;
    for (size_t i = 0; i < count; ++i) keys.push_back(test::encode(dtype, std::fabs(normal(random))));
    return keys;
}

struct NamedData {
    const char* name;
    int key_bits;
    std::vector<uint64_t> keys;
};

std::vector<NamedData> small_data_sets() {
    std::vector<uint64_t> zeros_and_few(3000), with_nans = normal_distances(2000, Dtype::f32, 3), lattice, extremes;
    for (size_t i = 0; i < 30; ++i) zeros_and_few[100 * i] = float_key(0.1 * double(i));
    for (size_t i = 0; i < with_nans.size(); i += 50) with_nans[i] = float_key(NAN);
    for (uint64_t i = 0; i < 4000; ++i) lattice.push_back(float_key(double(i * i % 7) / 128));
    for (uint64_t i = 0; i < 500; ++i) extremes.push_back(i % 2 ? 0 : (uint64_t(1) << 31) - 1);
    return {{"one key", 31, {12345}},
            {"two keys", 31, {5, 9}},
            {"normal, float", 31, normal_distances(5000, Dtype::f32, 1)},
            {"normal, double", 63, normal_distances(5000, Dtype::f64, 2)},
            {"bf16", 31, bf16_distances(5000, 0.001, 4)},
            {"lattice", 31, lattice},
            {"all equal", 31, std::vector<uint64_t>(1000, float_key(0.25))},
            {"all zero", 31, std::vector<uint64_t>(1000)},
            {"zeros and few", 31, zeros_and_few},
            {"NaNs", 31, with_nans},
            {"ends of the range", 31, extremes}};
}

std::vector<int64_t> interesting_ranks(int64_t n) {
    std::vector<int64_t> ranks = {0, 1, 2, n / 10, n / 3, n / 2, n - n / 10, n - 1, n};
    for (int64_t& k : ranks) k = std::clamp<int64_t>(k, 0, n);
    return ranks;
}

TEST(ThresholdSearch, WithoutASample) {
    for (const NamedData& named : small_data_sets()) {
        SCOPED_TRACE(named.name);
        const DataSet data(named.keys);
        for (int64_t k : interesting_ranks(data.size()))
            for (bool cut : {false, true})
                EXPECT_LE(search_rounds(data, k, named.key_bits, cut, {}), named.key_bits / 13 + 2);
    }
}

TEST(ThresholdSearch, NothingToSearch) {
    EXPECT_EQ(search_rounds(DataSet(std::vector<uint64_t>()), 0, 31, true, {}), 0);
}

TEST(ThresholdSearch, AWholeSampleSettlesAllButTies) {
    for (const NamedData& named : small_data_sets()) {
        SCOPED_TRACE(named.name);
        const DataSet data(named.keys);
        for (int64_t k : interesting_ranks(data.size())) {
            EXPECT_EQ(search_rounds(data, k, named.key_bits, false, named.keys), 0);
            EXPECT_LE(search_rounds(data, k, named.key_bits, true, named.keys), 1);
        }
    }
}

TEST(ThresholdSearch, SamplesThatMisleadCostPassesOnly) {
    std::mt19937_64 random(5);
    for (const NamedData& named : small_data_sets()) {
        SCOPED_TRACE(named.name);
        const DataSet data(named.keys);
        if (data.size() < 100) continue;
        const uint64_t top = (uint64_t(1) << named.key_bits) - 1;
        std::vector<std::vector<uint64_t>> samples = {
            {0}, {top}, {0, top}, std::vector<uint64_t>(64, 0), std::vector<uint64_t>(64, top)};
        std::vector<uint64_t> sorted = named.keys, noise(64), spread(64);
        std::sort(sorted.begin(), sorted.end());
        samples.emplace_back(sorted.begin(), sorted.begin() + 64);
        samples.emplace_back(sorted.end() - 64, sorted.end());
        for (uint64_t& key : noise) key = random() & top;
        for (size_t i = 0; i < spread.size(); ++i) spread[i] = top / 64 * i;
        samples.push_back(noise);
        samples.push_back(spread);
        for (const auto& sample : samples)
            for (int64_t k : interesting_ranks(data.size()))
                for (bool cut : {false, true})
                    EXPECT_LE(search_rounds(data, k, named.key_bits, cut, sample), named.key_bits / 13 + 5);
    }
}

TEST(ThresholdSearch, RandomProblems) {
    std::mt19937_64 random(6);
    for (int trial = 0; trial < 2000; ++trial) {
        const int key_bits = trial % 3 ? 31 : 63;
        const size_t n = 1 + random() % 300;
        const uint64_t values = 1 + random() % (trial % 2 ? 5 : 100000);
        const uint64_t stretch = uint64_t(1) << random() % uint64_t(key_bits - 17);
        std::vector<uint64_t> keys(n), sample(random() % n);
        for (uint64_t& key : keys) key = random() % values * stretch;
        for (uint64_t& key : sample) key = random() % 8 ? keys[random() % n] : random() % values * stretch;
        const int64_t k = int64_t(random() % (n + 1));
        search_rounds(DataSet(keys), k, key_bits, random() % 2, sample);
        if (HasFailure()) FAIL() << "trial " << trial;
    }
}

TEST(ThresholdSearch, CountsBeyond32Bits) {
    // A whole model of 7 x 10^12 elements, most of which did not change.
    std::vector<DataSet::Key> keys = {{0, 6'000'000'000'000}};
    for (int i = 1; i <= 1000; ++i) keys.push_back({float_key(i * 1e-5), 1'000'000'000});
    const DataSet data(keys);
    for (int64_t k : {int64_t(1), int64_t(123'456'789'012), int64_t(999'999'999'999), int64_t(1'000'000'000'000),
                      int64_t(1'000'000'000'001), int64_t(5'000'000'000'000), data.size()})
        for (bool cut : {false, true}) EXPECT_LE(search_rounds(data, k, 31, cut, {}), 4);
}

/// How many passes honest samples of 65,536 keys need; the numbers are printed and held.
class Passes {
  public:
    void add(const std::vector<uint64_t>& keys, int key_bits, bool cut, uint64_t seed) {
        const DataSet data(keys);
        std::mt19937_64 random(seed);
        std::vector<uint64_t> sample(65536);
        for (uint64_t& key : sample) key = keys[random() % keys.size()];
        for (double density : {0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}) {
            const int rounds = search_rounds(data, int64_t(density * double(keys.size())), key_bits, cut, sample);
            ++searches_;
            ++by_rounds_[rounds];
        }
    }
    double share_within(int rounds) const {
        int count = 0;
        for (auto [passes, searches] : by_rounds_) count += passes <= rounds ? searches : 0;
        return double(count) / searches_;
    }
    void print(const char* name) const {
        std::printf("%s:", name);
        for (auto [passes, searches] : by_rounds_) std::printf(" %d searches in %d passes;", searches, passes);
        std::printf("\n");
    }

  private:
    std::map<int, int> by_rounds_;
    int searches_ = 0;
};

constexpr size_t large = size_t(1) << 19;

TEST(ThresholdPasses, TiesOfBf16MostlyTakeOne) {
    Passes passes;
    for (double change : {0.0003, 0.001, 0.003}) passes.add(bf16_distances(large, change, 10), 31, true, 11);
    passes.print("bf16 distances, ties cut");
    EXPECT_GE(passes.share_within(1), 0.5);
    EXPECT_GE(passes.share_within(2), 0.95);
    EXPECT_EQ(passes.share_within(3), 1);
}

TEST(ThresholdPasses, FloatsTakeTwo) {
    Passes passes;
    for (uint64_t seed : {20, 21, 22}) passes.add(normal_distances(large, Dtype::f32, seed), 31, true, seed + 100);
    passes.print("float distances");
    EXPECT_EQ(passes.share_within(3), 1);
    EXPECT_GE(passes.share_within(2), 0.5);
}

TEST(ThresholdPasses, DoublesTakeFew) {
    Passes passes;
    passes.add(normal_distances(large, Dtype::f64, 30), 63, true, 130);
    passes.print("double distances");
    EXPECT_EQ(passes.share_within(5), 1);
}

}  // namespace
}  // namespace amalgam
