#include "src/run/ranked_mask.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "kernels/cpu/passes.h"

namespace amalgam {

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

}  // namespace

void RankedMask::fill(const Window& window, int input, bool wide, Scratch& scratch, double* factors) const {
    if (density <= 0) {
        std::fill_n(factors, window.count, 0.);
        return;
    }
    const int64_t columns = window.task->columns();
    std::vector<uint32_t> order, other;
    const int64_t last = window.first + window.count;
    for (int64_t row = window.first / columns; row * columns < last; ++row) {
        const int64_t begin = row * columns;
        scratch.keys.resize(size_t(columns));
        Operand operand = at_element(window.inputs[size_t(input)], begin - window.input_first);
        KeyArguments keys{at_element(window.base, begin - window.input_first), &operand, 1, nullptr, columns};
        cpu::extract_keys(KeyKind::distance, wide, keys, 0, scratch.keys.data());
        sort_by_key(scratch.keys.data(), columns, wide, order, other);

        const int64_t aligned = begin / 8 * 8, draws = (begin + columns - aligned + 255) / 256 * 256;
        scratch.words.resize(size_t(draws / 2));
        cpu::draws(address, aligned, draws, scratch.words.data());
        for (int64_t rank = 0; rank < columns; ++rank) {
            const int64_t element = begin + order[size_t(rank)];
            if (element < window.first || element >= last) continue;
            double probability =
                columns == 1 ? density : density - epsilon + 2 * epsilon * double(rank) / double(columns - 1);
            const uint32_t threshold = keep_threshold(probability), high = threshold >> 16;
            const int64_t place = element - aligned;
            uint32_t draw = (scratch.words[size_t(place / 2)] >> (16 * (place % 2))) & 0xffffu;
            bool keep =
                draw != high ? draw < high : mask_draw(address, element, refinement_bit) < (threshold & 0xffffu);
            factors[element - window.first] = !keep ? 0. : inverse ? 1 / probability : 1.;
        }
    }
}

}  // namespace amalgam
