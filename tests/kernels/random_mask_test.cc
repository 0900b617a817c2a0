// Addressed masks: the generator against its published answers and Random123, the addressing against its definition.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/cpu/passes.h"
#include "tests/kernels/mask_reference.h"

#if __has_include(<Random123/philox.h>)
#define AMALGAM_HAS_RANDOM123
#include <Random123/philox.h>
#endif

namespace amalgam {
namespace {

using test::Words2;
using test::Words4;

/// The kernel's generator for an arbitrary counter and key: the counter's top bits travel as position and refinement.
Words4 kernel_philox(Words4 counter, Words2 key) {
    const uint64_t low = counter[0] | uint64_t(counter[1]) << 32;
    MaskAddress address;
    address.seed = key[0] | uint64_t(key[1]) << 32;
    address.tensor_hash = counter[2] | uint64_t(counter[3]) << 32;
    address.position = low >> 48 & 0x7fff;
    Words4 words;
    philox<1>(address, low & 0xffffffffffffu, low & refinement_bit, words.data());
    return words;
}

struct KnownAnswer {
    Words4 counter;
    Words2 key;
    Words4 answer;
};

// Published with the generator.
const std::vector<KnownAnswer> known_answers = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

TEST(Philox, KnownAnswers) {
    for (const KnownAnswer& known : known_answers) {
        EXPECT_EQ(kernel_philox(known.counter, known.key), known.answer);
        EXPECT_EQ(test::philox_reference(known.counter, known.key), known.answer);
    }
}

TEST(Philox, AgreesWithRandom123) {
#ifdef AMALGAM_HAS_RANDOM123
    std::mt19937 random(1);
    for (int i = 0; i < 20000; ++i) {
        r123::Philox4x32::ctr_type counter;
        r123::Philox4x32::key_type key;
        for (auto& word : counter) word = random();
        for (auto& word : key) word = random();
        const auto want = r123::Philox4x32()(counter, key);
        const Words4 got = kernel_philox({counter[0], counter[1], counter[2], counter[3]}, {key[0], key[1]});
        ASSERT_EQ(got, (Words4{want[0], want[1], want[2], want[3]}));
    }
#else
    GTEST_SKIP() << "Random123 is not installed (librandom123-dev)";
#endif
}

TEST(Philox, ManyCallsAreTheSingleOnes) {
    const MaskAddress address{0x0123456789abcdef, 0xfedcba9876543210, 0x7ffe};
    std::vector<uint32_t> many(4 * 32), one(4);
    for (uint64_t first : {uint64_t(0), uint64_t(0xfffffff0), (uint64_t(1) << 48) - 32}) {
        philox<32>(address, first, refinement_bit, many.data());
        for (uint64_t call = 0; call < 32; ++call) {
            philox<1>(address, first + call, refinement_bit, one.data());
            for (size_t word = 0; word < 4; ++word) EXPECT_EQ(many[4 * call + word], one[word]);
        }
    }
}

template <int N>
void expect_pack(const MaskAddress& address, int64_t first, uint32_t threshold) {
    uint32_t keep[N];
    mask_pack<N>(address, first, threshold, keep);
    for (int i = 0; i < N; ++i) {
        ASSERT_EQ(keep[i], uint32_t(test::keeps_reference(address, first + i, threshold)))
            << "element " << first + i << " threshold " << threshold;
        ASSERT_EQ(mask_keeps(address, first + i, threshold), keep[i] != 0);
    }
}

TEST(Mask, AddressedAsTheDefinitionSays) {
    std::mt19937_64 random(2);
    for (int i = 0; i < 300; ++i) {
        const MaskAddress address{random(), random(), random() & 0x7fff};
        const int64_t first = int64_t(random() >> (13 + i % 40)) & ~int64_t(7);  // up to 2^51
        const uint32_t threshold = uint32_t(random());
        expect_pack<8>(address, first, threshold);
        expect_pack<64>(address, first, threshold);
        expect_pack<256>(address, first, threshold);
    }
}

TEST(Mask, EqualHalfWordsGoToTheRefinement) {
    std::mt19937_64 random(3);
    for (int i = 0; i < 200; ++i) {
        const MaskAddress address{random(), random(), random() & 0x7fff};
        const int64_t first = int64_t(random() % (uint64_t(1) << 40)) & ~int64_t(7);
        const int64_t element = first + int64_t(random() % 64);
        const uint32_t high = test::draw_reference(address, element, false);
        const uint32_t low = test::draw_reference(address, element, true);
        const uint32_t exact = high << 16 | low;
        expect_pack<64>(address, first, exact);
        EXPECT_FALSE(mask_keeps(address, element, exact));
        if (exact != 0xffffffffu) {
            expect_pack<64>(address, first, exact + 1);
            EXPECT_TRUE(mask_keeps(address, element, exact + 1));
        }
        expect_pack<64>(address, first, high << 16);
        EXPECT_FALSE(mask_keeps(address, element, high << 16));
    }
}

TEST(Mask, EveryPartOfTheAddressCounts) {
    const MaskAddress address{5, 6, 7};
    auto draws = [](const MaskAddress& from, int64_t first) {
        std::vector<uint32_t> result;
        for (int64_t i = 0; i < 64; ++i) result.push_back(mask_draw(from, first + i, 0));
        return result;
    };
    const auto reference = draws(address, 0);
    EXPECT_NE(draws({6, 6, 7}, 0), reference);
    EXPECT_NE(draws({5 + (uint64_t(1) << 32), 6, 7}, 0), reference);
    EXPECT_NE(draws({5, 7, 7}, 0), reference);
    EXPECT_NE(draws({5, 6 + (uint64_t(1) << 32), 7}, 0), reference);
    EXPECT_NE(draws({5, 6, 8}, 0), reference);
    EXPECT_NE(draws(address, 64), reference);
    EXPECT_NE(draws(address, int64_t(1) << 40), reference);
}

TEST(Mask, DrawsOfARange) {
    const MaskAddress address{3, 4, 5};
    for (int64_t first : {int64_t(0), int64_t(65536), (int64_t(1) << 50) + 8}) {
        std::vector<uint32_t> words(512 / 2 + 1, 99);
        cpu::draws(address, first, 512, words.data());
        for (int64_t i = 0; i < 512; ++i)
            ASSERT_EQ(words[size_t(i / 2)] >> (16 * (i % 2)) & 0xffff, test::draw_reference(address, first + i, false));
        EXPECT_EQ(words.back(), 99u);
    }
}

TEST(Mask, SharesAsThirtyTwoBits) {
    EXPECT_EQ(keep_threshold(0), 0u);
    EXPECT_EQ(keep_threshold(0.5), 0x80000000u);
    EXPECT_EQ(keep_threshold(0.25 + 0x1p-32), 0x40000001u);
    EXPECT_EQ(keep_threshold(0.25 + 0x1.8p-32), 0x40000001u);  // floor
    EXPECT_EQ(keep_threshold(0x1p-33), 0u);
    EXPECT_EQ(keep_threshold(1 - 0x1p-32), 0xffffffffu);
    EXPECT_EQ(keep_threshold(1 - 0x1p-40), 0xffffffffu);
    EXPECT_EQ(keep_threshold(-1), 0u);
    EXPECT_EQ(keep_threshold(0.1), 429496729u);
}

TEST(Mask, KeepsTheShareItIsAsked) {
    constexpr int64_t count = 1 << 18;
    for (double share : {0.01, 0.3, 0.9}) {
        int64_t kept = 0;
        for (int64_t at = 0; at < count; at += 256) {
            uint32_t keep[256];
            mask_pack<256>({42, 43, 1}, at, keep_threshold(share), keep);
            for (uint32_t flag : keep) kept += flag;
        }
        const double deviation = std::sqrt(share * (1 - share) * double(count));
        EXPECT_NEAR(double(kept), share * double(count), 5 * deviation);
    }
}

}  // namespace
}  // namespace amalgam
