// One thread's copies and kernels on a GPU.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "kernels/cuda/passes.h"
#include "src/device/cuda_memory.h"

namespace amalgam {

/// What the threads that use one GPU share.
struct CudaContext {
    int device = 0;
    int multiprocessors = 1;
    std::shared_ptr<DevicePool> pool;
};

/// The GPU of a rank, chosen as make_cuda_device() says. Throws Error.
struct Gpu {
    CudaContext context;
    uint64_t memory = 0;  ///< bytes that the rank may use of it
    std::string name;
};
Gpu open_gpu(int node_rank, int node_size);

/// Copies to the GPU go through a ring of pinned memory in a stream of their own; kernels, and copies back, in another, which
/// waits for the first by event. What is queued when this goes is waited for.
class CudaQueue {
  public:
    explicit CudaQueue(const CudaContext& context);
    CudaQueue(const CudaQueue&) = delete;
    CudaQueue& operator=(const CudaQueue&) = delete;

    const CudaContext& context() const { return context_; }
    /// Queues a copy; `host` may be reused when this returns.
    void copy_in(void* to, const void* host, uint64_t bytes);
    /// What lies at `from` once all kernels before have ended.
    void copy_out(void* host, const void* from, uint64_t bytes);
    /// Where to queue kernels, behind all copies so far.
    cuda::Queue kernels();
    const CudaStream& kernel_stream() const { return kernels_; }
    /// Copies from now on wait for all kernels so far.
    void order_copies();
    /// All work so far has ended.
    void finish();

  private:
    CudaContext context_;
    PinnedRing in_, out_;
    CudaEvent copied_, computed_;
    bool copies_queued_ = false;
    CudaStream copies_, kernels_;  // first to go: their work uses what is above
};

}  // namespace amalgam
