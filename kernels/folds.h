// The mathematics of one element, for every method that is a fold. T is float, or double if an input is float64.
#pragma once
#include "kernels/fold_pass.h"

namespace amalgam::folds {

/// Weighted sum of models over a divisor: linear, and every blend once its coefficients are solved.
template <class T>
struct Average {
    static constexpr int planes = 1;
    static constexpr bool uses_base = false;
    T divisor;
    AMALGAM_BODY explicit Average(const FoldConstants& constants) : divisor(static_cast<T>(constants.divisor)) {}
    template <class Sums>
    AMALGAM_BODY void add(Sums sums, T value, T scale, T) const {
        sums[0] += scale * value;
    }
    template <class Sums>
    AMALGAM_BODY T finish(T, Sums sums) const {
        return sums[0] / divisor;
    }
};

/// Base plus a multiple of the sum of scaled task vectors.
template <class T>
struct Sum {
    static constexpr int planes = 1;
    static constexpr bool uses_base = true;
    T factor;
    AMALGAM_BODY explicit Sum(const FoldConstants& constants) : factor(static_cast<T>(constants.factor)) {}
    template <class Sums>
    AMALGAM_BODY void add(Sums sums, T delta, T scale, T) const {
        sums[0] += scale * delta;
    }
    template <class Sums>
    AMALGAM_BODY T finish(T base, Sums sums) const {
        return base + factor * sums[0];
    }
};

/// Election of one sign per element by mass; those that agree are added, or averaged by weight (TIES).
template <class T>
struct Elect {
    enum Plane { positive_mass, negative_mass, positive_weight, negative_weight, planes };
    static constexpr bool uses_base = true;
    T factor;
    bool normalize;
    AMALGAM_BODY explicit Elect(const FoldConstants& constants)
        : factor(static_cast<T>(constants.factor)), normalize(constants.normalize) {}

    template <class Sums>
    AMALGAM_BODY void add(Sums sums, T delta, T scale, T weight) const {
        T vote = scale * delta;
        bool up = vote > 0;
        // A NaN is neither up nor down: it goes into the negative mass, where both comparisons let it through.
        sums[positive_mass] += up ? vote : T(0);
        sums[negative_mass] += up ? T(0) : vote;
        sums[positive_weight] += up ? weight : T(0);
        sums[negative_weight] += vote < 0 ? weight : T(0);
    }
    template <class Sums>
    AMALGAM_BODY T finish(T base, Sums sums) const {
        bool up = sums[positive_mass] + sums[negative_mass] >= 0;
        T mass = up ? sums[positive_mass] : sums[negative_mass];
        T weight = up ? sums[positive_weight] : sums[negative_weight];
        T divisor = normalize ? (weight == 0 ? T(1) : weight) : T(1);
        return base + factor * (mass / divisor);
    }
};

/// Towards the other model where the two are within t of each other.
template <class T>
struct NearSwap {
    static constexpr int planes = 1;
    static constexpr bool uses_base = true;
    T t;
    AMALGAM_BODY explicit NearSwap(const FoldConstants& constants) : t(static_cast<T>(constants.factor)) {}
    template <class Sums>
    AMALGAM_BODY void add(Sums sums, T delta, T, T) const {
        sums[0] += delta;
    }
    template <class Sums>
    AMALGAM_BODY T finish(T base, Sums sums) const {
        T distance = sums[0] < 0 ? -sums[0] : sums[0];
        T ratio = t / (distance > T(1e-6) ? distance : T(1e-6));
        ratio = ratio < 1 ? ratio : T(1);
        return base + ratio * sums[0];
    }
};

/// Average of the task vectors that changed an element; `factor` is the distance from which on it counts as changed.
template <class T>
struct Ram {
    enum Plane { total, changed, planes };
    static constexpr bool uses_base = true;
    T epsilon;
    AMALGAM_BODY explicit Ram(const FoldConstants& constants) : epsilon(static_cast<T>(constants.factor)) {}
    template <class Sums>
    AMALGAM_BODY void add(Sums sums, T delta, T, T) const {
        T size = delta < 0 ? -delta : delta;
        bool active = !(size <= epsilon);  // a NaN is active
        sums[total] += active ? delta : T(0);
        sums[changed] += active ? T(1) : T(0);
    }
    template <class Sums>
    AMALGAM_BODY T finish(T base, Sums sums) const {
        return base + sums[total] / (sums[changed] > 1 ? sums[changed] : T(1));
    }
};

/// RAM, with elements that only one model changed amplified by that model's scale.
template <class T>
struct RamPlus {
    enum Plane { total, changed, amplified, planes };
    static constexpr bool uses_base = true;
    T epsilon;
    AMALGAM_BODY explicit RamPlus(const FoldConstants& constants) : epsilon(static_cast<T>(constants.factor)) {}
    template <class Sums>
    AMALGAM_BODY void add(Sums sums, T delta, T scale, T) const {
        T size = delta < 0 ? -delta : delta;
        bool active = !(size <= epsilon);
        sums[total] += active ? delta : T(0);
        sums[changed] += active ? T(1) : T(0);
        sums[amplified] += active ? scale * delta : T(0);
    }
    template <class Sums>
    AMALGAM_BODY T finish(T base, Sums sums) const {
        bool shared = sums[changed] > 1;
        return base + (shared ? sums[total] / (shared ? sums[changed] : T(1)) : sums[amplified]);
    }
};

}  // namespace amalgam::folds
