// DELLA's masks: the probability to stay grows with the rank of the magnitude within the row.
#pragma once
#include <cstdint>

#include "kernels/random.h"
#include "src/run/window.h"

namespace amalgam {

/// One model's mask. The element of rank r (1: smallest; among equal ones the lower flat index counts as larger) of a row
/// of n stays with probability density - epsilon + 2 epsilon (r - 1) / (n - 1); of a row of one, with the density.
struct RankedMask {
    double density = 1, epsilon = 0;
    bool inverse = false;  ///< factors are 1 / probability instead of 1
    MaskAddress address;

    /// Factors of the window's elements, 0 for dropped ones. The window holds whole rows.
    void fill(const Window& window, int input, bool wide, Scratch& scratch, double* factors) const;
};

}  // namespace amalgam
