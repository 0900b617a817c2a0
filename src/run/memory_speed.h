// How fast this machine's memory is, so that a merge can say what share of that it reached.
#pragma once
#include <cstdint>

#include "src/comm/communicator.h"

namespace amalgam {

/// Bytes that all ranks together read from memory in a second, measured on all of them at once in some tenths of a second.
/// 0 if `memory`, the budget of a rank, is too little to look past the caches. Collective.
double memory_read_speed(Communicator& world, int threads, uint64_t memory);

}  // namespace amalgam
