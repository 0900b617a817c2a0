// Drops by rank within a row (DELLA): the smallest go most likely.
#pragma once
#include <cstdint>

#include "kernels/pack.h"
#include "kernels/random.h"

namespace amalgam {

/// Probability of staying rises linearly with the rank of |input - base| in its row, from density - epsilon to density +
/// epsilon; among equal magnitudes the higher index has the lower rank. The draw is that of a random mask.
struct RankedArguments {
    Operand base, input;  ///< element 0 is the first of the row that holds element `first`
    int64_t columns = 1;  ///< elements of a row
    int64_t first = 0;    ///< flat index of the first element wanted
    int64_t count = 0;    ///< elements wanted
    double density = 1, epsilon = 0;
    bool inverse = false;  ///< an element that stays counts 1 / probability instead of 1
    MaskAddress address;
};

/// Probability that the element of a rank (from 0, the smallest) stays.
AMALGAM_BODY double ranked_share(const RankedArguments& arguments, int64_t rank) {
    return arguments.columns == 1 ? arguments.density
                                  : arguments.density - arguments.epsilon +
                                        2 * arguments.epsilon * double(rank) / double(arguments.columns - 1);
}

/// Factor of one element, 0 if it is dropped.
AMALGAM_BODY double ranked_factor(const RankedArguments& arguments, int64_t element, int64_t rank) {
    if (arguments.density <= 0) return 0.;
    const double share = ranked_share(arguments, rank);
    if (!mask_keeps(arguments.address, element, keep_threshold(share))) return 0.;
    return arguments.inverse ? 1 / share : 1.;
}

}  // namespace amalgam
