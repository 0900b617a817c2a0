// What ranks say to each other: whole-number reductions, byte strings, and agreement on errors.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/comm/transport.h"

namespace amalgam {

class Device;

/// Thrown by Communicator::agree() on every rank: rank 0 alone need report it.
class AgreedError : public Error {
  public:
    using Error::Error;
};

/// Messages to and from ranks that may have ended without a word: nothing waits for one of them. Both ends have a mailbox of
/// the same tag. One thread at a time, as for its communicator, which outlives it.
class Mailbox {
  public:
    struct Letter {
        int from = 0;
        std::string bytes;
    };
    Mailbox() = default;
    Mailbox(const Mailbox&) = delete;
    Mailbox& operator=(const Mailbox&) = delete;
    virtual ~Mailbox() = default;

    /// Returns at once.
    virtual void send(std::string bytes, int to) = 0;
    /// A message that is here as a whole, those of one rank in their order; nothing if there is none yet.
    virtual std::optional<Letter> receive() = 0;
    /// Until all that was sent is on its way, or nothing has moved for so long: false then.
    virtual bool flush(double seconds) = 0;
};

/// A group of ranks, numbered from 0. Functions marked collective are called by every rank of the group, in the same
/// order, with the same lengths and root. One thread at a time. Any length works, beyond 2^31 too. All throw Error if the
/// transport fails.
///
/// There is no floating-point reduction: its bits would depend on the number of ranks.
class Communicator {
  public:
    Communicator() = default;
    Communicator(const Communicator&) = delete;
    Communicator& operator=(const Communicator&) = delete;
    /// Of a group made by range(): collective.
    virtual ~Communicator() = default;

    virtual int rank() const = 0;
    virtual int size() const = 0;
    /// How many ranks of this group run on the machine of the calling one, and which of them it is.
    virtual int node_size() const = 0;
    virtual int node_rank() const = 0;

    /// Leaves the core to others while it waits, unlike what follows. Collective.
    virtual void barrier() = 0;

    /// Element by element over the ranks, in place, everywhere. Unsigned sums wrap around; signed ones must not. Collective.
    virtual void all_reduce_sum(std::span<uint64_t> values) = 0;
    virtual void all_reduce_sum(std::span<int64_t> values) = 0;
    virtual void all_reduce_sum(std::span<uint32_t> values) = 0;
    virtual void all_reduce_max(std::span<uint64_t> values) = 0;
    virtual void all_reduce_min(std::span<uint64_t> values) = 0;
    uint64_t all_reduce_sum(uint64_t value);
    uint64_t all_reduce_max(uint64_t value);
    uint64_t all_reduce_min(uint64_t value);
    /// Element by element, the sum over the ranks before this one; zeros on rank 0. Collective.
    virtual void exclusive_sum(std::span<uint64_t> values) = 0;

    /// Fills `bytes` with those of `root`; the same length everywhere. Collective.
    virtual void broadcast(std::span<std::byte> bytes, int root) = 0;
    /// The text of `root`, which may have any length there; what others pass is replaced. Collective.
    void broadcast(std::string& text, int root);

    /// The strings of all ranks in their order; on ranks other than `root` nothing. Collective.
    virtual std::vector<std::string> gather(const std::string& bytes, int root) = 0;
    /// The same, on every rank. Collective.
    virtual std::vector<std::string> all_gather(const std::string& bytes) = 0;

    /// Sends to another rank, which calls receive() with the same tag (0 to 30,000). Returns when `bytes` may be reused,
    /// possibly not before the other rank receives.
    virtual void send(std::span<const std::byte> bytes, int to, int tag) = 0;
    void send(const std::string& bytes, int to, int tag);
    /// The next message of that rank and tag, whatever its length.
    virtual std::string receive(int from, int tag) = 0;
    /// The same into memory of its exact length; another length is an Error.
    virtual void receive(std::span<std::byte> bytes, int from, int tag) = 0;

    virtual std::unique_ptr<Mailbox> mailbox(int tag) = 0;

    /// Messages in host memory. It follows the communicator's rule of one thread at a time, and ends before it. Collective, as
    /// is its end.
    virtual std::unique_ptr<Transport> transport() = 0;
    /// Messages in the memory of a device, by the shortest way there is; `device` must outlive them. Collective, likewise.
    virtual std::unique_ptr<Transport> device_transport(Device& device);

    /// The group of ranks first, first + step, ... below last, renumbered from 0. Called by these ranks only, by all of them;
    /// does not disturb the others.
    virtual std::unique_ptr<Communicator> every(int first, int last, int step) = 0;
    std::unique_ptr<Communicator> range(int first, int last) { return every(first, last, 1); }

    /// All ranks of this group, numbered anew by `rank`, which is another one on each. Collective.
    virtual std::unique_ptr<Communicator> renumber(int rank) = 0;

    /// Every rank passes "" or what went wrong on it. If anything did, every rank throws AgreedError with the text of the
    /// first rank that has one (behind "rank 3: " if that is not rank 0). Collective.
    void agree(const std::string& error);

    /// Largest message of the transport, in bytes, for tests: longer data travels in pieces. Groups made later inherit it.
    /// The same everywhere; at least 8.
    virtual void set_chunk_bytes(int64_t bytes) = 0;
};

/// The group of one rank; needs no MPI.
std::unique_ptr<Communicator> self_communicator();

}  // namespace amalgam
