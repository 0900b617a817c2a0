// What NCCL calls do once their stream gets to them: messages of MPI, then arithmetic.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "tests/emulation/nccl_state.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

namespace amalgam::emulation {
namespace {

MPI_Comm world = MPI_COMM_NULL;

using Bytes = std::vector<unsigned char>;

template <class T>
T combine(T a, T b, ncclRedOp_t operation) {
    switch (operation) {
        case ncclSum:
            if constexpr (std::is_integral_v<T>)
                return T(std::make_unsigned_t<T>(a) + std::make_unsigned_t<T>(b));
            else
                return a + b;
        case ncclMax: return a < b ? b : a;
        case ncclMin: return b < a ? b : a;
        default: die("NCCL operation %d is not in the stand-in", int(operation));
    }
}

/// Element i begins with the part of another rank, as in a ring: floats are added in an order that depends on all ranks.
template <class T>
void reduce_as(ncclRedOp_t operation, const std::vector<const unsigned char*>& parts, size_t first, size_t count,
               unsigned char* result) {
    const auto value = [&](size_t part, size_t i) {
        T read;
        std::memcpy(&read, parts[part] + (first + i) * sizeof(T), sizeof(T));
        return read;
    };
    for (size_t i = 0; i < count; ++i) {
        const size_t start = (first + i + 1) % parts.size();
        T total = value(start, i);
        for (size_t step = 1; step < parts.size(); ++step)
            total = combine(total, value((start + step) % parts.size(), i), operation);
        std::memcpy(result + i * sizeof(T), &total, sizeof(T));
    }
}

/// Of one transfer.
struct Pieces {
    Bytes own;
    std::vector<Bytes> received;  ///< by rank
};

/// Of operations that were aborted: MPI may still read and write them.
std::vector<std::vector<Pieces>>& left_behind() {
    static auto& instance = *std::make_unique<std::vector<std::vector<Pieces>>>().release();
    return instance;
}

/// Messages of one operation. They live in memory of their own, so that an abort can leave them behind.
class Operation {
  public:
    Operation(Comm comm, std::vector<Transfer> transfers) : comm_(std::move(comm)), transfers_(std::move(transfers)) {}
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;
    ~Operation() {
        if (!started_ || done_) return;
        give_up();
        const std::lock_guard lock(runtime().mutex);
        left_behind().push_back(std::move(pieces_));
    }

    /// Once; then test() until it is true.
    void start() {
        started_ = true;
        ++runtime().transfers;
        if (must_fail("nccl")) {
            comm_->error = ncclRemoteError;
            stuck_ = true;
            return;
        }
        pieces_.resize(transfers_.size());
        for (size_t i = 0; i < transfers_.size(); ++i) start(transfers_[i], pieces_[i]);
    }
    bool started() const { return started_; }
    bool test() {
        if (stuck_) return false;
        int all = 0;
        std::vector<MPI_Status> states(requests_.size());
        if (MPI_Testall(int(requests_.size()), requests_.data(), &all, states.data()) != MPI_SUCCESS)
            die("NCCL on MPI: a message failed, or is longer than its receiver expects");
        if (!all) return false;
        for (size_t i = 0; i < requests_.size(); ++i) check_length(states[i], lengths_[i]);
        for (size_t i = 0; i < transfers_.size(); ++i) finish(transfers_[i], pieces_[i]);
        done_ = true;
        return true;
    }
    bool aborted() const { return comm_->aborted; }

  private:
    /// What receives can be cancelled; what sends is left to MPI, with its memory.
    void give_up() {
        for (size_t i = 0; i < requests_.size(); ++i) {
            if (requests_[i] == MPI_REQUEST_NULL) continue;
            if (lengths_[i] >= 0) MPI_Cancel(&requests_[i]);
            MPI_Request_free(&requests_[i]);
        }
    }

    void send(int peer, const Bytes& bytes) {
        MPI_Request request = MPI_REQUEST_NULL;
        // Synchronous: without a receiver nothing is sent, as between GPUs.
        MPI_Issend(bytes.data(), int(bytes.size()), MPI_BYTE, comm_->world[size_t(peer)], comm_->tag, mpi(), &request);
        requests_.push_back(request);
        lengths_.push_back(-1);
    }
    void receive(int peer, Bytes& bytes, size_t count) {
        bytes.resize(count);
        MPI_Request request = MPI_REQUEST_NULL;
        MPI_Irecv(bytes.data(), int(count), MPI_BYTE, comm_->world[size_t(peer)], comm_->tag, mpi(), &request);
        requests_.push_back(request);
        lengths_.push_back(int(count));
    }
    static void check_length(MPI_Status state, int expected) {
        int count = 0;
        if (expected >= 0 && MPI_Get_count(&state, MPI_BYTE, &count) == MPI_SUCCESS && count != expected)
            die("NCCL: %d bytes were sent where %d are expected", count, expected);
    }

