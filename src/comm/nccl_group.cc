// The one file with NCCL in it. nccl.h brings the CUDA runtime's interface along.
#include <nccl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "src/base/log.h"
#include "src/comm/nccl.h"
#include "src/comm/patience.h"

namespace amalgam {
namespace {

constexpr const char* advice =
    "NCCL_DEBUG=INFO tells more; where machines have several networks, NCCL_SOCKET_IFNAME names the interface to use; "
    "AMALGAM_NCCL=0 sends through host memory instead";

void check_cuda(cudaError_t result, const char* call, int line) {
    check(result == cudaSuccess,
          "{} failed in {}:{} ({}: {}): the GPU or its driver is in trouble; see nvidia-smi and dmesg", call, __FILE__,
          line, cudaGetErrorName(result), cudaGetErrorString(result));
}

/// A call that is under way is as good as done: poll() comes after it.
void check_nccl(ncclResult_t result, ncclComm_t handle, const char* call, int line) {
    if (result == ncclSuccess || result == ncclInProgress) return;
    const char* last = ncclGetLastError(handle);
    fail("{} failed in {}:{} ({}{}{}): another rank may have ended, or the GPUs do not reach each other. {}", call,
         __FILE__, line, ncclGetErrorString(result), last && *last ? "; " : "", last ? last : "", advice);
}

#define AMALGAM_CUDA_CALL(call) check_cuda((call), #call, __LINE__)
#define AMALGAM_NCCL_CALL(handle, call) check_nccl((call), (handle), #call, __LINE__)

/// The GPU of a thread is state of the thread, which may be used for others too.
class CurrentDevice {
  public:
    explicit CurrentDevice(int device) {
        AMALGAM_CUDA_CALL(cudaGetDevice(&before_));
        if (before_ == device)
            before_ = -1;
        else
            AMALGAM_CUDA_CALL(cudaSetDevice(device));
    }
    ~CurrentDevice() {
        if (before_ >= 0) cudaSetDevice(before_);
    }
    CurrentDevice(const CurrentDevice&) = delete;
    CurrentDevice& operator=(const CurrentDevice&) = delete;

  private:
    int before_ = -1;
};

/// A stream of a device, and the event behind its last work.
class Queue {
  public:
    explicit Queue(int device) {
        const CurrentDevice current(device);
        AMALGAM_CUDA_CALL(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
        const cudaError_t result = cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
        if (result != cudaSuccess) cudaStreamDestroy(stream_);
        check_cuda(result, "cudaEventCreateWithFlags", __LINE__);
    }
    ~Queue() {
        cudaEventDestroy(event_);
        cudaStreamDestroy(stream_);
    }
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;

    cudaStream_t stream() const { return stream_; }
    void mark() { AMALGAM_CUDA_CALL(cudaEventRecord(event_, stream_)); }
    bool passed() const {
        const cudaError_t result = cudaEventQuery(event_);
        if (result == cudaErrorNotReady) return false;
        check_cuda(result, "work of NCCL", __LINE__);
        return true;
    }

  private:
    cudaStream_t stream_ = nullptr;
    cudaEvent_t event_ = nullptr;
};

/// Calls that start together. If one of them fails the group must end all the same.
class CallGroup {
  public:
    explicit CallGroup(ncclComm_t handle) : handle_(handle) { AMALGAM_NCCL_CALL(handle_, ncclGroupStart()); }
    ~CallGroup() {
        if (open_) ncclGroupEnd();
    }
    CallGroup(const CallGroup&) = delete;
    CallGroup& operator=(const CallGroup&) = delete;
    void end() {
        open_ = false;
        AMALGAM_NCCL_CALL(handle_, ncclGroupEnd());
    }

  private:
    ncclComm_t handle_;
    bool open_ = true;
};

/// NCCL's communicator: its calls do not block, so that every wait has a limit and sees errors of others.
class Connection {
  public:
    Connection(const ncclUniqueId& id, Communicator& ranks, int device)
        : rank_(ranks.rank()), size_(ranks.size()), device_(device), exceptions_(std::uncaught_exceptions()) {
        std::string refusal;
        try {
            const CurrentDevice current(device_);
            ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
            config.blocking = 0;
            AMALGAM_NCCL_CALL(handle_, ncclCommInitRankConfig(&handle_, size_, id, rank_, &config));
        } catch (const Error& caught) {
            refusal = caught.what();
        }
        try {
            ranks.agree(refusal);  // who waits for a rank that did not start does so up to the limit
            const CurrentDevice current(device_);
            settle("the start of NCCL");
        } catch (const Error& error) {
            abort(error.what());
            throw;
        }
    }
    ~Connection() {
        if (!handle_) return;
        // Others may not come to their end if an error leads to this one.
        if (std::uncaught_exceptions() > exceptions_) {
            abort("an error elsewhere");
            return;
        }
        try {
            const CurrentDevice current(device_);
            AMALGAM_NCCL_CALL(handle_, ncclCommFinalize(handle_));
            settle("the end of NCCL");
            AMALGAM_NCCL_CALL(handle_, ncclCommDestroy(handle_));
        } catch (const std::exception& error) {
            log_here(LogLevel::warning, "{}", error.what());
            abort("an error at the end");
        }
    }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    int rank() const { return rank_; }
    int size() const { return size_; }
    int device() const { return device_; }
    ncclComm_t handle() const { return handle_; }

