// What drops elements of a task vector before it is folded.
#pragma once
#include "kernels/element.h"
#include "kernels/random.h"

namespace amalgam {

enum class Sparsifier : uint8_t { none, magnitude, random, factors };

/// One model's part in a fold. Which members count depends on the sparsifier and the fold.
struct FoldModel {
    double scale = 1;   ///< factor of the task vector (or of the model)
    double weight = 1;  ///< what counts in a divisor
    /// magnitude: keep elements whose order_key() is in [low, high).
    uint64_t low = 0, high = ~uint64_t(0);
    /// random: where the draws stand, and 32 bits of the share that is kept.
    MaskAddress address;
    uint32_t threshold = 0;
    bool all = false;  ///< random: nothing is drawn, everything stays
    /// factors: one factor per element of the block, 0 for dropped; nullptr: everything stays.
    const double* factors = nullptr;
};

/// A lane the sparsifier drops becomes 0; `first` is the flat index of lane 0, a multiple of 8 for `random`.
template <Sparsifier kind, int N, class T>
AMALGAM_BODY void sparsify_pack(const FoldModel& model, int64_t first, int64_t at, int valid, T* delta) {
    if constexpr (kind == Sparsifier::magnitude) {
        using Bits = BitsOf<T>;
        const Bits low = static_cast<Bits>(model.low);
        const Bits high = static_cast<Bits>(model.high);  // all ones: above every magnitude
        AMALGAM_LANES
        for (int i = 0; i < N; ++i) {
            Bits magnitude = order_key(delta[i]);
            bool keep = (magnitude >= low) & (magnitude < high);
            delta[i] = keep ? delta[i] : T(0);
        }
    } else if constexpr (kind == Sparsifier::random) {
        if (model.all) return;
        alignas(64) uint32_t keep[N];
        mask_pack<N>(model.address, first + at, model.threshold, keep);
        AMALGAM_LANES
        for (int i = 0; i < N; ++i) delta[i] = keep[i] ? delta[i] : T(0);
    } else if constexpr (kind == Sparsifier::factors) {
        if (!model.factors) return;
        AMALGAM_UNROLL
        for (int i = 0; i < N; ++i) {
            T factor = i < valid ? T(model.factors[at + i]) : T(0);
            delta[i] = factor != 0 ? delta[i] * factor : T(0);
        }
    }
}

}  // namespace amalgam
