// NCCL behind functions: whole numbers and bytes in the memory of GPUs, between ranks with a GPU each.
#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "src/comm/communicator.h"
#include "src/comm/transport.h"

namespace amalgam {

enum class WholeNumber : uint8_t { u32, u64, i64 };
enum class Reduction : uint8_t { sum, max, min };

/// Ranks that NCCL connects. All memory is that of the rank's GPU, and complete when it is passed; functions other than
/// start() return when theirs is. All but those on memory are collective: called by every rank in the same order with the same
/// lengths. Any length works. One thread at a time, any thread.
///
/// Errors (of NCCL, of the GPU, nothing that ends within AMALGAM_NETWORK_SECONDS) are thrown as Error and abort the group,
/// after which every call throws: the others then fail too, or reach their time limit.
class NcclGroup {
  public:
    NcclGroup() = default;
    NcclGroup(const NcclGroup&) = delete;
    NcclGroup& operator=(const NcclGroup&) = delete;
    /// Collective, unless by an exception.
    virtual ~NcclGroup() = default;

    virtual int rank() const = 0;
    virtual int size() const = 0;

    /// In place. There is no reduction of floats: its bits would depend on the number of ranks.
    virtual void all_reduce(void* numbers, uint64_t count, WholeNumber type, Reduction reduction) = 0;
    /// Of size() x count numbers the reduced ones of [rank() x count, (rank() + 1) x count) into `part`, which lies elsewhere.
    virtual void reduce_scatter(const void* numbers, void* part, uint64_t count, WholeNumber type,
                                Reduction reduction) = 0;
    virtual void broadcast(void* data, uint64_t bytes, int root) = 0;
    /// The parts of all ranks in their order, `bytes` each, into `all`, which lies elsewhere; gather() does it on `root` only.
    virtual void all_gather(const void* part, void* all, uint64_t bytes) = 0;
    virtual void gather(const void* part, void* all, uint64_t bytes, int root) = 0;
    void send(const void* data, uint64_t bytes, int to);
    void receive(void* data, uint64_t bytes, int from);
    /// As of Transport: not collective. Transports of one group share its order of messages: the messages of a pair meet in
    /// the order in which they are started, whatever their transports.
    void exchange(std::span<const Transfer> transfers);
    virtual std::unique_ptr<Transport> transport() = 0;

    /// Memory of the GPU, which may outlive the group.
    virtual std::shared_ptr<void> allocate(uint64_t bytes) = 0;
    virtual void copy_in(void* to, const void* host, uint64_t bytes) = 0;
    virtual void copy_out(void* host, const void* from, uint64_t bytes) = 0;

    /// Longer data travels in pieces; the same everywhere, at least 8.
    virtual void set_chunk_bytes(int64_t bytes) = 0;

  private:
    std::unique_ptr<Transport> exchange_;
};

/// Whether the program was built with NCCL, and AMALGAM_NCCL is not 0 in its environment.
bool nccl_available();

/// The GPU that is current in the calling thread; -1 if there is none.
int nccl_device();

/// Connects the ranks, with the GPU of this number each. nullptr on every rank (and a line in the log) if NCCL cannot: one of them
/// has no NCCL, or two have the same GPU. Throws AgreedError if NCCL should work but does not. Collective.
std::unique_ptr<NcclGroup> make_nccl_group(Communicator& ranks, int device = nccl_device());

/// Passes everything on to `ranks`, except that reductions and broadcasts of at least nccl_least_bytes go through the GPU that is
/// current in the calling thread, and that device_transport() of a GPU is NCCL's. Groups made by range() do likewise.
/// NCCL starts when it is first needed; where it cannot (see make_nccl_group) everything is passed on. Without NCCL: no more
/// than `ranks`.
std::unique_ptr<Communicator> nccl_communicator(std::unique_ptr<Communicator> ranks);
/// The same of a communicator that outlives it.
std::unique_ptr<Communicator> nccl_communicator(Communicator& ranks);

/// Below, the way to the GPU and back costs more than it gains.
constexpr uint64_t nccl_least_bytes = 64 << 10;

}  // namespace amalgam
