// MPI behind functions, for Session, and what the files that own MPI share.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "src/comm/communicator.h"

namespace amalgam::mpi {

/// Starts MPI; its communicators are used from one thread at a time. Throws Error if that is not provided.
void start();
/// After the last communicator is gone. Never throws.
void stop() noexcept;
/// All ranks. After start(); collective.
std::unique_ptr<Communicator> world();
/// Communicators as MPI's numbers for Fortran, since its types stay in .cc files. Messages travel in pieces of `chunk` bytes.
std::unique_ptr<Transport> transport(int communicator, int64_t chunk);
std::unique_ptr<Mailbox> mailbox(int communicator, int tag, int64_t chunk);

/// Throws Error with MPI's reason, unless `result` is MPI_SUCCESS.
void check_result(int result, const char* call, const char* file, int line);
#define AMALGAM_MPI(call) amalgam::mpi::check_result((call), #call, __FILE__, __LINE__)

/// Name and version of the library.
std::string library();
/// Ends all ranks with this exit code, from any thread.
[[noreturn]] void abort(int code);

}  // namespace amalgam::mpi
