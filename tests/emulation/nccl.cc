// NCCL's calls. See include/nccl.h and nccl_transfer.cc.
#include <algorithm>
#include <cstring>
#include <thread>

#include "tests/emulation/nccl_state.h"

namespace amalgam::emulation {
namespace {

constexpr char magic[] = "amalgam emulation";
struct Id {
    char magic[sizeof(emulation::magic)];
    int creator, number;
};
static_assert(sizeof(Id) <= sizeof(ncclUniqueId));
constexpr int numbers = 4096;

std::mutex registry_mutex;
std::map<ncclComm_t, Comm>& registry() {
    static auto& instance = *std::make_unique<std::map<ncclComm_t, Comm>>().release();
    return instance;
}
Comm find(ncclComm_t handle) {
    const std::lock_guard lock(registry_mutex);
    const auto found = registry().find(handle);
    return found == registry().end() ? nullptr : found->second;
}
/// Guarded by the registry's mutex: of the latest error without a communicator.
std::string last_message;

ncclResult_t refuse(const Comm& comm, ncclResult_t result, const std::string& why) {
    complain("NCCL: %s", why.c_str());
    if (comm) {
        const std::lock_guard lock(comm->mutex);
        comm->message = why;
    } else {
        const std::lock_guard lock(registry_mutex);
        last_message = why;
    }
    return result;
}

/// A group of calls of one thread.
struct CallGroup {
    int depth = 0;
    ncclResult_t error = ncclSuccess;
    Comm comm;
    Stream stream;
    std::vector<Transfer> transfers;
};
thread_local CallGroup group;

/// The work goes into the stream, behind that of the same communicator in other streams.
void put_into_stream(const Comm& comm, const Stream& stream, const std::vector<Transfer>& transfers) {
    if (comm->last_stream && comm->last_stream != stream) queue(stream, wait_for(comm->last_stream, comm->last_number));
    comm->last_number = queue(stream, transfer_work(comm, transfers));
    comm->last_stream = stream;
    hurry(stream);
}

ncclResult_t issue(const Comm& comm, const Stream& stream, std::vector<Transfer> transfers) {
    const std::lock_guard lock(comm->mutex);
    if (comm->blocking) {
        put_into_stream(comm, stream, transfers);
        return ncclSuccess;
    }
    comm->to_queue.emplace_back([comm = comm.get(), stream, transfers = std::move(transfers)] {
        put_into_stream(find(comm), stream, transfers);
    });
    comm->in_progress = true;
    comm->polls_left = 1;
    return ncclInProgress;
}

ncclResult_t check_usable(const Comm& comm, const char* call) {
    if (!comm) return refuse(nullptr, ncclInvalidArgument, std::string(call) + ": no communicator, or no longer");
    if (must_fail(call)) return refuse(comm, ncclSystemError, std::string(call) + ": a failure that was asked for");
    if (runtime().sticky != cudaSuccess) return refuse(comm, ncclUnhandledCudaError, "the device has failed");
    if (const int error = comm->error; error != ncclSuccess)
        return refuse(comm, ncclResult_t(error), "after an asynchronous error");
    bool busy = false, finalized = false;
    {
        const std::lock_guard lock(comm->mutex);
        busy = comm->in_progress;
        finalized = comm->finalized;
    }
    if (finalized) return refuse(comm, ncclInvalidUsage, std::string(call) + " after ncclCommFinalize");
    if (busy) return refuse(comm, ncclInvalidUsage, std::string(call) + " while an earlier call is in progress");
    return ncclSuccess;
}

ncclResult_t check_buffer(const Comm& comm, const void* memory, size_t bytes, const char* call) {
    if (bytes == 0) return ncclSuccess;
    Allocation found;
    if (!find_allocation(memory, found) || found.home != Home::device)
        return refuse(comm, ncclInvalidArgument, std::string(call) + ": a buffer that is not device memory");
    if (!found.contains(memory, bytes))
        return refuse(comm, ncclInvalidArgument, std::string(call) + ": a buffer that leaves its allocation");
    if (found.device != comm->device)
        return refuse(comm, ncclInvalidArgument, std::string(call) + ": memory of another device");
    return ncclSuccess;
}

/// Bytes that a transfer reads and writes on this rank.
std::pair<size_t, size_t> extents(const ncclComm& comm, const Transfer& transfer) {
    const size_t bytes = transfer.count * type_bytes(transfer.type), ranks = size_t(comm.ranks);
    const bool root = comm.rank == transfer.peer;
    switch (transfer.verb) {
        case Verb::send: return {bytes, 0};
        case Verb::receive: return {0, bytes};
        case Verb::broadcast: return {root ? bytes : 0, bytes};
        case Verb::reduce: return {bytes, root ? bytes : 0};
        case Verb::reduce_scatter: return {bytes * ranks, bytes};
        case Verb::all_gather: return {bytes, bytes * ranks};
        case Verb::all_reduce: return {bytes, bytes};
    }
    return {0, 0};
}

ncclResult_t call(const char* name, ncclComm_t handle, cudaStream_t stream_handle, const Transfer& transfer) {
    const Comm comm = find(handle);
    const auto failed = [](ncclResult_t result) {
        if (group.depth > 0) group.error = result;
        return result;
    };
    if (const ncclResult_t result = check_usable(comm, name)) return failed(result);
    const Stream stream = find_stream(stream_handle);
    if (!stream || stream->device != comm->device)
        return failed(
            refuse(comm, ncclInvalidArgument, std::string(name) + ": no stream of the communicator's device"));
    if (transfer.peer < 0 || transfer.peer >= comm->ranks || type_bytes(transfer.type) == 0)
        return failed(refuse(comm, ncclInvalidArgument, std::string(name) + ": no such rank or type"));
    const auto [reads, writes] = extents(*comm, transfer);
    if (std::max(reads, writes) > INT_MAX) die("%s: the stand-in sends at most 2 GiB", name);
    if (const ncclResult_t result = check_buffer(comm, transfer.from, reads, name)) return failed(result);
    if (const ncclResult_t result = check_buffer(comm, transfer.to, writes, name)) return failed(result);
    if (group.depth == 0) return issue(comm, stream, {transfer});
    if (group.comm && (group.comm != comm || group.stream != stream))
        return failed(
            refuse(comm, ncclInvalidUsage, "a group of several communicators or streams is not in the stand-in"));
    group.comm = comm;
    group.stream = stream;
    group.transfers.push_back(transfer);
    return ncclSuccess;
}

ncclResult_t after_connect(const Comm& comm) {
    for (size_t rank = 0; rank < comm->devices.size(); ++rank)
        for (size_t other = 0; other < rank; ++other)
            if (comm->devices[rank] == comm->devices[other])
                return refuse(
                    comm, ncclInvalidUsage,
                    "Duplicate GPU detected: ranks " + std::to_string(other) + " and " + std::to_string(rank));
    return ncclSuccess;
}

void forget(const Comm& comm) {
    {
        const std::lock_guard lock(registry_mutex);
        registry().erase(comm.get());
    }
    const std::lock_guard lock(runtime().mutex);
    runtime().others.erase(comm.get());
}

/// Of a communicator whose calls do not block; `comm`'s mutex is held.
bool goes_on(const Comm& comm) {
    if (!comm->connected) {
        if (!connect(*comm)) return true;
        comm->connected = true;
    }
    return comm->polls_left-- > 0;
}

}  // namespace
}  // namespace amalgam::emulation

