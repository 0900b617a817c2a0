// Sums that decide bits: float64, 256 lanes by flat index within a block of 65,536 elements, lanes folded by halves.
#pragma once
#include "kernels/fold_pass.h"

namespace amalgam {

constexpr int sum_lanes = 256;
constexpr int64_t sum_block = 65536;

AMALGAM_BODY double fold_lanes(double* lanes) {
    for (int half = sum_lanes / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    return lanes[0];
}

/// L1 norms of task vectors before and after a sparsifier, of one block or less; `first` is a multiple of 256.
template <Sparsifier kind, class T>
struct NormPass {
    FoldArguments arguments;  ///< constants and out are not used

    /// Adds the elements of lanes [lane, lane + N) of model m, ascending; N is a multiple of 8.
    template <int N>
    AMALGAM_BODY void accumulate(int m, int lane, double* whole, double* kept) const {
        for (int64_t at = lane; at < arguments.count; at += sum_lanes) {
            int valid = arguments.count - at < N ? int(arguments.count - at) : N;
            T start[N], value[N];
            load_pack<N>(arguments.base, at, valid, start);
            load_pack<N>(arguments.inputs[m], at, valid, value);
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) {
                T delta = value[i] - start[i];
                delta = delta < 0 ? -delta : delta;
                value[i] = is_finite(delta) ? delta : T(0);
                whole[i] += static_cast<double>(value[i]);
            }
            sparsify_pack<kind, N>(arguments.models[m], arguments.first, at, valid, value);
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) kept[i] += static_cast<double>(value[i]);
        }
    }

    /// totals[2 m] and totals[2 m + 1]: sums of |delta| over all and over the kept elements of model m; overwritten.
    template <int N>
    AMALGAM_BODY void run(double* totals) const {
        static_assert(N == sum_lanes);
        for (int m = 0; m < arguments.model_count; ++m) {
            alignas(64) double whole[N] = {}, kept[N] = {};
            accumulate<N>(m, 0, whole, kept);
            totals[2 * m] = fold_lanes(whole);
            totals[2 * m + 1] = fold_lanes(kept);
        }
    }
};

}  // namespace amalgam
