#include "src/device/cuda_queue.h"

#include <algorithm>
#include <cstring>

namespace amalgam {

namespace {
constexpr uint64_t slot_bytes = uint64_t(2) << 20;
constexpr int slots_in = 4, slots_out = 2;

/// Streams and events belong to the device that is current when they are made.
const CudaContext& chosen(const CudaContext& context) {
    use_cuda_device(context.device);
    return context;
}
}  // namespace

CudaQueue::CudaQueue(const CudaContext& context)
    : context_(chosen(context)), in_(slots_in, slot_bytes), out_(slots_out, slot_bytes) {}

void CudaQueue::copy_in(void* to, const void* host, uint64_t bytes) {
    use_cuda_device(context_.device);
    for (uint64_t done = 0; done < bytes;) {
        const PinnedRing::Part part = in_.claim(bytes - done);
        std::memcpy(part.data, static_cast<const std::byte*>(host) + done, part.bytes);
        copy_to_gpu(static_cast<std::byte*>(to) + done, part.data, part.bytes, copies_);
        in_.in_use(copies_);
        done += part.bytes;
        copies_queued_ = true;
    }
}

void CudaQueue::copy_out(void* host, const void* from, uint64_t bytes) {
    kernels();  // which orders the copies before
    const uint64_t slots = uint64_t(out_.slots()), parts = (bytes + slot_bytes - 1) / slot_bytes;
    const auto size = [&](uint64_t part) { return std::min(slot_bytes, bytes - part * slot_bytes); };
    uint64_t queued = 0;
    for (uint64_t part = 0; part < parts; ++part) {
        for (; queued < parts && queued < part + slots; ++queued) {
            copy_from_gpu(out_.slot(int(queued % slots)), static_cast<const std::byte*>(from) + queued * slot_bytes,
                          size(queued), kernels_);
            out_.event(int(queued % slots)).record(kernels_);
        }
        out_.event(int(part % slots)).wait();
        std::memcpy(static_cast<std::byte*>(host) + part * slot_bytes, out_.slot(int(part % slots)), size(part));
    }
}

cuda::Queue CudaQueue::kernels() {
    use_cuda_device(context_.device);
    if (copies_queued_) {
        copied_.record(copies_);
        copied_.make_wait(kernels_);
        copies_queued_ = false;
    }
    return {kernels_.get(), context_.multiprocessors};
}

void CudaQueue::order_copies() {
    use_cuda_device(context_.device);
    computed_.record(kernels_);
    computed_.make_wait(copies_);
}

void CudaQueue::finish() {
    use_cuda_device(context_.device);
    copies_.wait();
    kernels_.wait();
}

}  // namespace amalgam
