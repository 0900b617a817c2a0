// Folds whose mask needs all models of an element at once (SCE), or a value per row (arcee_fusion).
#pragma once
#include "kernels/fold_pass.h"
#include "kernels/key_pass.h"
#include "kernels/sum_pass.h"

namespace amalgam {

struct SelectArguments {
    KeyArguments key;
    uint64_t low = 0;                 ///< keys below are dropped
    uint64_t tie_key = 0;             ///< energies: this key is kept among the first `tie_count` elements only
    int64_t tie_count = -1;           ///< -1: no such rule
    const double* weights = nullptr;  ///< SCE: of each input
    void* out = nullptr;
    Dtype out_dtype = Dtype::f32;
};

/// Energies of the task vectors where the variance is selected: sum of squares per input, of one block or less.
template <class T>
struct EnergyPass {
    SelectArguments arguments;

    /// Adds the elements of lanes [lane, lane + N), ascending, to lanes[256 m + lane] and on. Elements that are not finite
    /// are left out.
    template <int N>
    AMALGAM_BODY void accumulate(int lane, double* lanes) const {
        const KeyPass<KeyKind::variance, T> pass{arguments.key};
        for (int64_t at = lane; at < arguments.key.count; at += sum_lanes) {
            int valid = arguments.key.count - at < N ? int(arguments.key.count - at) : N;
            T start[N], value[N];
            uint32_t key[N];
            load_pack<N>(arguments.key.base, at, valid, start);
            pass.template keys<N>(0, at, valid, start, key);
            if (arguments.tie_count >= 0)
                for (int i = 0; i < N; ++i)
                    if (key[i] == arguments.tie_key && at + i >= arguments.tie_count) key[i] = 0;
            for (int m = 0; m < arguments.key.input_count; ++m) {
                load_pack<N>(arguments.key.inputs[m], at, valid, value);
                double* sums = lanes + int64_t(m) * sum_lanes + lane;
                AMALGAM_LANES
                for (int i = 0; i < N; ++i) {
                    T delta = value[i] - start[i];
                    bool keep = (key[i] >= arguments.low) & is_finite(delta);
                    double kept = keep ? static_cast<double>(delta) : 0.;
                    sums[i] += kept * kept;
                }
            }
        }
    }

    /// energies[m], overwritten; `scratch` holds 256 numbers per input.
    template <int N>
    AMALGAM_BODY void run(double* energies, double* scratch) const {
        static_assert(N == sum_lanes);
        const int inputs = arguments.key.input_count;
        for (int i = 0; i < inputs * N; ++i) scratch[i] = 0;
        accumulate<N>(0, scratch);
        for (int m = 0; m < inputs; ++m) energies[m] = fold_lanes(scratch + int64_t(m) * N);
    }
};

/// SCE: keep elements of large variance, elect the sign by plain sums, average those that agree by energy.
template <class T>
struct ScePass {
    SelectArguments arguments;
    FoldCounts counts{};

    /// Packs from element `begin` on, one every `step` elements.
    template <int N>
    AMALGAM_BODY void run(int64_t begin = 0, int64_t step = N) {
        const KeyPass<KeyKind::variance, T> pass{arguments.key};
        BitsOf<T> peak[N] = {};
        for (int64_t at = begin; at < arguments.key.count; at += step) {
            int valid = arguments.key.count - at < N ? int(arguments.key.count - at) : N;
            T start[N], value[N], total[N] = {}, mass[N] = {}, weight[N] = {};
            uint32_t key[N];
            load_pack<N>(arguments.key.base, at, valid, start);
            raise_peak<N>(start, peak);
            pass.template keys<N>(0, at, valid, start, key);
            for (int m = 0; m < arguments.key.input_count; ++m) {
                load_pack<N>(arguments.key.inputs[m], at, valid, value);
                raise_peak<N>(value, peak);
                AMALGAM_LANES
                for (int i = 0; i < N; ++i) total[i] += key[i] >= arguments.low ? T(value[i] - start[i]) : T(0);
            }
            for (int m = 0; m < arguments.key.input_count; ++m) {
                load_pack<N>(arguments.key.inputs[m], at, valid, value);
                const T share = static_cast<T>(arguments.weights[m]);
                AMALGAM_LANES
                for (int i = 0; i < N; ++i) {
                    T delta = key[i] >= arguments.low ? T(value[i] - start[i]) : T(0);
                    bool up = total[i] >= 0;
                    bool agrees = up ? !(delta <= 0) : !(delta >= 0);  // a NaN takes part
                    mass[i] += agrees ? share * delta : T(0);
                    weight[i] += agrees ? share : T(0);
                }
            }
            T result[N];
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) {
                T divisor = weight[i] > T(1e-6) ? weight[i] : T(1e-6);
                result[i] = start[i] + mass[i] / divisor;
            }
            finish_pack<N>(at, valid, result);
        }
        counts.nonfinite_input = has_nonfinite<N, T>(peak);
    }

