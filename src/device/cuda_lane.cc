// Memory and copies of a lane; its passes are in cuda_passes.cc.
#include "src/device/cuda_lane.h"

#include <algorithm>

#include "src/base/error.h"

namespace amalgam {

namespace {
constexpr uint64_t smallest_chunk = uint64_t(1) << 20;
/// Vector loads want 16; a warp's accesses then lie in whole segments too.
constexpr uint64_t alignment = 256;
}  // namespace

CudaLane::CudaLane(const CudaContext& context) : next_chunk_bytes_(smallest_chunk), work_(context) {}

CudaLane::~CudaLane() = default;

void CudaLane::begin_window() {
    if (chunks_.size() > 1) {
        finish();  // no work is left on memory that another lane may get
        next_chunk_bytes_ = 0;
        for (const Chunk& chunk : chunks_) next_chunk_bytes_ += chunk.buffer.bytes();
        chunks_.clear();
    }
    for (Chunk& chunk : chunks_) chunk.used = 0;
    chunk_ = 0;
    work_.order_copies();
}

void* CudaLane::reserve(uint64_t bytes) {
    check(bytes <= uint64_t(1) << 60, "{} bytes of GPU memory were asked for, more than any GPU has", bytes);
    const uint64_t rounded = std::max((bytes + alignment - 1) / alignment * alignment, alignment);
    for (; chunk_ < chunks_.size(); ++chunk_)
        if (chunks_[chunk_].buffer.bytes() - chunks_[chunk_].used >= rounded) break;
    if (chunk_ == chunks_.size()) {
        chunks_.push_back({work_.context().pool->take(std::max(rounded, next_chunk_bytes_)), 0});
        next_chunk_bytes_ = smallest_chunk;
    }
    Chunk& chunk = chunks_[chunk_];
    void* place = static_cast<std::byte*>(chunk.buffer.data()) + chunk.used;
    chunk.used += rounded;
    return place;
}

void* CudaLane::reserve_zeros(uint64_t bytes) {
    void* place = reserve(bytes);
    use_cuda_device(work_.context().device);
    clear_on_gpu(place, bytes, work_.kernel_stream());
    return place;
}

const void* CudaLane::bring(const void* host, uint64_t bytes) {
    void* place = reserve(bytes);
    work_.copy_in(place, host, bytes);
    return place;
}

void CudaLane::take(const void* from, void* host, uint64_t bytes) { work_.copy_out(host, from, bytes); }

void CudaLane::finish() { work_.finish(); }

void* CudaLane::queue() { return passes().stream; }

cuda::Queue CudaLane::passes() { return work_.kernels(); }

CudaLane::Call::Call(CudaLane& lane) : lane_(lane), chunk_(lane.chunk_) {
    if (chunk_ < lane.chunks_.size()) used_ = lane.chunks_[chunk_].used;
}

CudaLane::Call::~Call() {
    for (size_t i = chunk_; i < lane_.chunks_.size(); ++i) lane_.chunks_[i].used = i == chunk_ ? used_ : 0;
    lane_.chunk_ = chunk_;
}

}  // namespace amalgam
