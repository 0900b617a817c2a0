// All dot products of N vectors at once, over one block of 65,536 elements or a part of it.
#pragma once
#include "kernels/sum_pass.h"

namespace amalgam {

constexpr int gram_tile = 16;  ///< vectors whose products with 16 others are summed together
constexpr int gram_strip = 4;  ///< packs that are converted at a time, to stay in the cache

/// Numbers from one pack of a strip to the next, and in a strip: uneven multiples of a cache line, so that the same place
/// in every pack and vector does not fall into the same set of the cache.
constexpr int gram_pack = sum_lanes + 8;
constexpr int gram_vector = gram_strip * gram_pack + 8;

/// Memory one thread needs for gram_block().
struct GramScratch {
    alignas(64) double left[gram_tile][gram_vector];
    alignas(64) double right[gram_tile][gram_vector];
    alignas(64) double start[gram_strip * sum_lanes];
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
    /// Loads a pack of one operand; lanes outside the piece become 0.
    AMALGAM_BODY void load(const Operand& operand, int64_t pack, T* value) const {
        const int64_t at = pack * sum_lanes - arguments.first % sum_lanes;  // of lane 0, counted from the piece
        const int skip = at < 0 ? int(-at) : 0;
        const int64_t rest = arguments.count - at;
        const int valid = rest < sum_lanes ? int(rest) : sum_lanes;
        if (skip == 0) return load_pack<sum_lanes>(operand, at, valid, value);
        T shifted[sum_lanes];
        load_pack<sum_lanes>(operand, 0, valid - skip, shifted);
        for (int i = 0; i < sum_lanes; ++i) value[i] = i < skip || i >= valid ? T(0) : shifted[i - skip];
    }

    AMALGAM_BODY void load_base(int64_t first_pack, int64_t packs, T* start) const {
        for (int64_t p = 0; p < packs; ++p) load(arguments.base, first_pack + p, start + p * sum_lanes);
    }

    /// Differences of one vector to the base as double; `start` is not read if there is no base.
    AMALGAM_BODY void convert(int input, int64_t first_pack, int64_t packs, const T* start, double* out) const {
        const bool relative = arguments.base.data != nullptr;
        for (int64_t p = 0; p < packs; ++p) {
            T value[sum_lanes];
            load(arguments.inputs[input], first_pack + p, value);
            const T* from = start + p * sum_lanes;
            double* to = out + p * gram_pack;
            if (relative) {
                AMALGAM_LANES
                for (int i = 0; i < sum_lanes; ++i) value[i] = value[i] - from[i];
            }
            AMALGAM_LANES
            for (int i = 0; i < sum_lanes; ++i) to[i] = static_cast<double>(is_finite(value[i]) ? value[i] : T(0));
        }
    }

    AMALGAM_BODY void tile(int left, int right, GramScratch& scratch, double* products) const {
        const int n = arguments.input_count;
        const int rows = n - left < gram_tile ? n - left : gram_tile;
        const int columns = n - right < gram_tile ? n - right : gram_tile;
        const bool diagonal = left == right;
        const int64_t packs = (arguments.first % sum_lanes + arguments.count + sum_lanes - 1) / sum_lanes;
        for (int i = 0; i < rows; ++i)
            for (int j = 0; j < columns; ++j)
                for (int lane = 0; lane < sum_lanes; ++lane) scratch.lanes[i * gram_tile + j][lane] = 0;
        T* start = reinterpret_cast<T*>(scratch.start);
        for (int64_t strip = 0; strip < packs; strip += gram_strip) {
            const int64_t length = packs - strip < gram_strip ? packs - strip : gram_strip;
            if (arguments.base.data) load_base(strip, length, start);
            for (int i = 0; i < rows; ++i) convert(left + i, strip, length, start, scratch.left[i]);
            if (!diagonal)
                for (int j = 0; j < columns; ++j) convert(right + j, strip, length, start, scratch.right[j]);
            auto& others = diagonal ? scratch.left : scratch.right;
            // Pairs below the diagonal come along where that keeps groups whole; nobody reads their sums.
            for (int i = 0; i < rows; i += 2)
                for (int j = diagonal ? i / 4 * 4 : 0; j < columns; j += 4) {
                    if (i + 2 <= rows && j + 4 <= columns)
                        accumulate<2, 4>(scratch.left + i, others + j, int(length), scratch.lanes + i * gram_tile + j);
                    else
                        for (int a = i; a < i + 2 && a < rows; ++a)
                            for (int b = j; b < j + 4 && b < columns; ++b)
                                accumulate<1, 1>(scratch.left + a, others + b, int(length),
                                                 scratch.lanes + a * gram_tile + b);
                }
        }
        for (int i = 0; i < rows; ++i)
            for (int j = diagonal ? i : 0; j < columns; ++j)
                products[pair_index(left + i, right + j, n)] = fold_lanes(scratch.lanes[i * gram_tile + j]);
    }

    using Vector = double[gram_vector];
    using Lanes = double[sum_lanes];

    /// Products of `Rows` with `Columns` vectors, whose sums stay in registers over the packs of a strip.
    template <int Rows, int Columns>
    static AMALGAM_BODY void accumulate(const Vector* a, const Vector* b, int packs, Lanes* lanes) {
        constexpr int group = Rows * Columns > 1 ? 8 : 64;
        for (int from = 0; from < sum_lanes; from += group) {
            double sums[Rows][Columns][group];
            for (int i = 0; i < Rows; ++i)
                for (int j = 0; j < Columns; ++j) {
                    AMALGAM_LANES
                    for (int k = 0; k < group; ++k) sums[i][j][k] = lanes[i * gram_tile + j][from + k];
                }
            for (int p = 0; p < packs; ++p) {
                const int place = p * gram_pack + from;
                for (int i = 0; i < Rows; ++i)
                    for (int j = 0; j < Columns; ++j) {
                        AMALGAM_LANES
                        for (int k = 0; k < group; ++k) sums[i][j][k] += a[i][place + k] * b[j][place + k];
                    }
            }
            for (int i = 0; i < Rows; ++i)
                for (int j = 0; j < Columns; ++j) {
                    AMALGAM_LANES
                    for (int k = 0; k < group; ++k) lanes[i * gram_tile + j][from + k] = sums[i][j][k];
                }
        }
    }
};

}  // namespace amalgam