    template <int N>
    AMALGAM_BODY void finish_pack(int64_t at, int valid, const T* result) {
        const bool eight_bit = stored_bytes(arguments.out_dtype) == 1;
        const BitsOf<T> overflow = overflow_bits<T>(arguments.out_dtype);
        int bad = 0, cut = 0;
        AMALGAM_UNROLL
        for (int i = 0; i < N; ++i) bad += int(i < valid) & int(magnitude_bits(result[i]) >= overflow);
        if (eight_bit) {
            AMALGAM_UNROLL
            for (int i = 0; i < N; ++i) cut += int(i < valid) & int(saturates(arguments.out_dtype, result[i]));
        }
        counts.nonfinite_output += bad;
        counts.saturated += cut;
        store_pack<N>(arguments.out, arguments.out_dtype, at, valid, result);
    }
};

/// arcee_fusion: the other model's element where its importance reaches the threshold, else the base's.
template <class T>
struct FusionPass {
    SelectArguments arguments;
    FoldCounts counts{};

    /// Packs from element `begin` on, one every `step` elements.
    template <int N>
    AMALGAM_BODY void run(int64_t begin = 0, int64_t step = N) {
        const KeyPass<KeyKind::importance, T> pass{arguments.key};
        ScePass<T> writer{arguments};
        BitsOf<T> peak[N] = {};
        for (int64_t at = begin; at < arguments.key.count; at += step) {
            int valid = arguments.key.count - at < N ? int(arguments.key.count - at) : N;
            T start[N], other[N];
            uint32_t key[N];
            load_pack<N>(arguments.key.base, at, valid, start);
            load_pack<N>(arguments.key.inputs[0], at, valid, other);
            raise_peak<N>(start, peak);
            raise_peak<N>(other, peak);
            pass.template keys<N>(0, at, valid, start, key);
            AMALGAM_LANES
            for (int i = 0; i < N; ++i) other[i] = key[i] >= arguments.low ? other[i] : start[i];
            writer.template finish_pack<N>(at, valid, other);
        }
        counts = writer.counts;
        counts.nonfinite_input = has_nonfinite<N, T>(peak);
    }
};

/// Threads of a GPU share the counts.
AMALGAM_BODY void add_to_count(int64_t* count, int64_t amount) {
#if defined(__CUDA_ARCH__)
    if (amount) atomicAdd(reinterpret_cast<unsigned long long*>(count), static_cast<unsigned long long>(amount));
#else
    *count += amount;
#endif
}

/// RAM+: how many elements each input changed alone, and how many it shares; exact counts.
template <class T>
struct ChangePass {
    KeyArguments arguments;
    double epsilon = 0;

    /// shared[m] and unique[m] are added to; packs from element `begin` on, one every `step` elements.
    template <int N>
    AMALGAM_BODY void run(int64_t* shared, int64_t* unique, int64_t begin = 0, int64_t step = N) const {
        const T limit = static_cast<T>(epsilon);
        for (int64_t at = begin; at < arguments.count; at += step) {
            int valid = arguments.count - at < N ? int(arguments.count - at) : N;
            T start[N], value[N];
            int32_t active[N] = {};
            load_pack<N>(arguments.base, at, valid, start);
            for (int m = 0; m < arguments.input_count; ++m) {
                load_pack<N>(arguments.inputs[m], at, valid, value);
                AMALGAM_LANES
                for (int i = 0; i < N; ++i) {
                    T delta = value[i] - start[i];
                    delta = delta < 0 ? -delta : delta;
                    active[i] += int32_t(!(delta <= limit));
                }
            }
            for (int m = 0; m < arguments.input_count; ++m) {
                load_pack<N>(arguments.inputs[m], at, valid, value);
                int32_t with_others = 0, alone = 0;
                AMALGAM_LANES
                for (int i = 0; i < N; ++i) {
                    T delta = value[i] - start[i];
                    delta = delta < 0 ? -delta : delta;
                    int32_t mine = int32_t(!(delta <= limit));
                    with_others += mine & int32_t(active[i] > 1);
                    alone += mine & int32_t(active[i] == 1);
                }
                add_to_count(shared + m, with_others);
                add_to_count(unique + m, alone);
            }
        }
    }
};

}  // namespace amalgam
