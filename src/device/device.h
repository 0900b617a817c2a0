// A processor that works through windows: the CPU, or a GPU.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "src/device/lane.h"

namespace amalgam {

enum class DeviceKind { automatic, cpu, cuda };

/// What lanes are made with.
struct LaneSettings {
    int64_t block = sum_block;  ///< CPU: elements of a work block, a multiple of 256
};

class Device {
  public:
    Device() = default;
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;
    virtual ~Device() = default;

    virtual DeviceKind kind() const = 0;
    /// For people: "cpu", or the device's number and name.
    virtual std::string name() const = 0;
    /// Bytes that all lanes together may use for windows; 0: as much as the host's budget.
    virtual uint64_t memory() const = 0;
    /// Lanes that keep the device busy while others read, copy and write; 0: one per core.
    virtual int lanes() const = 0;
    /// Memory of the processor that lasts beyond windows, aligned for vector loads; not initialised.
    virtual std::shared_ptr<void> allocate(uint64_t bytes) = 0;
    /// Copies between it and the host; returns when done. From any thread.
    virtual void copy_in(void* to, const void* host, uint64_t bytes) = 0;
    virtual void copy_out(void* host, const void* from, uint64_t bytes) = 0;
    /// From any thread; the lane may move to another one.
    virtual std::unique_ptr<Lane> make_lane(const LaneSettings& settings) = 0;
};

std::unique_ptr<Device> make_cpu_device();

/// GPUs that this process sees; 0 in a build without CUDA, or without a driver.
int cuda_device_count();
/// What they are, for people, and where on the machine: two processes that see the same one see the same place.
struct CudaDeviceFacts {
    std::string name, place;
    uint64_t memory = 0;     ///< bytes, of all users
    bool supported = false;  ///< this program has code for it
};
std::vector<CudaDeviceFacts> cuda_devices();
/// The GPU of rank `node_rank` of the `node_size` on this machine: they share out the devices that they see (or each sees its
/// own). Throws Error if there is none, saying why.
std::unique_ptr<Device> make_cuda_device(int node_rank, int node_size);

}  // namespace amalgam
