// Tensors that are never averaged, looked at before any work is done.
#pragma once
#include "src/comm/communicator.h"
#include "src/plan/grid.h"
#include "src/recipe/resolve.h"

namespace amalgam {

/// Throws AgreedError if models disagree on a tensor of integers or the like. Reads these tensors once, shared out over the
/// ranks. Collective.
void check_equal_tensors(Communicator& world, const Merge& merge, const Grid& grid);

}  // namespace amalgam
