// What this process may use: memory, cores, caches.
#pragma once
#include <cstdint>

namespace amalgam {

/// Memory that is free on this machine, in bytes.
uint64_t machine_memory();
/// Memory that is free on this machine and in this cgroup, whichever is less, in bytes.
uint64_t free_memory();
/// Throws Error if a rank cannot merge with so little; plan says the same.
void check_budget(uint64_t memory);
/// Cores this process may run on.
int usable_cores();
/// Elements of a work block for `inputs` tensors of `bytes` an element: about half the second-level cache, a power of two of
/// at least 4,096 and at most 65,536.
int64_t cache_block(int64_t inputs, int bytes);
/// Allows as many open files as the system lets us.
void raise_file_limit();
/// Largest resident set of this process so far, in bytes.
uint64_t peak_memory();

}  // namespace amalgam
