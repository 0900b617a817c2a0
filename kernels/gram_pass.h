// All dot products of N vectors at once, over one block of 65,536 elements or a part of it.
#pragma once
#include "kernels/sum_pass.h"

namespace amalgam {

constexpr int gram_tile = 16;  ///< vectors whose products with 16 others are summed together
constexpr int gram_strip = 8;  ///< packs that are converted at a time, to stay in the cache

/// Memory one thread needs for gram_block().
struct GramScratch {
    alignas(64) double left[gram_tile][gram_strip * sum_lanes];
    alignas(64) double right[gram_tile][gram_strip * sum_lanes];
    alignas(64) double lanes[gram_tile * gram_tile][sum_lanes];
};

/// Place of the pair i <= j of `count` vectors in the upper triangle.
AMALGAM_BODY constexpr int64_t pair_index(int64_t i, int64_t j, int64_t count) {
    return i * count - i * (i - 1) / 2 + (j - i);
}
AMALGAM_BODY constexpr int64_t pair_count(int64_t count) { return count * (count + 1) / 2; }

struct GramArguments {
    Operand base;  ///< data is nullptr: products of the vectors themselves, else of their differences to it
    const Operand* inputs = nullptr;
    int input_count = 0;
    int64_t first = 0;  ///< flat index of element 0: lanes are those of flat indices
    int64_t count = 0;  ///< within one block of 65,536
};

template <class T>
struct GramPass {
    GramArguments arguments;

    /// Sums of products of pairs i <= j, overwritten; elements that are not finite count as 0.
    AMALGAM_BODY void run(GramScratch& scratch, double* products) const {
        const int n = arguments.input_count;
        for (int left = 0; left < n; left += gram_tile)
            for (int right = left; right < n; right += gram_tile) tile(left, right, scratch, products);
    }

  private:
    /// Converts packs of one vector; lanes outside the piece become 0.
    AMALGAM_BODY void convert(int input, int64_t pack_begin, int64_t packs, double* out) const {
        const int lead = int(arguments.first % sum_lanes);
        for (int64_t p = 0; p < packs; ++p) {
            int64_t at = (pack_begin + p) * sum_lanes - lead;  // of lane 0, counted from the piece
            int skip = at < 0 ? int(-at) : 0;
            int64_t rest = arguments.count - at;
            int valid = rest < sum_lanes ? int(rest) : sum_lanes;
            T value[sum_lanes] = {}, start[sum_lanes] = {};
            double* to = out + p * sum_lanes;
            if (skip == 0) {
                load_pack<sum_lanes>(arguments.inputs[input], at, valid, value);
                if (arguments.base.data) load_pack<sum_lanes>(arguments.base, at, valid, start);
            } else {
                T shifted[sum_lanes];
                int present = valid - skip;
                load_pack<sum_lanes>(arguments.inputs[input], 0, present, shifted);
                for (int i = 0; i < present; ++i) value[skip + i] = shifted[i];
                if (arguments.base.data) {
                    load_pack<sum_lanes>(arguments.base, 0, present, shifted);
                    for (int i = 0; i < present; ++i) start[skip + i] = shifted[i];
                }
            }
            AMALGAM_LANES
            for (int i = 0; i < sum_lanes; ++i) {
                T difference = value[i] - start[i];
                to[i] = static_cast<double>(is_finite(difference) ? difference : T(0));
            }
        }
    }

    AMALGAM_BODY void tile(int left, int right, GramScratch& scratch, double* products) const {
        const int n = arguments.input_count;
        const int rows = n - left < gram_tile ? n - left : gram_tile;
        const int columns = n - right < gram_tile ? n - right : gram_tile;
        const int64_t packs = (arguments.first % sum_lanes + arguments.count + sum_lanes - 1) / sum_lanes;
        for (int i = 0; i < rows * gram_tile; ++i)
            for (int lane = 0; lane < sum_lanes; ++lane) scratch.lanes[i][lane] = 0;
        for (int64_t strip = 0; strip < packs; strip += gram_strip) {
            int64_t length = packs - strip < gram_strip ? packs - strip : gram_strip;
            for (int i = 0; i < rows; ++i) convert(left + i, strip, length, scratch.left[i]);
            if (left != right)
                for (int j = 0; j < columns; ++j) convert(right + j, strip, length, scratch.right[j]);
            auto& others = left == right ? scratch.left : scratch.right;
            for (int i = 0; i < rows; ++i)
                for (int j = left == right ? i : 0; j < columns; ++j)
                    accumulate(scratch.left[i], others[j], int(length), scratch.lanes[i * gram_tile + j]);
        }
        for (int i = 0; i < rows; ++i)
            for (int j = left == right ? i : 0; j < columns; ++j)
                products[pair_index(left + i, right + j, n)] = fold_lanes(scratch.lanes[i * gram_tile + j]);
    }

    static AMALGAM_BODY void accumulate(const double* a, const double* b, int packs, double* lanes) {
        constexpr int group = 64;
        for (int from = 0; from < sum_lanes; from += group) {
            double sums[group];
            AMALGAM_LANES
            for (int i = 0; i < group; ++i) sums[i] = lanes[from + i];
            for (int p = 0; p < packs; ++p) {
                const double* x = a + p * sum_lanes + from;
                const double* y = b + p * sum_lanes + from;
                AMALGAM_LANES
                for (int i = 0; i < group; ++i) sums[i] += x[i] * y[i];
            }
            AMALGAM_LANES
            for (int i = 0; i < group; ++i) lanes[from + i] = sums[i];
        }
    }
};

}  // namespace amalgam
