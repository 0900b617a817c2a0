// How fast this machine's memory is, so that a merge can say what share of that it reached.
#pragma once
#include <cstdint>

#include "src/comm/communicator.h"

namespace amalgam {

/// Bytes that all ranks together read from memory in a second, measured on all of them at once, over as many bytes as `moved`
/// on a node, within 16 and 512 MiB: what is small lies in caches, for a merge too, and is measured quickly. 0 if `memory`, the
/// budget of a rank, is too little for its part. Collective; all ranks give the same `moved`.
double memory_read_speed(Communicator& world, int threads, uint64_t memory, uint64_t moved);

}  // namespace amalgam
