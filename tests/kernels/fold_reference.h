// What a fold makes of one element, written from the methods' formulas in a wider type than the kernels compute in.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/cpu/passes.h"
#include "tests/kernels/mask_reference.h"

namespace amalgam::test {

/// Whether, and by which factor, an element of a task vector stays. `delta` is rounded as the kernel rounds it.
template <class T>
double kept_factor(Sparsifier sparsifier, const FoldModel& model, int64_t first, int64_t at, T delta) {
    switch (sparsifier) {
        case Sparsifier::none: return 1;
        case Sparsifier::magnitude: {
            // Borders are given as bits; beyond infinity come the NaNs.
            auto number = [](uint64_t bits) {
                return sizeof(T) == 4 ? T(float_of(uint32_t(bits))) : T(double_of(bits));
            };
            const uint64_t infinite = sizeof(T) == 4 ? 0x7f800000u : 0x7ff0000000000000u;
            if (std::isnan(delta)) return model.high > infinite + 1 && model.low <= infinite + 1 ? 1 : 0;
            const T size = std::fabs(delta);
            if (model.low > infinite || size < number(model.low)) return 0;
            return model.high > infinite || size < number(model.high) ? 1 : 0;
        }
        case Sparsifier::random:
            return model.all || keeps_reference(model.address, first + at, model.threshold) ? 1 : 0;
        case Sparsifier::factors: return model.factors ? double(model.factors[at]) : 1;
    }
    return 0;
}

/// A result, how far rounding may take the kernel from it, and what it may be instead where an election is a draw but
/// for rounding.
template <class R>
struct Expected {
    R value, tolerance, alternative;
};

/// Terms of one element: task vectors after the sparsifier (or the models themselves for `average`).
template <class R>
struct Terms {
    R base = 0;
    std::vector<R> deltas;
    std::vector<R> sizes;  ///< |x| + |base| times the factor of the sparsifier: what roundings are relative to
};

template <class R>
Expected<R> fold_reference(FoldKind kind, const Terms<R>& terms, const std::vector<FoldModel>& models,
                           const FoldConstants& constants, R epsilon) {
    const size_t n = models.size();
    R size = std::fabs(terms.base), scaled_size = 0;
    for (size_t m = 0; m < n; ++m) {
        size += terms.sizes[m];
        scaled_size += std::fabs(R(models[m].scale)) * terms.sizes[m];
    }
    const R roundings = R(8 + 2 * n) * epsilon;
    switch (kind) {
        case FoldKind::average: {
            R sum = 0;
            for (size_t m = 0; m < n; ++m) sum += R(models[m].scale) * terms.deltas[m];
            R value = sum / R(constants.divisor);
            return {value, roundings * scaled_size / std::fabs(R(constants.divisor)), value};
        }
        case FoldKind::sum: {
            R sum = 0;
            for (size_t m = 0; m < n; ++m) sum += R(models[m].scale) * terms.deltas[m];
            R value = terms.base + R(constants.factor) * sum;
            return {value, roundings * (std::fabs(terms.base) + std::fabs(R(constants.factor)) * scaled_size), value};
        }
        case FoldKind::elect: {
            R total = 0, lowest_divisor = std::numeric_limits<R>::max();
            for (size_t m = 0; m < n; ++m) total += R(models[m].scale) * terms.deltas[m];
            auto elected = [&](bool up) {
                R mix = 0, weight = 0;
                for (size_t m = 0; m < n; ++m) {
                    R vote = R(models[m].scale) * terms.deltas[m];
                    if (std::isnan(vote)) mix = vote;
                    if (up ? vote > 0 : vote < 0) {
                        mix += vote;
                        weight += R(models[m].weight);
                    }
                }
                R divisor = constants.normalize && weight != 0 ? weight : R(1);
                lowest_divisor = std::min(lowest_divisor, std::fabs(divisor));
                return terms.base + R(constants.factor) * (mix / divisor);
            };
            const bool up = total >= 0;
            const bool close = std::fabs(total) <= roundings * scaled_size;
            R value = elected(up), other = close ? elected(!up) : value;
            R bound =
                roundings * (std::fabs(terms.base) + std::fabs(R(constants.factor)) * scaled_size / lowest_divisor);
            return {value, bound, other};
        }
        case FoldKind::nearswap: {
            const R distance = std::fabs(terms.deltas[0]);
            const R ratio =
                std::isnan(distance) ? 0 : std::min(R(1), R(constants.factor) / std::max(distance, R(1e-6L)));
            R value = terms.base + ratio * terms.deltas[0];
            return {value, roundings * size, value};
        }
        case FoldKind::ram:
        case FoldKind::ramplus: {
            R sum = 0, amplified = 0;
            int active = 0;
            for (size_t m = 0; m < n; ++m)
                if (!(std::fabs(terms.deltas[m]) <= R(constants.factor))) {
                    ++active;
                    sum += terms.deltas[m];
                    amplified = R(models[m].scale) * terms.deltas[m];
                }
            R unique = kind == FoldKind::ram ? sum : amplified;
            R value = terms.base + (active > 1 ? sum / R(active) : active == 1 ? unique : R(0));
            return {value, roundings * (size + scaled_size), value};
        }
    }
    return {};
}

}  // namespace amalgam::test
