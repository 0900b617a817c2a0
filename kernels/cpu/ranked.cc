#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "kernels/cpu/passes.h"

namespace amalgam::cpu {

namespace {

/// order[r] = index of the element of rank r, ascending by key, among equal keys the higher index first.
void sort_by_key(const uint64_t* keys, int64_t count, bool wide, std::vector<uint32_t>& order,
                 std::vector<uint32_t>& other) {
    order.resize(size_t(count));
    other.resize(size_t(count));
    for (int64_t i = 0; i < count; ++i) order[size_t(i)] = uint32_t(count - 1 - i);
    // Stable passes over 11 bits of the key each.
    constexpr int digit_bits = 11;
    const int key_bits = wide ? 63 : 31;
    for (int shift = 0; shift < key_bits; shift += digit_bits) {
        std::array<uint32_t, (1 << digit_bits) + 1> begin{};
        auto digit = [&](uint32_t i) { return size_t(keys[i] >> shift) & ((1u << digit_bits) - 1); };
        for (uint32_t i : order) ++begin[digit(i) + 1];
        for (size_t d = 1; d < begin.size(); ++d) begin[d] += begin[d - 1];
        for (uint32_t i : order) other[begin[digit(i)]++] = i;
        std::swap(order, other);
    }
}

/// The draws of elements from a multiple of 8 on, many at a time.
struct Draws {
    int64_t first = 0;
    std::vector<uint32_t> words;

    void fill(const MaskAddress& address, int64_t from, int64_t to) {
        first = from / 8 * 8;
        const int64_t count = (to - first + 255) / 256 * 256;
        words.resize(size_t(count / 2));
        draws(address, first, count, words.data());
    }
    bool keeps(const MaskAddress& address, int64_t element, uint32_t threshold) const {
        const int64_t place = element - first;
        const uint32_t draw = (words[size_t(place / 2)] >> (16 * (place % 2))) & 0xffffu, high = threshold >> 16;
        return draw != high ? draw < high : mask_draw(address, element, refinement_bit) < (threshold & 0xffffu);
    }
};

}  // namespace

void ranked_factors(bool wide, const RankedArguments& arguments, double* factors) {
    if (arguments.density <= 0) {
        std::fill_n(factors, arguments.count, 0.);
        return;
    }
    const int64_t columns = arguments.columns, last = arguments.first + arguments.count;
    const int64_t first_row = arguments.first / columns;
    std::vector<uint32_t> order, other;
    std::vector<uint64_t> keys(static_cast<size_t>(columns));
    Draws draws;
    for (int64_t row = first_row; row * columns < last; ++row) {
        const int64_t begin = row * columns, offset = begin - first_row * columns;
        auto from = [&](const Operand& operand) {
            return Operand{static_cast<const unsigned char*>(operand.data) + offset * stored_bytes(operand.dtype),
                           operand.dtype};
        };
        Operand input = from(arguments.input);
        extract_keys(KeyKind::distance, wide, {from(arguments.base), &input, 1, nullptr, columns}, 0, keys.data());
        sort_by_key(keys.data(), columns, wide, order, other);
        draws.fill(arguments.address, begin, begin + columns);
        for (int64_t rank = 0; rank < columns; ++rank) {
            const int64_t element = begin + order[size_t(rank)];
            if (element < arguments.first || element >= last) continue;
            const double share = ranked_share(arguments, rank);
            const bool keep = draws.keeps(arguments.address, element, keep_threshold(share));
            factors[element - arguments.first] = !keep ? 0. : arguments.inverse ? 1 / share : 1.;
        }
    }
}

}  // namespace amalgam::cpu