    /// Puts what `calls` call into the queue, as one group.
    template <class Calls>
    void start(Queue& queue, const char* what, const Calls& calls) {
        check(handle_, "{} after NCCL was stopped by an error: {}", what, broken_);
        guarded([&] {
            CallGroup group(handle_);
            calls();
            group.end();
            // Before that the work may not be in the stream yet, where the mark has to come behind it.
            settle(what);
            queue.mark();
        });
    }
    void finish(const Queue& queue, const char* what) {
        check(handle_, "{} after NCCL was stopped by an error: {}", what, broken_);
        guarded([&] { poll(what, [&](ncclResult_t) { return queue.passed(); }); });
    }

  private:
    template <class Work>
    void guarded(const Work& work) {
        try {
            const CurrentDevice current(device_);
            work();
        } catch (const Error& error) {
            abort(error.what());
            throw;
        }
    }

    void settle(const char* what) {
        poll(what, [](ncclResult_t state) { return state != ncclInProgress; });
    }

    template <class Ready>
    void poll(const char* what, const Ready& ready) {
        Patience patience(seconds_);
        for (;;) {
            ncclResult_t state = ncclSuccess;
            AMALGAM_NCCL_CALL(handle_, ncclCommGetAsyncError(handle_, &state));
            check_nccl(state, handle_, what, __LINE__);
            if (ready(state)) return;
            check(
                patience.wait(),
                "rank {} of {} waited {} seconds in NCCL ({}): another rank hangs, has ended or is on another network; "
                "see its messages. AMALGAM_NETWORK_SECONDS changes the limit. {}",
                rank_, size_, patience.seconds(), what, advice);
        }
    }

    /// Also ends what runs on the GPU, so that memory and streams can go.
    void abort(const char* why) {
        if (!handle_) return;
        broken_ = why;
        ncclCommAbort(std::exchange(handle_, nullptr));
    }

    ncclComm_t handle_ = nullptr;
    int rank_, size_, device_;
    int exceptions_;
    double seconds_ = network_seconds();
    std::string broken_;
};

void check_peer(int peer, int size) {
    check(0 <= peer && peer < size, "rank {} of a group of {} (a bug in the program)", peer, size);
}

class NcclTransport : public Transport {
  public:
    NcclTransport(std::shared_ptr<Connection> connection, uint64_t chunk)
        : connection_(std::move(connection)), chunk_(chunk), queue_(connection_->device()) {}

    void start(std::span<const Transfer> transfers) override {
        check(!started_, "a group of messages starts before the one before it has ended (a bug in the program)");
        for (const Transfer& transfer : transfers) check_peer(transfer.peer, connection_->size());
        connection_->start(queue_, what, [&] {
            for (const Transfer& transfer : transfers) add(transfer);
        });
        started_ = true;
    }
    void wait() override {
        check(std::exchange(started_, false), "wait() without a group of messages (a bug in the program)");
        connection_->finish(queue_, what);
    }

  private:
    static constexpr const char* what = "a group of messages";

    void add(const Transfer& transfer) {
        const ncclComm_t handle = connection_->handle();
        auto* data = static_cast<std::byte*>(transfer.data);
        for (uint64_t first = 0; first < transfer.bytes; first += chunk_) {
            std::byte* piece = data + first;
            const auto bytes = size_t(std::min(chunk_, transfer.bytes - first));
            if (transfer.direction == Transfer::Direction::send)
                AMALGAM_NCCL_CALL(handle, ncclSend(piece, bytes, ncclUint8, transfer.peer, handle, queue_.stream()));
            else
                AMALGAM_NCCL_CALL(handle, ncclRecv(piece, bytes, ncclUint8, transfer.peer, handle, queue_.stream()));
        }
    }

