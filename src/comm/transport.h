// Memory of processors that travels between ranks in groups of messages.
#pragma once
#include <cstdint>
#include <memory>
#include <span>

namespace amalgam {

/// One message. The k-th message from a rank to another meets the k-th that the other receives from it, of the same length.
struct Transfer {
    enum class Direction : uint8_t { send, receive };
    Direction direction = Direction::send;
    int peer = 0;
    void* data = nullptr;  ///< not written by a send
    uint64_t bytes = 0;
};

/// Messages between the ranks of a Communicator, in the memory of the processor they were made for. One thread at a time.
class Transport {
  public:
    Transport() = default;
    Transport(const Transport&) = delete;
    Transport& operator=(const Transport&) = delete;
    virtual ~Transport() = default;

    /// Starts all transfers of a group, which advance together: ranks that exchange groups in the same order cannot block each
    /// other, whatever the order within a group. What is sent must be complete. Until wait() returns, received memory may
    /// not be read and sent memory not be written. At most one group at a time.
    virtual void start(std::span<const Transfer> transfers) = 0;
    /// Throws Error if the transport fails, or nothing moves for longer than its time limit.
    virtual void wait() = 0;
};

}  // namespace amalgam
