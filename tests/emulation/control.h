// What tests can set and ask of the stand-ins for CUDA, NCCL and cuBLAS.
//
// They behave as the worst GPU that the rules allow:
// - Memory is 0xff (NaN) when allocated and when freed; freed memory is kept for a while, and writes to it end the program.
// - A stream does nothing until something synchronises with it. A query lets one piece of its work run. Streams that hold
//   NCCL work go on by themselves a fifth of a second later, since other processes may wait for them.
// - A copy from pageable memory reads it when it is called, one from pinned memory when the stream gets there.
// - cudaFree waits for nothing: queued work that still uses the memory ends the program.
// - Host addresses in parameters of kernels end the program (but not those that kernels find in device memory).
//
// Environment, read once:
//   AMALGAM_EMULATION_DEVICES   how many GPUs there are (2); CUDA_VISIBLE_DEVICES chooses among them
//   AMALGAM_EMULATION_MEMORY    bytes of each (2 GiB)
//   AMALGAM_EMULATION_ORDER     forward, reverse or random: threads of a block and blocks of a grid
//   AMALGAM_EMULATION_FIBERS    1: launches without barriers run as fibers too, so that the thread sanitizer sees their races
//   AMALGAM_EMULATION_FAIL      call:n,...: the n-th such call fails; `kernel:n`: the n-th kernel that runs
//   AMALGAM_EMULATION_LEAKS     at exit, what was not released is reported (report, the default), is reported and makes
//                               the exit status 87 (fail), or is not looked for (ignore)
// An error that hardware would not name ends the program with status 86.
#pragma once
#include <cstdint>
#include <string>

namespace amalgam::emulation {

enum class Order { forward, reverse, random };
enum class Leaks { report, fail, ignore };

struct Settings {
    int devices = 2;
    uint64_t memory = uint64_t{2} << 30;
    Order order = Order::forward;
    bool fibers = false;
    Leaks leaks = Leaks::report;
};
/// Not to be changed while other threads use the stand-ins.
Settings& settings();

/// As AMALGAM_EMULATION_FAIL; counts start anew.
void set_failures(const std::string& text);

/// What is not released: a line each; "" if nothing.
std::string leaks();

/// As after a restart of the process, for tests of errors that stay: forgets those.
void forget_errors();

/// Launches that ran so far in this process, and the NCCL operations.
uint64_t launches_run();
uint64_t transfers_run();

}  // namespace amalgam::emulation