    std::shared_ptr<Connection> connection_;
    uint64_t chunk_;
    Queue queue_;
    bool started_ = false;
};

struct TypeOfNccl {
    ncclDataType_t type;
    uint64_t bytes;
};
/// GPU memory for pieces of what does not lie together.
constexpr uint64_t most_packed_bytes = uint64_t{64} << 20;

TypeOfNccl type_of(WholeNumber type) {
    switch (type) {
        case WholeNumber::u32: return {ncclUint32, 4};
        case WholeNumber::u64: return {ncclUint64, 8};
        case WholeNumber::i64: return {ncclInt64, 8};
    }
    fail("an unknown type of numbers (a bug in the program)");
}

ncclRedOp_t operation_of(Reduction reduction) {
    switch (reduction) {
        case Reduction::sum: return ncclSum;
        case Reduction::max: return ncclMax;
        case Reduction::min: return ncclMin;
    }
    fail("an unknown reduction (a bug in the program)");
}

class Group : public NcclGroup {
  public:
    Group(const ncclUniqueId& id, Communicator& ranks, int device)
        : connection_(std::make_shared<Connection>(id, ranks, device)), queue_(device) {}

    int rank() const override { return connection_->rank(); }
    int size() const override { return connection_->size(); }

    void all_reduce(void* numbers, uint64_t count, WholeNumber type, Reduction reduction) override {
        const TypeOfNccl is = type_of(type);
        auto* data = static_cast<std::byte*>(numbers);
        for_pieces("all-reduce", count, chunk_ / is.bytes, [&](uint64_t first, size_t piece) {
            std::byte* at = data + first * is.bytes;
            AMALGAM_NCCL_CALL(handle(),
                              ncclAllReduce(at, at, piece, is.type, operation_of(reduction), handle(), stream()));
        });
    }

    void reduce_scatter(const void* numbers, void* part, uint64_t count, WholeNumber type,
                        Reduction reduction) override {
        const TypeOfNccl is = type_of(type);
        const auto* from = static_cast<const std::byte*>(numbers);
        auto* to = static_cast<std::byte*>(part);
        const uint64_t row = is.bytes * uint64_t(size());
        const uint64_t step = std::min(chunk_, most_packed_bytes) / row;
        const ncclRedOp_t operation = operation_of(reduction);
        if (count <= step) {
            start_and_finish("reduce-scatter", [&] {
                AMALGAM_NCCL_CALL(handle(),
                                  ncclReduceScatter(from, to, size_t(count), is.type, operation, handle(), stream()));
            });
            return;
        }
        // The same piece of every rank's part does not lie together.
        const std::shared_ptr<void> packed = allocate(std::max<uint64_t>(step, 1) * row);
        for_pieces("reduce-scatter", count, std::max<uint64_t>(step, 1), [&](uint64_t first, size_t piece) {
            for (int owner = 0; owner < size(); ++owner)
                AMALGAM_CUDA_CALL(
                    cudaMemcpyAsync(static_cast<std::byte*>(packed.get()) + uint64_t(owner) * piece * is.bytes,
                                    from + (uint64_t(owner) * count + first) * is.bytes, piece * is.bytes,
                                    cudaMemcpyDeviceToDevice, stream()));
            AMALGAM_NCCL_CALL(handle(), ncclReduceScatter(packed.get(), to + first * is.bytes, piece, is.type,
                                                          operation, handle(), stream()));
        });
    }

    void broadcast(void* data, uint64_t bytes, int root) override {
        check_peer(root, size());
        for_pieces("broadcast", bytes, chunk_, [&](uint64_t first, size_t piece) {
            std::byte* at = static_cast<std::byte*>(data) + first;
            AMALGAM_NCCL_CALL(handle(), ncclBroadcast(at, at, piece, ncclUint8, root, handle(), stream()));
        });
    }

    void all_gather(const void* part, void* all, uint64_t bytes) override {
        const auto* from = static_cast<const std::byte*>(part);
        auto* to = static_cast<std::byte*>(all);
        for_pieces("all-gather", bytes, chunk_, [&](uint64_t first, size_t piece) {
            if (piece == bytes) {
                AMALGAM_NCCL_CALL(handle(), ncclAllGather(from, to, piece, ncclUint8, handle(), stream()));
                return;
            }
            for (int root = 0; root < size(); ++root)
                AMALGAM_NCCL_CALL(handle(), ncclBroadcast(from + first, to + uint64_t(root) * bytes + first, piece,
                                                          ncclUint8, root, handle(), stream()));
        });
    }

    void gather(const void* part, void* all, uint64_t bytes, int root) override {
        check_peer(root, size());
        std::vector<Transfer> transfers = {{Transfer::Direction::send, root, const_cast<void*>(part), bytes}};
        for (int from = 0; from < size() && rank() == root; ++from)
            transfers.push_back(
                {Transfer::Direction::receive, from, static_cast<std::byte*>(all) + uint64_t(from) * bytes, bytes});
        exchange(transfers);
    }

