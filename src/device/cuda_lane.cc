// Memory and copies of a lane; its passes are in cuda_passes.cc.
#include "src/device/cuda_lane.h"

#include <algorithm>
#include <cstring>

#include "src/base/error.h"

namespace amalgam {

namespace {
constexpr uint64_t slot_bytes = uint64_t(2) << 20;
constexpr int slots_in = 4, slots_out = 2;
constexpr uint64_t smallest_chunk = uint64_t(1) << 20;
/// Vector loads want 16; a warp's accesses then lie in whole segments too.
constexpr uint64_t alignment = 256;

/// Streams and events belong to the device that is current when they are made.
const CudaContext& chosen(const CudaContext& context) {
    use_cuda_device(context.device);
    return context;
}
}  // namespace

CudaLane::CudaLane(const CudaContext& context)
    : context_(chosen(context)),
      next_chunk_bytes_(smallest_chunk),
      in_(slots_in, slot_bytes),
      out_(slots_out, slot_bytes) {}

CudaLane::~CudaLane() = default;

void CudaLane::begin_window() {
    use_cuda_device(context_.device);
    if (chunks_.size() > 1) {
        finish();  // no work is left on memory that another lane may get
        next_chunk_bytes_ = 0;
        for (const Chunk& chunk : chunks_) next_chunk_bytes_ += chunk.buffer.bytes();
        chunks_.clear();
    }
    for (Chunk& chunk : chunks_) chunk.used = 0;
    chunk_ = 0;
    computed_.record(kernels_);
    computed_.make_wait(copies_);
}

void* CudaLane::reserve(uint64_t bytes) {
    check(bytes <= uint64_t(1) << 60, "{} bytes of GPU memory were asked for, more than any GPU has", bytes);
    const uint64_t rounded = std::max((bytes + alignment - 1) / alignment * alignment, alignment);
    for (; chunk_ < chunks_.size(); ++chunk_)
        if (chunks_[chunk_].buffer.bytes() - chunks_[chunk_].used >= rounded) break;
    if (chunk_ == chunks_.size()) {
        chunks_.push_back({context_.pool->take(std::max(rounded, next_chunk_bytes_)), 0});
        next_chunk_bytes_ = smallest_chunk;
    }
    Chunk& chunk = chunks_[chunk_];
    void* place = static_cast<std::byte*>(chunk.buffer.data()) + chunk.used;
    chunk.used += rounded;
    return place;
}

void* CudaLane::reserve_zeros(uint64_t bytes) {
    void* place = reserve(bytes);
    use_cuda_device(context_.device);
    clear_on_gpu(place, bytes, kernels_);
    return place;
}

const void* CudaLane::bring(const void* host, uint64_t bytes) {
    use_cuda_device(context_.device);
    void* place = reserve(bytes);
    for (uint64_t done = 0; done < bytes;) {
        const PinnedRing::Part part = in_.claim(bytes - done);
        std::memcpy(part.data, static_cast<const std::byte*>(host) + done, part.bytes);
        copy_to_gpu(static_cast<std::byte*>(place) + done, part.data, part.bytes, copies_);
        in_.in_use(copies_);
        done += part.bytes;
        copies_queued_ = true;
    }
    return place;
}

void CudaLane::take(const void* from, void* host, uint64_t bytes) {
    passes();  // which orders the copies before
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

void CudaLane::finish() {
    use_cuda_device(context_.device);
    copies_.wait();
    kernels_.wait();
}

void* CudaLane::queue() { return passes().stream; }

/// The stream of kernels, behind all copies so far.
cuda::Queue CudaLane::passes() {
    use_cuda_device(context_.device);
    if (copies_queued_) {
        copied_.record(copies_);
        copied_.make_wait(kernels_);
        copies_queued_ = false;
    }
    return {kernels_.get(), context_.multiprocessors};
}

CudaLane::Call::Call(CudaLane& lane) : lane_(lane), chunk_(lane.chunk_) {
    if (chunk_ < lane.chunks_.size()) used_ = lane.chunks_[chunk_].used;
}

CudaLane::Call::~Call() {
    for (size_t i = chunk_; i < lane_.chunks_.size(); ++i) lane_.chunks_[i].used = i == chunk_ ? used_ : 0;
    lane_.chunk_ = chunk_;
}

}  // namespace amalgam