using namespace amalgam::emulation;

ncclResult_t ncclGetVersion(int* version) {
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
    switch (result) {
        case ncclSuccess: return "no error";
        case ncclUnhandledCudaError: return "unhandled cuda error";
        case ncclSystemError: return "unhandled system error";
        case ncclInternalError: return "internal error";
        case ncclInvalidArgument: return "invalid argument";
        case ncclInvalidUsage: return "invalid usage";
        case ncclRemoteError: return "remote process exited or there was a network error";
        case ncclInProgress: return "NCCL operation in progress";
        default: return "unknown result code";
    }
}

const char* ncclGetLastError(ncclComm_t handle) {
    thread_local std::string text;
    if (const Comm comm = find(handle)) {
        const std::lock_guard lock(comm->mutex);
        text = comm->message;
    } else {
        const std::lock_guard lock(registry_mutex);
        text = last_message;
    }
    return text.c_str();
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    if (must_fail("ncclGetUniqueId")) return refuse(nullptr, ncclSystemError, "a failure that was asked for");
    start_mpi();
    static std::atomic<int> next{0};
    Id made{};
    std::memcpy(made.magic, magic, sizeof magic);
    made.creator = mpi_rank();
    made.number = next++ % numbers;
    *id = {};
    std::memcpy(id->internal, &made, sizeof made);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* handle, int ranks, ncclUniqueId id, int rank) {
    return ncclCommInitRankConfig(handle, ranks, id, rank, nullptr);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* handle, int ranks, ncclUniqueId unique, int rank,
                                    ncclConfig_t* config) {
    *handle = nullptr;
    Id id{};
    std::memcpy(&id, unique.internal, sizeof id);
    if (must_fail("ncclCommInitRankConfig")) return refuse(nullptr, ncclSystemError, "a failure that was asked for");
    if (mpi() == MPI_COMM_NULL || std::memcmp(id.magic, magic, sizeof magic) != 0 || ranks < 1 || rank < 0 ||
        rank >= ranks)
        return refuse(nullptr, ncclInvalidArgument, "ncclCommInitRank: no unique id, or no such rank");
    if (config && (config->size != sizeof(ncclConfig_t) || config->magic != 0xcafebeef))
        return refuse(nullptr, ncclInvalidArgument, "ncclCommInitRank: the config was not initialised");
    if (group.depth > 0)
        return refuse(nullptr, ncclInvalidUsage, "ncclCommInitRank within a group is not in the stand-in");
    const auto& devices = visible_devices();
    if (devices.empty()) return refuse(nullptr, ncclUnhandledCudaError, "no device");
    auto comm = std::make_shared<ncclComm>();
    comm->ranks = ranks;
    comm->rank = rank;
    comm->device = devices[size_t(current_device())];
    comm->blocking = !config || config->blocking != 0;
    comm->creator = id.creator;
    comm->tag = 2 * (id.creator * numbers + id.number);
    {
        const std::lock_guard lock(registry_mutex);
        registry().emplace(comm.get(), comm);
    }
    {
        const std::lock_guard lock(runtime().mutex);
        runtime().others.emplace(comm.get(),
                                 "NCCL communicator, rank " + std::to_string(rank) + " of " + std::to_string(ranks));
    }
    *handle = comm.get();
    if (!comm->blocking) {
        comm->in_progress = true;
        comm->polls_left = 1;
        return ncclInProgress;
    }
    while (!connect(*comm)) std::this_thread::sleep_for(std::chrono::microseconds(100));
    comm->connected = true;
    if (const ncclResult_t result = after_connect(comm)) {
        forget(comm);
        *handle = nullptr;
        return result;
    }
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* error) {
    const Comm comm = find(handle);
    if (!comm) return refuse(nullptr, ncclInvalidArgument, "ncclCommGetAsyncError: no communicator, or no longer");
    *error = ncclResult_t(int(comm->error));
    if (*error != ncclSuccess) return ncclSuccess;
    if (runtime().sticky != cudaSuccess) {
        *error = ncclUnhandledCudaError;
        return ncclSuccess;
    }
    bool new_connection = false;
    {
        const std::lock_guard lock(comm->mutex);
        if (!comm->in_progress) return ncclSuccess;
        new_connection = !comm->connected;
        if (goes_on(comm) ||
            (comm->finalized && comm->last_stream && !advance(comm->last_stream, comm->last_number, false))) {
            *error = ncclInProgress;
            return ncclSuccess;
        }
        comm->in_progress = false;
        for (const auto& put : comm->to_queue) put();
        comm->to_queue.clear();
    }
    if (new_connection) comm->error = after_connect(comm);
    *error = ncclResult_t(int(comm->error));
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
    const Comm comm = find(handle);
    if (const ncclResult_t result = check_usable(comm, "ncclCommFinalize")) return result;
    if (comm->blocking && comm->last_stream) advance(comm->last_stream, comm->last_number, true);
    const std::lock_guard lock(comm->mutex);
    comm->finalized = true;
    if (comm->blocking) return ncclSuccess;
    comm->in_progress = true;
    comm->polls_left = 1;
    return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t handle) {
    const Comm comm = find(handle);
    if (!comm) return refuse(nullptr, ncclInvalidArgument, "ncclCommDestroy: no communicator, or no longer");
    if (must_fail("ncclCommDestroy")) return refuse(comm, ncclSystemError, "a failure that was asked for");
    if (comm->in_progress)
        return refuse(comm, ncclInvalidUsage, "ncclCommDestroy while an earlier call is in progress");
    if (comm->last_stream) advance(comm->last_stream, comm->last_number, true);
    forget(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t handle) {
    const Comm comm = find(handle);
    if (!comm) return refuse(nullptr, ncclInvalidArgument, "ncclCommAbort: no communicator, or no longer");
    comm->aborted = true;
    forget(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommCount(ncclComm_t handle, int* count) {
    const Comm comm = find(handle);
    if (!comm) return ncclInvalidArgument;
    *count = comm->ranks;
    return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(ncclComm_t handle, int* device) {
    const Comm comm = find(handle);
    if (!comm) return ncclInvalidArgument;
    const auto& devices = visible_devices();
    *device = int(std::find(devices.begin(), devices.end(), comm->device) - devices.begin());
    return ncclSuccess;
}

ncclResult_t ncclCommUserRank(ncclComm_t handle, int* rank) {
    const Comm comm = find(handle);
    if (!comm) return ncclInvalidArgument;
    *rank = comm->rank;
    return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
    ++group.depth;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
    if (group.depth == 0) return refuse(nullptr, ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    if (--group.depth > 0) return ncclSuccess;
    const CallGroup whole = std::exchange(group, {});
    if (whole.error != ncclSuccess) return whole.error;
    if (whole.transfers.empty()) return ncclSuccess;
    if (must_fail("ncclGroupEnd")) return refuse(whole.comm, ncclSystemError, "a failure that was asked for");
    return issue(whole.comm, whole.stream, whole.transfers);
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
    return call("ncclAllReduce", comm, stream, {Verb::all_reduce, from, to, count, type, op, 0});
}
ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
    return call("ncclReduceScatter", comm, stream, {Verb::reduce_scatter, from, to, count, type, op, 0});
}
ncclResult_t ncclReduce(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t op, int root,
                        ncclComm_t comm, cudaStream_t stream) {
    return call("ncclReduce", comm, stream, {Verb::reduce, from, to, count, type, op, root});
}
ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
    return call("ncclBroadcast", comm, stream, {Verb::broadcast, from, to, count, type, ncclSum, root});
}
ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
    return call("ncclAllGather", comm, stream, {Verb::all_gather, from, to, count, type, ncclSum, 0});
}
ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    return call("ncclSend", comm, stream, {Verb::send, from, nullptr, count, type, ncclSum, peer});
}
ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
    return call("ncclRecv", comm, stream, {Verb::receive, nullptr, to, count, type, ncclSum, peer});
}
