// MPI behind functions, for Session.
#pragma once
#include <memory>

#include "src/comm/communicator.h"

namespace amalgam::mpi {

/// Starts MPI; its communicators are used from one thread at a time. Throws Error if that is not provided.
void start();
/// After the last communicator is gone. Never throws.
void stop() noexcept;
/// All ranks. After start(); collective.
std::unique_ptr<Communicator> world();
/// Ends all ranks with this exit code, from any thread.
[[noreturn]] void abort(int code);

}  // namespace amalgam::mpi
