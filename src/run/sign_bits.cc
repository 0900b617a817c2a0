#include "src/run/sign_bits.h"

#include <bit>

namespace amalgam {
namespace {

constexpr int word = 64;

/// The lowest bits of 64 bytes.
uint64_t gather_bits(const uint8_t* flags) {
    uint64_t bits = 0;
    for (int byte = 0; byte < 8; ++byte) {
        uint64_t eight;
        std::memcpy(&eight, flags + 8 * byte, 8);
        // Moves the lowest bit of byte i to bit 56 + i; no two of the sums meet.
        bits |= (eight * 0x0102040810204080ull >> 56) << (8 * byte);
    }
    return bits;
}

template <class T>
void fill_signs(const Operand& base, const Operand& input, int64_t count, SignBits& signs) {
    for (int64_t at = 0; at < count; at += word) {
        const int valid = count - at < word ? int(count - at) : word;
        T start[word], value[word];
        load_pack<word>(base, at, valid, start);
        load_pack<word>(input, at, valid, value);
        uint8_t up[word], down[word];
        int nonfinite = 0;
        AMALGAM_LANES
        for (int i = 0; i < word; ++i) {
            const T delta = value[i] - start[i];
            const bool finite = is_finite(delta);
            up[i] = finite & (delta > 0);
            down[i] = finite & (delta < 0);
            nonfinite += !finite;
        }
        signs.up[size_t(at / word)] = gather_bits(up);
        signs.down[size_t(at / word)] = gather_bits(down);
        signs.nonfinite += nonfinite;
    }
}

}  // namespace

void SignBits::fill(const Operand& base, const Operand& input, int64_t count, bool wide) {
    up.resize(size_t((count + word - 1) / word));
    down.resize(up.size());
    nonfinite = 0;
    if (wide)
        fill_signs<double>(base, input, count, *this);
    else
        fill_signs<float>(base, input, count, *this);
}

int64_t SignBits::changed() const {
    int64_t count = 0;
    for (size_t i = 0; i < up.size(); ++i) count += std::popcount(up[i] | down[i]);
    return count;
}

PairCounts compare_signs(const SignBits& a, const SignBits& b) {
    PairCounts counts;
    for (size_t i = 0; i < a.words(); ++i) {
        counts.both += std::popcount((a.up[i] | a.down[i]) & (b.up[i] | b.down[i]));
        counts.opposite += std::popcount((a.up[i] & b.down[i]) | (a.down[i] & b.up[i]));
    }
    return counts;
}

int64_t count_conflicts(const std::vector<SignBits>& models) {
    int64_t count = 0;
    const size_t words = models.empty() ? 0 : models[0].words();
    for (size_t i = 0; i < words; ++i) {
        uint64_t up = 0, down = 0;
        for (const SignBits& model : models) {
            up |= model.up[i];
            down |= model.down[i];
        }
        count += std::popcount(up & down);
    }
    return count;
}

}  // namespace amalgam
