// How kernels start: by cudaLaunchKernelEx, so that a host compiler can parse these sources too.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/passes.h"

#if defined(__CUDACC__)
#define AMALGAM_SHARED(type, name, count) __shared__ type name[count]
#endif

namespace amalgam::cuda {

constexpr int pack_width = 8;       ///< elements of a thread's pack: 16 bytes of bf16
constexpr int block_threads = 256;  ///< of kernels without shared memory
constexpr int blocks_per_multiprocessor = 8;

/// Thread blocks for so many pieces of work that threads stride over; a few for each multiprocessor at most.
inline int64_t blocks_for(const Queue& queue, int64_t pieces, int pieces_per_block) {
    const int64_t enough = (pieces + pieces_per_block - 1) / pieces_per_block;
    return std::clamp<int64_t>(enough, 1, int64_t(queue.multiprocessors) * blocks_per_multiprocessor);
}

namespace detail {
template <class... Parameters, class... Arguments>
int start(const Queue& queue, int64_t blocks, int threads, bool cooperative, void (*kernel)(Parameters...),
          Arguments... arguments) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeIgnore;  // read by the emulator: the threads of a block meet at barriers
    attribute.val.cooperative = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.stream = static_cast<cudaStream_t>(queue.stream);
    if (cooperative) {
        config.attrs = &attribute;
        config.numAttrs = 1;
    }
    return static_cast<int>(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}
}  // namespace detail

/// Kernels whose threads do not meet.
template <class... Parameters, class... Arguments>
int launch(const Queue& queue, int64_t blocks, int threads, void (*kernel)(Parameters...), Arguments... arguments) {
    return detail::start(queue, blocks, threads, false, kernel, arguments...);
}

/// Kernels with __syncthreads().
template <class... Parameters, class... Arguments>
int launch_cooperative_block(const Queue& queue, int64_t blocks, int threads, void (*kernel)(Parameters...),
                             Arguments... arguments) {
    return detail::start(queue, blocks, threads, true, kernel, arguments...);
}

/// Number of the calling thread in its grid, and threads of the grid.
__device__ inline int64_t grid_thread() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t grid_threads() { return int64_t(gridDim.x) * blockDim.x; }

__device__ inline void add(unsigned long long* total, int64_t amount) {
    if (amount) atomicAdd(total, static_cast<unsigned long long>(amount));
}
__device__ inline void add_counts(const FoldCounts& counts, DeviceCounts* total) {
    add(&total->nonfinite_input, counts.nonfinite_input);
    add(&total->nonfinite_output, counts.nonfinite_output);
    add(&total->saturated, counts.saturated);
    add(&total->unchanged, counts.unchanged);
}

AMALGAM_BODY Operand at_element(const Operand& operand, int64_t elements) {
    if (!operand.data) return operand;
    return {static_cast<const unsigned char*>(operand.data) + elements * stored_bytes(operand.dtype), operand.dtype};
}

/// values[0] becomes the sum of 2 x Half values, by halves.
template <int Half>
AMALGAM_BODY void fold_halves(double* values) {
    AMALGAM_UNROLL
    for (int i = 0; i < Half; ++i) values[i] += values[i + Half];
    if constexpr (Half > 1) fold_halves<Half / 2>(values);
}

/// lanes[256 s + lane] of each sum s, folded by halves, into out[place(s)]; a negative place is left out.
template <class Place>
__device__ void fold_sums(const double* lanes, int64_t sums, double* out, const Place& place) {
    constexpr int columns = 16, rows = sum_lanes / columns;
    for (int64_t sum = grid_thread(); sum < sums; sum += grid_threads()) {
        const int64_t target = place(sum);
        if (target < 0) continue;
        const double* from = lanes + sum * sum_lanes;
        // Halves of 128 to 16 lanes stay within a column of lanes that are 16 apart; the rest folds the columns.
        double total[columns];
        AMALGAM_UNROLL
        for (int c = 0; c < columns; ++c) {
            double value[rows];
            AMALGAM_UNROLL
            for (int r = 0; r < rows; ++r) value[r] = from[c + columns * r];
            fold_halves<rows / 2>(value);
            total[c] = value[0];
        }
        fold_halves<columns / 2>(total);
        out[target] = total[0];
    }
}

}  // namespace amalgam::cuda
