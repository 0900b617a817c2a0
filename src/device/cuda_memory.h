// Memory of a GPU from a pool, streams and events, and pinned memory through which copies go.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace amalgam {

/// Throws Error unless `error`, a cudaError_t, is 0; `doing` says what did not work ("copying to the GPU").
void check_cuda(int error, const char* doing);
/// CUDA calls of the calling thread are for this device from now on.
void use_cuda_device(int device);

class DevicePool;

/// Memory of a GPU, back to its pool when it goes; aligned to 256 bytes. Work on it must have ended by then.
class DeviceBuffer {
  public:
    DeviceBuffer() = default;
    DeviceBuffer(DeviceBuffer&& other) noexcept;
    DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
    ~DeviceBuffer();

    void* data() const { return data_; }
    uint64_t bytes() const { return bytes_; }

  private:
    friend class DevicePool;
    DeviceBuffer(std::shared_ptr<DevicePool> pool, void* data, uint64_t bytes);

    std::shared_ptr<DevicePool> pool_;
    void* data_ = nullptr;
    uint64_t bytes_ = 0;
};

/// Keeps what buffers give back, since allocating stops the whole GPU. From any thread.
class DevicePool : public std::enable_shared_from_this<DevicePool> {
  public:
    explicit DevicePool(int device) : device_(device) {}
    DevicePool(const DevicePool&) = delete;
    DevicePool& operator=(const DevicePool&) = delete;
    ~DevicePool();

    /// At least so many bytes, not initialised. Throws Error if the GPU has no more.
    DeviceBuffer take(uint64_t bytes);

  private:
    friend class DeviceBuffer;
    void give_back(void* data, uint64_t bytes) noexcept;
    void free_kept() noexcept;

    const int device_;
    std::mutex mutex_;
    std::multimap<uint64_t, void*> kept_;
    uint64_t in_use_ = 0;
};

/// A queue of work; what is in it when it goes is waited for.
class CudaStream {
  public:
    CudaStream();
    CudaStream(const CudaStream&) = delete;
    CudaStream& operator=(const CudaStream&) = delete;
    ~CudaStream();
    void* get() const { return stream_; }
    void wait();

  private:
    void* stream_ = nullptr;
};

/// Queue a copy, or zeros; host memory is pinned and stays until the work has ended.
void copy_to_gpu(void* to, const void* host, uint64_t bytes, const CudaStream& stream);
void copy_from_gpu(void* host, const void* from, uint64_t bytes, const CudaStream& stream);
void clear_on_gpu(void* data, uint64_t bytes, const CudaStream& stream);

/// A place in a stream that others wait for.
class CudaEvent {
  public:
    CudaEvent();
    CudaEvent(CudaEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
    CudaEvent& operator=(CudaEvent&&) = delete;
    ~CudaEvent();
    void record(const CudaStream& stream);
    /// The host waits; nothing to wait for before the first record().
    void wait();
    void make_wait(const CudaStream& stream);

  private:
    void* event_ = nullptr;
};

/// Slots of pinned memory that are filled one after the other, each again only once what was queued with it has ended.
class PinnedRing {
  public:
    PinnedRing(int slots, uint64_t slot_bytes);
    PinnedRing(const PinnedRing&) = delete;
    PinnedRing& operator=(const PinnedRing&) = delete;
    ~PinnedRing();

    struct Part {
        std::byte* data;
        uint64_t bytes;
    };
    /// Up to `wanted` bytes; waits until they are free.
    Part claim(uint64_t wanted);
    /// What was claimed last is in use until the work now in the stream has ended.
    void in_use(const CudaStream& stream);

    int slots() const { return int(events_.size()); }
    uint64_t slot_bytes() const { return slot_bytes_; }
    /// For copies to the host, which take whole slots.
    std::byte* slot(int number) const { return memory_ + uint64_t(number) * slot_bytes_; }
    CudaEvent& event(int number) { return events_[size_t(number)]; }

  private:
    uint64_t slot_bytes_;
    std::byte* memory_ = nullptr;
    std::vector<CudaEvent> events_;
    size_t current_ = 0;
    uint64_t used_ = 0;
};

}  // namespace amalgam
