#include "src/device/cuda_memory.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "src/base/error.h"

namespace amalgam {

void check_cuda(int error, const char* doing) {
    if (error == 0) return;
    const auto code = static_cast<cudaError_t>(error);
    cudaGetLastError();  // errors that do not last are over once they are told
    fail(
        "{} failed: {} ({}); the cause may be work queued before. `nvidia-smi` shows how the GPU is; --device cpu does "
        "without it",
        doing, cudaGetErrorString(code), cudaGetErrorName(code));
}

void use_cuda_device(int device) { check_cuda(cudaSetDevice(device), "choosing the GPU"); }

DeviceBuffer::DeviceBuffer(std::shared_ptr<DevicePool> pool, void* data, uint64_t bytes)
    : pool_(std::move(pool)), data_(data), bytes_(bytes) {}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : pool_(std::move(other.pool_)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

DeviceBuffer::~DeviceBuffer() {
    if (data_) pool_->give_back(data_, bytes_);
}

DevicePool::~DevicePool() { free_kept(); }

DeviceBuffer DevicePool::take(uint64_t bytes) {
    constexpr uint64_t step = uint64_t(1) << 21;
    check(bytes <= uint64_t(1) << 60, "{} bytes of GPU memory were asked for, more than any GPU has", bytes);
    const uint64_t rounded = bytes > step ? (bytes + step - 1) / step * step : std::max<uint64_t>(bytes, 4096);
    std::lock_guard lock(mutex_);
    const auto kept = kept_.lower_bound(rounded);
    if (kept != kept_.end() && kept->first <= rounded + rounded / 4) {
        DeviceBuffer buffer(shared_from_this(), kept->second, kept->first);
        in_use_ += kept->first;
        kept_.erase(kept);
        return buffer;
    }
    use_cuda_device(device_);
    void* data = nullptr;
    cudaError_t error = cudaMalloc(&data, rounded);
    if (error == cudaErrorMemoryAllocation && !kept_.empty()) {
        cudaGetLastError();
        free_kept();
        error = cudaMalloc(&data, rounded);
    }
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        fail(
            "GPU {} has no room for {} bytes more: this process holds {} bytes of it, others may hold the rest; a "
            "smaller "
            "--memory or fewer --threads need less, fewer ranks on the GPU leave more to each",
            device_, rounded, in_use_);
    }
    check_cuda(error, "allocating GPU memory");
    in_use_ += rounded;
    return DeviceBuffer(shared_from_this(), data, rounded);
}

void DevicePool::give_back(void* data, uint64_t bytes) noexcept {
    std::lock_guard lock(mutex_);
    in_use_ -= bytes;
    kept_.emplace(bytes, data);
}

void DevicePool::free_kept() noexcept {
    cudaSetDevice(device_);
    for (const auto& [bytes, data] : kept_) cudaFree(data);
    kept_.clear();
}

CudaStream::CudaStream() {
    cudaStream_t stream = nullptr;
    check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
    stream_ = stream;
}
CudaStream::~CudaStream() {
    cudaStreamSynchronize(static_cast<cudaStream_t>(stream_));
    cudaStreamDestroy(static_cast<cudaStream_t>(stream_));
}
void CudaStream::wait() { check_cuda(cudaStreamSynchronize(static_cast<cudaStream_t>(stream_)), "work on the GPU"); }

void copy_to_gpu(void* to, const void* host, uint64_t bytes, const CudaStream& stream) {
    check_cuda(cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, static_cast<cudaStream_t>(stream.get())),
               "copying to the GPU");
}
void copy_from_gpu(void* host, const void* from, uint64_t bytes, const CudaStream& stream) {
    check_cuda(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, static_cast<cudaStream_t>(stream.get())),
               "copying from the GPU");
}
void clear_on_gpu(void* data, uint64_t bytes, const CudaStream& stream) {
    check_cuda(cudaMemsetAsync(data, 0, bytes, static_cast<cudaStream_t>(stream.get())), "clearing GPU memory");
}

CudaEvent::CudaEvent() {
    cudaEvent_t event = nullptr;
    check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
    event_ = event;
}
CudaEvent::~CudaEvent() {
    if (event_) cudaEventDestroy(static_cast<cudaEvent_t>(event_));
}
void CudaEvent::record(const CudaStream& stream) {
    check_cuda(cudaEventRecord(static_cast<cudaEvent_t>(event_), static_cast<cudaStream_t>(stream.get())),
               "marking a place in a stream");
}
void CudaEvent::wait() { check_cuda(cudaEventSynchronize(static_cast<cudaEvent_t>(event_)), "work on the GPU"); }
void CudaEvent::make_wait(const CudaStream& stream) {
    check_cuda(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream.get()), static_cast<cudaEvent_t>(event_), 0),
               "making a stream wait");
}

PinnedRing::PinnedRing(int slots, uint64_t slot_bytes) : slot_bytes_(slot_bytes) {
    events_.reserve(size_t(slots));
    for (int i = 0; i < slots; ++i) events_.emplace_back();
    void* memory = nullptr;
    const uint64_t bytes = uint64_t(slots) * slot_bytes;
    const cudaError_t error = cudaHostAlloc(&memory, bytes, cudaHostAllocDefault);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        fail(
            "{} bytes of pinned host memory are not to be had; free memory, raise `ulimit -l`, or use fewer ranks on "
            "this "
            "machine",
            bytes);
    }
    check_cuda(error, "allocating pinned memory");
    memory_ = static_cast<std::byte*>(memory);
}

PinnedRing::~PinnedRing() { cudaFreeHost(memory_); }

PinnedRing::Part PinnedRing::claim(uint64_t wanted) {
    // The rest of a slot is not worth a copy of its own unless all fits in.
    if (const uint64_t rest = slot_bytes_ - used_; rest < wanted && rest < slot_bytes_ / 4) {
        current_ = (current_ + 1) % events_.size();
        used_ = 0;
        events_[current_].wait();
    }
    const Part part{slot(int(current_)) + used_, std::min(wanted, slot_bytes_ - used_)};
    used_ = std::min(slot_bytes_, (used_ + part.bytes + 63) / 64 * 64);
    return part;
}

void PinnedRing::in_use(const CudaStream& stream) { events_[current_].record(stream); }

}  // namespace amalgam
