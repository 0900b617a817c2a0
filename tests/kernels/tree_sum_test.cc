// One tree of sums, whoever brings the blocks and when.
#include "kernels/tree_sum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

namespace amalgam {
namespace {

using Terms = std::vector<double>;

std::vector<Terms> random_terms(int64_t blocks, size_t width, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::uniform_real_distribution<double> exponent(-20, 20);
    std::vector<Terms> all(static_cast<size_t>(blocks), Terms(width));
    for (Terms& terms : all)
        for (double& term : terms) term = (random() % 2 ? 1 : -1) * std::exp2(exponent(random));
    return all;
}

/// The node over blocks [first, first + size): size is a power of two, what lies beyond the last block is not there.
Terms node(const std::vector<Terms>& blocks, size_t first, size_t size) {
    if (size == 1) return blocks[first];
    Terms left = node(blocks, first, size / 2);
    if (first + size / 2 >= blocks.size()) return left;
    const Terms right = node(blocks, first + size / 2, size / 2);
    for (size_t i = 0; i < left.size(); ++i) left[i] += right[i];
    return left;
}

Terms tree(const std::vector<Terms>& blocks) {
    size_t size = 1;
    while (size < blocks.size()) size *= 2;
    return node(blocks, 0, size);
}

TEST(TreeSum, ByHand) {
    // (2^53 + 1) + (1 + 1): the first 1 is lost, the others are not.
    TreeSum sum(4, 1);
    for (int64_t block : {3, 0, 2, 1}) sum.add(block, {block == 0 ? 0x1p53 : 1.});
    EXPECT_EQ(sum.total(), Terms{0x1p53 + 2});
}

TEST(TreeSum, AnyOrderGivesTheSameBits) {
    std::mt19937_64 random(1);
    for (int64_t blocks : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 1000}) {
        const auto terms = random_terms(blocks, 3, uint64_t(blocks));
        const Terms want = tree(terms);
        std::vector<int64_t> order(static_cast<size_t>(blocks));
        std::iota(order.begin(), order.end(), 0);
        for (int trial = 0; trial < 10; ++trial) {
            TreeSum sum(blocks, 3);
            for (int64_t block : order) sum.add(block, terms[size_t(block)]);
            ASSERT_EQ(sum.total(), want) << blocks;
            std::shuffle(order.begin(), order.end(), random);
            if (trial == 8) std::sort(order.rbegin(), order.rend());
        }
    }
}

TEST(TreeSum, AnySplitOverRanksGivesTheSameBits) {
    std::mt19937_64 random(2);
    for (int64_t blocks : {1, 2, 3, 5, 8, 13, 64, 100, 257}) {
        const auto terms = random_terms(blocks, 2, uint64_t(blocks));
        const Terms want = tree(terms);
        for (int ranks : {1, 2, 3, 4, 7, 300})
            for (bool contiguous : {true, false}) {
                std::vector<TreeSum> sums(size_t(ranks), TreeSum(blocks, 2));
                for (int64_t block = 0; block < blocks; ++block) {
                    const uint64_t owner = contiguous ? uint64_t(block * ranks / blocks) : random();
                    sums[owner % uint64_t(ranks)].add(block, terms[size_t(block)]);
                }
                // Gathered in any order, some by way of others.
                while (sums.size() > 1) {
                    const size_t from = random() % sums.size();
                    std::swap(sums[from], sums.back());
                    const std::string partials = sums.back().partials();
                    sums.pop_back();
                    sums[random() % sums.size()].merge(partials);
                }
                ASSERT_EQ(sums[0].total(), want) << blocks << " blocks, " << ranks << " ranks";
            }
    }
}

TEST(TreeSum, HoldsLogarithmicallyManyPartialSums) {
    constexpr int64_t blocks = 1 << 12;
    TreeSum sum(blocks, 1);
    for (int64_t block = 777; block < 3333; ++block) {
        sum.add(block, {1.});
        ASSERT_LE(sum.partials().size(), (2 * 12 + 1) * (2 * sizeof(int64_t) + sizeof(double)));
    }
}

TEST(TreeSum, AnIncompleteSumIsAnError) {
    TreeSum sum(3, 1);
    EXPECT_THROW(sum.total(), std::logic_error);
    sum.add(2, {1.});
    EXPECT_THROW(sum.total(), std::logic_error);
    sum.add(0, {1.});
    EXPECT_THROW(sum.total(), std::logic_error);
    sum.add(1, {1.});
    EXPECT_EQ(sum.total(), Terms{3.});
    TreeSum other(3, 2);
    EXPECT_THROW(other.merge(sum.partials()), std::logic_error);
}

}  // namespace
}  // namespace amalgam