    void start(const Transfer& transfer, Pieces& pieces) {
        const size_t ranks = size_t(comm_->ranks), width = type_bytes(transfer.type), bytes = transfer.count * width;
        const bool root = comm_->rank == transfer.peer;
        const auto take = [&](size_t count) {
            check_device_range(transfer.from, count, "NCCL sends");
            auto from = static_cast<const unsigned char*>(transfer.from);
            pieces.own.assign(from, from + count);
        };
        pieces.received.resize(ranks);
        switch (transfer.verb) {
            case Verb::send:
                take(bytes);
                send(transfer.peer, pieces.own);
                break;
            case Verb::receive: receive(transfer.peer, pieces.received[0], bytes); break;
            case Verb::broadcast:
                if (root) take(bytes);
                for (int other = 0; root && other < comm_->ranks; ++other)
                    if (other != comm_->rank) send(other, pieces.own);
                if (!root) receive(transfer.peer, pieces.received[0], bytes);
                break;
            case Verb::reduce:
                take(bytes);
                if (!root) send(transfer.peer, pieces.own);
                for (int other = 0; root && other < comm_->ranks; ++other)
                    if (other != comm_->rank) receive(other, pieces.received[size_t(other)], bytes);
                break;
            case Verb::all_reduce:
            case Verb::reduce_scatter:
            case Verb::all_gather: {
                const size_t all = transfer.verb == Verb::reduce_scatter ? bytes * ranks : bytes;
                take(all);
                for (int other = 0; other < comm_->ranks; ++other) {
                    if (other == comm_->rank) continue;
                    send(other, pieces.own);
                    receive(other, pieces.received[size_t(other)], all);
                }
                break;
            }
        }
    }

    void finish(const Transfer& transfer, Pieces& pieces) {
        const size_t width = type_bytes(transfer.type), bytes = transfer.count * width;
        const bool root = comm_->rank == transfer.peer;
        auto to = static_cast<unsigned char*>(transfer.to);
        const auto put = [&](size_t at, const Bytes& from) {
            if (from.empty()) return;
            check_device_range(to + at, from.size(), "NCCL receives");
            std::memcpy(to + at, from.data(), from.size());
        };
        std::vector<const unsigned char*> parts;
        for (int rank = 0; rank < comm_->ranks; ++rank)
            parts.push_back(rank == comm_->rank ? pieces.own.data() : pieces.received[size_t(rank)].data());
        switch (transfer.verb) {
            case Verb::send: break;
            case Verb::receive: put(0, pieces.received[0]); break;
            case Verb::broadcast: put(0, root ? pieces.own : pieces.received[0]); break;
            case Verb::reduce:
                if (!root) break;
                [[fallthrough]];
            case Verb::all_reduce:
            case Verb::reduce_scatter: {
                const size_t first = transfer.verb == Verb::reduce_scatter ? transfer.count * size_t(comm_->rank) : 0;
                Bytes result(bytes);
                reduce(transfer.type, transfer.operation, parts, first, transfer.count, result.data());
                put(0, result);
                break;
            }
            case Verb::all_gather:
                for (int rank = 0; rank < comm_->ranks; ++rank)
                    put(size_t(rank) * bytes, rank == comm_->rank ? pieces.own : pieces.received[size_t(rank)]);
                break;
        }
    }

    Comm comm_;
    std::vector<Transfer> transfers_;
    std::vector<Pieces> pieces_;
    std::vector<MPI_Request> requests_;
    std::vector<int> lengths_;  ///< by request: bytes to receive; -1 of those that send
    bool started_ = false, stuck_ = false, done_ = false;
};

}  // namespace

size_t type_bytes(ncclDataType_t type) {
    switch (type) {
        case ncclInt8:
        case ncclUint8: return 1;
        case ncclFloat16:
        case ncclBfloat16: return 2;
        case ncclInt32:
        case ncclUint32:
        case ncclFloat32: return 4;
        case ncclInt64:
        case ncclUint64:
        case ncclFloat64: return 8;
        default: return 0;
    }
}

void reduce(ncclDataType_t type, ncclRedOp_t operation, const std::vector<const unsigned char*>& parts, size_t first,
            size_t count, unsigned char* result) {
    switch (type) {
        case ncclInt32: return reduce_as<int32_t>(operation, parts, first, count, result);
        case ncclUint32: return reduce_as<uint32_t>(operation, parts, first, count, result);
        case ncclInt64: return reduce_as<int64_t>(operation, parts, first, count, result);
        case ncclUint64: return reduce_as<uint64_t>(operation, parts, first, count, result);
        case ncclFloat32: return reduce_as<float>(operation, parts, first, count, result);
        case ncclFloat64: return reduce_as<double>(operation, parts, first, count, result);
        default: die("NCCL reductions of type %d are not in the stand-in", int(type));
    }
}

Work transfer_work(const Comm& comm, std::vector<Transfer> transfers) {
    auto operation = std::make_shared<Operation>(comm, std::move(transfers));
    return [operation](bool) {
        if (operation->aborted() || runtime().sticky != cudaSuccess) return true;
        if (!operation->started()) operation->start();
        return operation->test();
    };
}

MPI_Comm mpi() { return world; }

void start_mpi() {
    int started = 0, provided = 0;
    MPI_Initialized(&started);
    if (started) return;
#if defined(__SANITIZE_ADDRESS__)
    // What MPI keeps cannot be told by its name after the end of main(), when its modules are no longer loaded.
    const __lsan::ScopedDisabler none;
#endif
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided);
    std::atexit(+[] {
#if defined(__SANITIZE_ADDRESS__)
        const __lsan::ScopedDisabler none_at_end;
#endif
        MPI_Finalize();
    });
}

