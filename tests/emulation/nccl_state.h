// What the parts of the stand-in for NCCL share.
#pragma once
#include <mpi.h>

#include "tests/emulation/include/nccl.h"
#include "tests/emulation/runtime.h"

struct ncclComm {
    int ranks = 0, rank = 0, device = 0;
    bool blocking = true;
    int creator = 0, tag = 0;
    std::vector<int> world;    ///< by rank: its rank in the stand-in's MPI communicator
    std::vector<int> devices;  ///< by rank: its physical device
    std::atomic<bool> aborted{false};
    std::atomic<int> error{ncclSuccess};

    /// Guarded by `mutex`, as all below.
    std::mutex mutex;
    bool connected = false, said_hello = false, finalized = false;
    /// Nonblocking: called, not known to the caller as done, and not in the stream yet.
    bool in_progress = false;
    int polls_left = 0;
    std::vector<std::function<void()>> to_queue;
    amalgam::emulation::Stream last_stream;
    uint64_t last_number = 0;
    std::string message;
};

namespace amalgam::emulation {

using Comm = std::shared_ptr<ncclComm>;

enum class Verb { all_reduce, reduce_scatter, reduce, broadcast, all_gather, send, receive };

struct Transfer {
    Verb verb = Verb::send;
    const void* from = nullptr;
    void* to = nullptr;
    size_t count = 0;
    ncclDataType_t type = ncclUint8;
    ncclRedOp_t operation = ncclSum;
    int peer = 0;  ///< or root
};

size_t type_bytes(ncclDataType_t type);
/// Reduction of `parts`, one after the other in an order that depends on their number; floats as well.
void reduce(ncclDataType_t type, ncclRedOp_t operation, const std::vector<const unsigned char*>& parts, size_t first,
            size_t count, unsigned char* result);

/// Of all processes, and of this library only; MPI_COMM_NULL before MPI_Init_thread().
MPI_Comm mpi();
/// If nobody did: a program of one rank may do without, but not without this library's NCCL.
void start_mpi();
int mpi_rank();
/// Fills in world and devices by messages to the creator of the id; to be called again until it returns true.
bool connect(ncclComm& comm);

/// The work of transfers that advance together.
Work transfer_work(const Comm& comm, std::vector<Transfer> transfers);

}  // namespace amalgam::emulation
