// Messages in a device's memory, for transports that reach host memory only.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

#include "src/comm/transport.h"

namespace amalgam {

class Device;

/// Copies between device and host that are done when they return, as those of Device.
struct StagingCopies {
    std::function<void(void* to, const void* host, uint64_t bytes)> in;
    std::function<void(void* host, const void* from, uint64_t bytes)> out;
};

/// Sends pieces of at most `piece` bytes, the same everywhere, through host memory: one piece for each transfer of a group.
std::unique_ptr<Transport> staged_transport(std::unique_ptr<Transport> host, StagingCopies copies,
                                            uint64_t piece = uint64_t{16} << 20);
/// With the copies of `device`, which must outlive it.
std::unique_ptr<Transport> staged_transport(std::unique_ptr<Transport> host, Device& device);

}  // namespace amalgam