int mpi_rank() {
    int rank = 0;
    MPI_Comm_rank(world, &rank);
    return rank;
}

// Everybody tells the creator of the id who it is; the creator answers with the list.
bool connect(ncclComm& comm) {
    const int tag = comm.tag + 1, self = mpi_rank();
    const size_t ranks = size_t(comm.ranks);
    if (comm.world.empty()) {
        comm.world.assign(ranks, -1);
        comm.devices.assign(ranks, -1);
        comm.world[size_t(comm.rank)] = self;
        comm.devices[size_t(comm.rank)] = comm.device;
    }
    std::vector<int> list(2 * ranks);
    if (self != comm.creator) {
        int hello[] = {comm.rank, comm.device, comm.ranks};
        if (!comm.said_hello) MPI_Send(hello, 3, MPI_INT, comm.creator, tag, world);
        comm.said_hello = true;
        int there = 0;
        MPI_Iprobe(comm.creator, tag, world, &there, MPI_STATUS_IGNORE);
        if (!there) return false;
        MPI_Recv(list.data(), int(list.size()), MPI_INT, comm.creator, tag, world, MPI_STATUS_IGNORE);
        for (size_t rank = 0; rank < ranks; ++rank) {
            comm.world[rank] = list[2 * rank];
            comm.devices[rank] = list[2 * rank + 1];
        }
        return true;
    }
    while (std::find(comm.world.begin(), comm.world.end(), -1) != comm.world.end()) {
        int there = 0, hello[3];
        MPI_Status state;
        MPI_Iprobe(MPI_ANY_SOURCE, tag, world, &there, &state);
        if (!there) return false;
        MPI_Recv(hello, 3, MPI_INT, state.MPI_SOURCE, tag, world, MPI_STATUS_IGNORE);
        if (hello[2] != comm.ranks || hello[0] < 0 || hello[0] >= comm.ranks || comm.world[size_t(hello[0])] != -1)
            die("ncclCommInitRank: rank %d of %d met rank %d of %d", comm.rank, comm.ranks, hello[0], hello[2]);
        comm.world[size_t(hello[0])] = state.MPI_SOURCE;
        comm.devices[size_t(hello[0])] = hello[1];
    }
    for (size_t rank = 0; rank < ranks; ++rank) {
        list[2 * rank] = comm.world[rank];
        list[2 * rank + 1] = comm.devices[rank];
    }
    for (int other : comm.world)
        if (other != self) MPI_Send(list.data(), int(list.size()), MPI_INT, other, tag, world);
    return true;
}

}  // namespace amalgam::emulation

// Instead of the library's own, which do the work: a communicator for the stand-in from the beginning, and calls from any
// thread, since on hardware NCCL and MPI know nothing of each other.
extern "C" int MPI_Init_thread(int* count, char*** arguments, int, int* provided) {
    const int result = PMPI_Init_thread(count, arguments, MPI_THREAD_MULTIPLE, provided);
    if (result != MPI_SUCCESS) return result;
    if (*provided != MPI_THREAD_MULTIPLE)
        amalgam::emulation::die("the MPI library does not take calls from any thread");
    PMPI_Comm_dup(MPI_COMM_WORLD, &amalgam::emulation::world);
    return PMPI_Comm_set_errhandler(amalgam::emulation::world, MPI_ERRORS_RETURN);
}

extern "C" int MPI_Finalize() {
    amalgam::emulation::stop_hurrying();
    if (amalgam::emulation::world != MPI_COMM_NULL) PMPI_Comm_free(&amalgam::emulation::world);
    return PMPI_Finalize();
}