    std::unique_ptr<Transport> transport() override { return std::make_unique<NcclTransport>(connection_, chunk_); }

    std::shared_ptr<void> allocate(uint64_t bytes) override {
        const CurrentDevice current(connection_->device());
        void* memory = nullptr;
        AMALGAM_CUDA_CALL(cudaMalloc(&memory, size_t(std::max<uint64_t>(bytes, 1))));
        return {memory, [](void* old) { cudaFree(old); }};
    }
    void copy_in(void* to, const void* host, uint64_t bytes) override { copy(to, host, bytes, cudaMemcpyHostToDevice); }
    void copy_out(void* host, const void* from, uint64_t bytes) override {
        copy(host, from, bytes, cudaMemcpyDeviceToHost);
    }

    void set_chunk_bytes(int64_t bytes) override {
        check(bytes >= 8, "messages of {} bytes: at least 8 are possible", bytes);
        chunk_ = uint64_t(bytes);
    }

  private:
    ncclComm_t handle() const { return connection_->handle(); }
    cudaStream_t stream() const { return queue_.stream(); }

    template <class Calls>
    void start_and_finish(const char* what, const Calls& calls) {
        connection_->start(queue_, what, calls);
        connection_->finish(queue_, what);
    }

    template <class Call>
    void for_pieces(const char* what, uint64_t count, uint64_t step, const Call& call) {
        for (uint64_t first = 0; first < count; first += step)
            start_and_finish(what, [&] { call(first, size_t(std::min(step, count - first))); });
    }

    void copy(void* to, const void* from, uint64_t bytes, cudaMemcpyKind kind) {
        if (bytes == 0) return;
        const CurrentDevice current(connection_->device());
        AMALGAM_CUDA_CALL(cudaMemcpyAsync(to, from, size_t(bytes), kind, stream()));
        AMALGAM_CUDA_CALL(cudaStreamSynchronize(stream()));
    }

    std::shared_ptr<Connection> connection_;
    Queue queue_;
    uint64_t chunk_ = uint64_t{1} << 30;  // of one call: its wait has a limit
};

/// What NCCL tells GPUs apart by: the machine, and the place on its bus. "": none, or NCCL is not wanted.
std::string name_of_gpu(int device) {
    if (!nccl_available() || device < 0) return "";
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) return "";
    std::string machine;
    // Containers of one machine have names of their own, but one kernel.
    std::ifstream("/proc/sys/kernel/random/boot_id") >> machine;
    if (machine.empty()) {
        char name[256] = "";
        gethostname(name, sizeof(name) - 1);
        machine = name;
    }
    return fmt::format("GPU {:04x}:{:02x}:{:02x} of machine {}", properties.pciDomainID, properties.pciBusID,
                       properties.pciDeviceID, machine);
}

/// Why NCCL cannot connect these ranks, or "".
std::string obstacle(const std::vector<std::string>& gpus) {
    for (size_t rank = 0; rank < gpus.size(); ++rank) {
        if (gpus[rank].empty()) return fmt::format("rank {} has no GPU, or AMALGAM_NCCL=0 in its environment", rank);
        const auto other = std::find(gpus.begin(), gpus.begin() + int64_t(rank), gpus[rank]);
        if (*other == gpus[rank] && other != gpus.begin() + int64_t(rank))
            return fmt::format("ranks {} and {} share {} (one rank for each GPU is faster)", other - gpus.begin(), rank,
                               gpus[rank]);
    }
    return "";
}

}  // namespace

bool nccl_available() {
    const char* text = std::getenv("AMALGAM_NCCL");
    return !text || std::string_view(text) != "0";
}

int nccl_device() {
    int device = -1;
    return cudaGetDevice(&device) == cudaSuccess ? device : -1;
}

std::unique_ptr<NcclGroup> make_nccl_group(Communicator& ranks, int device) {
    if (const std::string why = obstacle(ranks.all_gather(name_of_gpu(device))); !why.empty()) {
        static std::atomic<bool> said = false;
        if (!said.exchange(true)) log_info("without NCCL, what GPUs send goes through host memory: {}", why);
        return nullptr;
    }
    std::string error;
    ncclUniqueId id{};
    const auto keep_error = [&](const auto& work) {
        try {
            work();
        } catch (const Error& caught) {
            error = caught.what();
        }
        ranks.agree(error);
    };
    keep_error([&] {
        if (ranks.rank() == 0) AMALGAM_NCCL_CALL(nullptr, ncclGetUniqueId(&id));
    });
    ranks.broadcast(std::as_writable_bytes(std::span(&id, 1)), 0);
    std::unique_ptr<NcclGroup> group;
    keep_error([&] { group = std::make_unique<Group>(id, ranks, device); });
    return group;
}

}  // namespace amalgam
