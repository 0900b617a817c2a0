// Recipes and headers on the disks of several nodes, read by rank 0 alone.
#pragma once
#include <functional>

#include "src/base/files.h"
#include "src/comm/communicator.h"
#include "src/plan/grid.h"

namespace amalgam {

/// Calls `body` on rank 0, with files that are those of its own disk and, where it lacks a path, those of the first group whose
/// first rank has it. What lies in a folder comes from the disk that the folder was found on: a model is never put together
/// from two. Meanwhile the first ranks of the other groups answer from `own`; the rest returns at once.
/// Environment variables are those of rank 0. Errors of other disks begin with the rank. Collective; what `body` throws is
/// thrown on rank 0 alone, when the others have been released.
void with_cluster_files(Communicator& world, const Grid& grid, Files& own, const std::function<void(Files&)>& body);

}  // namespace amalgam
