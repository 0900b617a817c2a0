// One pass over memory: read the base and every model, sparsify, accumulate a few planes per element, finish, write.
#pragma once
#include "kernels/pack.h"
#include "kernels/sparsify.h"

namespace amalgam {

/// Constants of a fold; what they mean is the fold's business.
struct FoldConstants {
    double factor = 1;       ///< lambda, or lambda over a scalar divisor; t of nearswap; epsilon of RAM
    double divisor = 1;      ///< of a plain average
    bool normalize = false;  ///< divide by the weight that took part, element by element
};

/// What a block of a fold saw.
struct FoldCounts {
    bool nonfinite_input = false;  ///< NaN or infinity among the elements read
    int64_t nonfinite_output =
        0;                  ///< results that are not finite, or too large for the output dtype (FP8: see saturated)
    int64_t saturated = 0;  ///< cut to the largest finite FP8 number
    int64_t unchanged = 0;  ///< equal to the base before they are rounded; of folds of task vectors
};

struct FoldArguments {
    FoldConstants constants;
    Operand base;  ///< data is nullptr: the fold sees models, not task vectors
    const Operand* inputs = nullptr;
    const FoldModel* models = nullptr;
    int model_count = 0;
    int64_t first = 0;  ///< flat index of element 0 of the block
    int64_t count = 0;
    void* out = nullptr;
    Dtype out_dtype = Dtype::f32;
    /// A fold whose models are spread over ranks goes from one to the next as its planes: number p of element e, in the type
    /// of the computation, at p x plane_stride + e. nullptr: the planes begin at 0.
    const void* planes_in = nullptr;
    int64_t plane_stride = 0;
    /// nullptr: the fold is finished, into `out`; else its planes are written here.
    void* planes_out = nullptr;
};

/// Largest magnitudes seen: lane by lane in long packs, all in peak[0] in short ones.
template <int N, class T>
AMALGAM_BODY void raise_peak(const T* value, BitsOf<T>* peak) {
    if constexpr (N <= longest_short_pack) {
        AMALGAM_UNROLL
        for (int i = 0; i < N; ++i) {
            const BitsOf<T> magnitude = magnitude_bits(value[i]);
            peak[0] = magnitude > peak[0] ? magnitude : peak[0];
        }
    } else {
        AMALGAM_LANES
        for (int i = 0; i < N; ++i) {
            BitsOf<T> magnitude = magnitude_bits(value[i]);
            peak[i] = magnitude > peak[i] ? magnitude : peak[i];
        }
    }
}
template <int N, class T>
AMALGAM_BODY bool has_nonfinite(const BitsOf<T>* peak) {
    BitsOf<T> highest = 0;
    AMALGAM_UNROLL
    for (int i = 0; i < N; ++i) highest = peak[i] > highest ? peak[i] : highest;
    return highest >= infinity_bits<T>;
}

/// `Fold` says what one element does: `planes`, `uses_base`, `add`, `finish`.
template <class Fold, Sparsifier kind, class T>
struct FoldPass {
    FoldArguments arguments;
    FoldCounts counts{};

    /// The planes of one lane, as a fold sees them.
    template <int N>
    struct LaneOf {
        T (*planes)[N];
        int lane;
        AMALGAM_BODY T& operator[](int plane) const { return planes[plane][lane]; }
    };

    /// Packs from element `begin` on, one every `step` elements.
    template <int N>
    AMALGAM_BODY void run(int64_t begin = 0, int64_t step = N) {
        const Fold fold(arguments.constants);
        const bool eight_bit = stored_bytes(arguments.out_dtype) == 1;
        const BitsOf<T> overflow = overflow_bits<T>(arguments.out_dtype);
        BitsOf<T> peak[N] = {};
        for (int64_t at = begin; at < arguments.count; at += step) {
            int valid = arguments.count - at < N ? int(arguments.count - at) : N;
            T start[N], result[N];
            T sums[Fold::planes][N] = {};
            if (arguments.planes_in) load_planes<N>(at, valid, sums);
            if constexpr (Fold::uses_base) {
                load_pack<N>(arguments.base, at, valid, start);
                raise_peak<N>(start, peak);
            }
            for (int m = 0; m < arguments.model_count; ++m) {
                T value[N];
                load_pack<N>(arguments.inputs[m], at, valid, value);
                if constexpr (N <= longest_short_pack) raise_peak<N>(value, peak);
                AMALGAM_LANES
                for (int i = 0; i < N; ++i) {
                    if constexpr (N > longest_short_pack) {
                        BitsOf<T> magnitude = magnitude_bits(value[i]);
                        peak[i] = magnitude > peak[i] ? magnitude : peak[i];
                    }
                    if constexpr (Fold::uses_base) value[i] = value[i] - start[i];
                }
                const FoldModel& model = arguments.models[m];
                sparsify_pack<kind, N>(model, arguments.first, at, valid, value);
                const T scale = static_cast<T>(model.scale), weight = static_cast<T>(model.weight);
                AMALGAM_LANES
                for (int i = 0; i < N; ++i) {
                    fold.add(LaneOf<N>{sums, i}, value[i], scale, weight);
                }
            }
            if (arguments.planes_out) {
                store_planes<N>(at, valid, sums);
                continue;
            }
            int bad = 0;
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) {
                T base = T(0);
                if constexpr (Fold::uses_base) base = start[i];
                result[i] = fold.finish(base, LaneOf<N>{sums, i});
            }
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) bad += int(magnitude_bits(result[i]) >= overflow);
            if (bad) count_output<N>(result, valid, overflow);
            if (eight_bit) count_saturated<N>(result, valid);
            if constexpr (Fold::uses_base) {
                int same = 0;
                AMALGAM_LANES
                for (int i = 0; i < N; ++i) same += int(result[i] == start[i]) & int(i < valid);
                counts.unchanged += same;
            }
            store_pack<N>(arguments.out, arguments.out_dtype, at, valid, result);
        }
        counts.nonfinite_input = has_nonfinite<N, T>(peak);
    }

  private:
    static constexpr Dtype plane_dtype = sizeof(T) == 8 ? Dtype::f64 : Dtype::f32;

    template <int N>
    AMALGAM_BODY void load_planes(int64_t at, int valid, T (*sums)[N]) const {
        const Operand planes{arguments.planes_in, plane_dtype};
        AMALGAM_UNROLL
        for (int p = 0; p < Fold::planes; ++p) load_pack<N>(planes, p * arguments.plane_stride + at, valid, sums[p]);
    }
    template <int N>
    AMALGAM_BODY void store_planes(int64_t at, int valid, T (*sums)[N]) const {
        AMALGAM_UNROLL
        for (int p = 0; p < Fold::planes; ++p)
            store_pack<N>(arguments.planes_out, plane_dtype, p * arguments.plane_stride + at, valid, sums[p]);
    }
    template <int N>
    AMALGAM_BODY void count_output(const T* result, int valid, BitsOf<T> overflow) {
        int bad = 0;
        AMALGAM_UNROLL
        for (int i = 0; i < N; ++i) bad += int(i < valid) & int(magnitude_bits(result[i]) >= overflow);
        counts.nonfinite_output += bad;
    }
    template <int N>
    AMALGAM_BODY void count_saturated(const T* result, int valid) {
        int cut = 0;
        AMALGAM_UNROLL
        for (int i = 0; i < N; ++i) cut += int(i < valid) & int(saturates(arguments.out_dtype, result[i]));
        counts.saturated += cut;
    }
};

}  // namespace amalgam
