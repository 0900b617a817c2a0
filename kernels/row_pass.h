// Sums over a row, in pieces of row x block: for softmax and divergence of arcee_fusion.
#pragma once
#include "kernels/elementary.h"
#include "kernels/sum_pass.h"

namespace amalgam {

/// Adds up term(i) for elements [first, first + count) of a row that begins at flat index `row_first`, with the lanes of
/// flat indices within each block of 65,536 and the pieces in order.
template <class Term>
AMALGAM_BODY double row_sum(int64_t row_first, int64_t count, const Term& term) {
    double total = 0;
    int64_t at = 0;
    while (at < count) {
        int64_t flat = row_first + at;
        int64_t piece = sum_block - flat % sum_block;
        piece = piece < count - at ? piece : count - at;
        alignas(64) double lanes[sum_lanes] = {};
        int64_t i = 0;
        int lane = int(flat % sum_lanes);
        for (; i < piece && lane != 0; ++i, lane = (lane + 1) % sum_lanes) lanes[lane] += term(at + i);
        for (; i + sum_lanes <= piece; i += sum_lanes) {
            AMALGAM_LANES
            for (int k = 0; k < sum_lanes; ++k) lanes[k] += term(at + i + k);
        }
        for (; i < piece; ++i, lane = (lane + 1) % sum_lanes) lanes[lane] += term(at + i);
        total += fold_lanes(lanes);
        at += piece;
    }
    return total;
}

struct DivergenceArguments {
    Operand base, other;  ///< element 0 is the first of the row
    int64_t row_first = 0;
    int64_t count = 0;
    double* scratch = nullptr;  ///< 2 x count numbers
};

/// sum p ln(p / q) of one row, p = softmax(other) + 1e-8, q = softmax(base) + 1e-8.
template <class T>
struct DivergencePass {
    DivergenceArguments arguments;

    AMALGAM_BODY double run() const {
        double* p = arguments.scratch;
        double* q = arguments.scratch + arguments.count;
        softmax(arguments.other, p);
        softmax(arguments.base, q);
        return row_sum(arguments.row_first, arguments.count,
                       [&](int64_t i) { return p[i] * (exact_log(p[i]) - exact_log(q[i])); });
    }

  private:
    AMALGAM_BODY void softmax(const Operand& operand, double* out) const {
        constexpr int width = 64;
        double highest = -1.7976931348623157e308;
        for (int64_t at = 0; at < arguments.count; at += width) {
            int valid = arguments.count - at < width ? int(arguments.count - at) : width;
            T value[width];
            load_pack<width>(operand, at, valid, value);
            for (int i = 0; i < valid; ++i) {
                out[at + i] = static_cast<double>(value[i]);
                highest = out[at + i] > highest ? out[at + i] : highest;
            }
        }
        AMALGAM_LANES
        for (int64_t i = 0; i < arguments.count; ++i) out[i] = exact_exp(out[i] - highest);
        double total = row_sum(arguments.row_first, arguments.count, [&](int64_t i) { return out[i]; });
        AMALGAM_LANES
        for (int64_t i = 0; i < arguments.count; ++i) out[i] = out[i] / total + 1e-8;
    }
};

}  // namespace amalgam
