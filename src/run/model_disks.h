// Models on the disks of the nodes that read them, and nowhere else.
#pragma once
#include <string>
#include <vector>

#include "src/base/files.h"
#include "src/comm/communicator.h"
#include "src/plan/grid.h"
#include "src/recipe/resolve.h"

namespace amalgam {

/// Throws Error if this rank lacks a file of a model that its group reads, or has another one under its path; on rank 0 also
/// if it lacks the model whose companion files go with the output. Not collective; one rank of a node and group looks.
void check_disks(Files& own, const Merge& merge, const Grid& grid, const Communicator& world);

/// On rank 0 the text of a Fingerprint of every file of every model, in order, made by the first rank of the group that reads it;
/// nothing on the others. Collective; throws AgreedError.
std::vector<std::string> file_fingerprints(Communicator& world, const Merge& merge, const Grid& grid);

}  // namespace amalgam
