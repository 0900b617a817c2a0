// GPUs as devices.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdlib>

#include "src/base/error.h"
#include "src/device/cuda_lane.h"
#include "src/device/device.h"

namespace amalgam {

namespace {

/// A window is copied in, computed, copied out, and read ahead.
constexpr int lanes_of_device = 4;
/// Compute capability 8.0 is the first that the kernels are compiled for.
constexpr int least_major = 8;
/// What a lane may need beyond its window.
constexpr uint64_t scratch_of_lane = uint64_t(128) << 20;

class CudaDevice final : public Device {
  public:
    explicit CudaDevice(const Gpu& gpu) : name_(gpu.name), context_(gpu.context) {
        memory_ = std::max(gpu.memory / 2, gpu.memory - std::min(gpu.memory, lanes_of_device * scratch_of_lane));
    }

    DeviceKind kind() const override { return DeviceKind::cuda; }
    std::string name() const override { return name_; }
    uint64_t memory() const override { return memory_; }
    int lanes() const override { return lanes_of_device; }

    std::shared_ptr<void> allocate(uint64_t bytes) override {
        auto buffer = std::make_shared<DeviceBuffer>(context_.pool->take(bytes));
        return std::shared_ptr<void>(buffer, buffer->data());
    }
    void copy_in(void* to, const void* host, uint64_t bytes) override {
        copy(to, host, bytes, cudaMemcpyHostToDevice, "copying to the GPU");
    }
    void copy_out(void* host, const void* from, uint64_t bytes) override {
        copy(host, from, bytes, cudaMemcpyDeviceToHost, "copying from the GPU");
    }
    std::unique_ptr<Lane> make_lane(const LaneSettings&) override { return std::make_unique<CudaLane>(context_); }

  private:
    void copy(void* to, const void* from, uint64_t bytes, cudaMemcpyKind kind, const char* doing) const {
        if (bytes == 0) return;
        use_cuda_device(context_.device);
        check_cuda(cudaMemcpy(to, from, bytes, kind), doing);
        // A copy of pageable memory may return before the GPU has it.
        check_cuda(cudaStreamSynchronize(nullptr), doing);
    }

    std::string name_;
    uint64_t memory_ = 0;
    CudaContext context_;
};

}  // namespace

int cuda_device_count() {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) {
        cudaGetLastError();
        return 0;
    }
    return count;
}

std::vector<CudaDeviceFacts> cuda_devices() {
    std::vector<CudaDeviceFacts> found;
    for (int device = 0; device < cuda_device_count(); ++device) {
        cudaDeviceProp properties{};
        if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) {
            cudaGetLastError();
            continue;
        }
        found.push_back(
            {properties.name,
             fmt::format("{:04x}:{:02x}:{:02x}", properties.pciDomainID, properties.pciBusID, properties.pciDeviceID),
             properties.totalGlobalMem, properties.major >= least_major});
    }
    return found;
}

Gpu open_gpu(int node_rank, int node_size) {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
        cudaGetLastError();
        const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
        fail(
            "--device cuda: no GPU is to be seen ({}; CUDA_VISIBLE_DEVICES is {}); ask the scheduler for one, or use "
            "--device cpu",
            error != cudaSuccess ? cudaGetErrorString(error) : "the driver lists none",
            visible ? "'" + printable(visible) + "'" : std::string("not set"));
    }
    // A rank that sees one device may share it with all ranks of the machine: nothing here tells.
    const int device = node_rank % count, ranks = (node_size - device + count - 1) / count;
    use_cuda_device(device);
    cudaDeviceProp properties{};
    check_cuda(cudaGetDeviceProperties(&properties, device), "asking for the properties of the GPU");
    check(properties.major >= least_major,
          "GPU {} ({}) has compute capability {}.{}; this program is built for 8.0 and later: use --device cpu", device,
          properties.name, properties.major, properties.minor);
    size_t free = 0, total = 0;
    check_cuda(cudaMemGetInfo(&free, &total), "asking for the memory of the GPU");
    return {{device, properties.multiProcessorCount, std::make_shared<DevicePool>(device)},
            uint64_t(free) / 10 * 8 / uint64_t(ranks),
            fmt::format("GPU {}: {}", device, properties.name)};
}

std::unique_ptr<Device> make_cuda_device(int node_rank, int node_size) {
    return std::make_unique<CudaDevice>(open_gpu(node_rank, node_size));
}

}  // namespace amalgam
