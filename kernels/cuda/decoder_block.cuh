// What the threads of a block make of one value each, where one row is a block's work.
#pragma once
#include "kernels/cuda/launch.cuh"

namespace amalgam::cuda {

constexpr int row_threads = 128;  ///< of kernels that reduce a row
constexpr int row_columns = 16;   ///< sums that remain after the first step

/// All values combined, in an order of its own, for every thread. The arrays are shared memory, of row_threads and row_columns
/// values. May be called again without a barrier between.
template <class T, class Combine>
__device__ T combined(T value, T* lanes, T* columns, const Combine& combine) {
    const int thread = int(threadIdx.x);
    lanes[thread] = value;
    __syncthreads();
    if (thread < row_columns) {
        T all = lanes[thread];
        for (int at = thread + row_columns; at < row_threads; at += row_columns) all = combine(all, lanes[at]);
        columns[thread] = all;
    }
    __syncthreads();
    T all = columns[0];
    for (int at = 1; at < row_columns; ++at) all = combine(all, columns[at]);
    return all;
}

template <class T>
struct Plus {
    __device__ T operator()(T a, T b) const { return a + b; }
};

/// As a factor of a product, or as it is.
__device__ inline void put(float* to, float value) { *to = value; }
__device__ inline void put(uint16_t* to, float value) { *to = bf16_from_float(value); }

}  // namespace amalgam::cuda
