// A decoder's rows of activations: embedding, norms, rotation, activations.
#include "kernels/cuda/decoder.h"
#include "kernels/cuda/decoder_block.cuh"
#include "kernels/vector_math.h"

namespace amalgam::cuda {

namespace {

__device__ float read_value(const float* from) { return *from; }
__device__ float read_value(const uint16_t* from) { return float_from_bf16(*from); }

template <class T>
__global__ void __launch_bounds__(block_threads)
    gather_kernel(const T* table, float scale, const int32_t* numbers, int64_t rows, int64_t width, float* to) {
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const T* from = table + numbers[row] * width;
        for (int64_t c = threadIdx.x; c < width; c += blockDim.x) to[row * width + c] = read_value(from + c) * scale;
    }
}

template <class Out>
__global__ void __launch_bounds__(row_threads) norm_kernel(NormArguments arguments) {
    AMALGAM_SHARED(float, lanes, row_threads);
    AMALGAM_SHARED(float, columns, row_columns);
    const int64_t width = arguments.width, vectors = arguments.rows * arguments.parts;
    for (int64_t vector = blockIdx.x; vector < vectors; vector += gridDim.x) {
        const int64_t begin = vector / arguments.parts * arguments.stride + vector % arguments.parts * width;
        const float* from = arguments.from + begin;
        float sum = 0;
        for (int64_t c = threadIdx.x; c < width; c += row_threads) sum += from[c] * from[c];
        const float mean = combined(sum, lanes, columns, Plus<float>()) / float(width);
        const float scale = 1 / sqrtf(mean + arguments.epsilon);
        Out* to = static_cast<Out*>(arguments.to) + begin;
        for (int64_t c = threadIdx.x; c < width; c += row_threads) put(to + c, from[c] * scale * arguments.weights[c]);
    }
}

__global__ void __launch_bounds__(block_threads) add_kernel(float* x, const float* y, int64_t count) {
    for (int64_t i = grid_thread(); i < count; i += grid_threads()) x[i] += y[i];
}

__global__ void __launch_bounds__(block_threads) bias_kernel(float* x, int64_t rows, int64_t width, const float* bias) {
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x)
        for (int64_t c = threadIdx.x; c < width; c += blockDim.x) x[row * width + c] += bias[c];
}

__global__ void __launch_bounds__(block_threads)
    turn_kernel(float* values, int64_t rows, int64_t stride, int heads, int head_dim, const int32_t* positions,
                const float* cosines, const float* sines) {
    const int half = head_dim / 2, pairs = heads * half;
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const int64_t table = int64_t(positions[row]) * half;
        for (int i = int(threadIdx.x); i < pairs; i += int(blockDim.x)) {
            const int head = i / half, pair = i % half;
            float* first = values + row * stride + int64_t(head) * head_dim + pair;
            const float a = first[0], b = first[half];
            const float cosine = cosines[table + pair], sine = sines[table + pair];
            first[0] = a * cosine - b * sine;
            first[half] = b * cosine + a * sine;
        }
    }
}

__global__ void __launch_bounds__(block_threads)
    store_kernel(const float* from, int64_t rows, int64_t width, int64_t stride, const int32_t* places, float* to) {
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x)
        for (int64_t c = threadIdx.x; c < width; c += blockDim.x) to[places[row] * width + c] = from[row * stride + c];
}

__device__ float silu(float x) { return x / (1 + vector_exp(-x)); }
__device__ float gelu_tanh(float x) { return 0.5f * x * (1 + vector_tanh(0.79788456f * (x + 0.044715f * x * x * x))); }

template <class Out>
__global__ void __launch_bounds__(block_threads)
    gated_kernel(const float* gate_up, int64_t rows, int64_t width, bool gelu, Out* to) {
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const float* gate = gate_up + row * 2 * width;
        for (int64_t c = threadIdx.x; c < width; c += blockDim.x) {
            const float active = gelu ? gelu_tanh(gate[c]) : silu(gate[c]);
            put(to + row * width + c, active * gate[width + c]);
        }
    }
}

}  // namespace

int gather_rows(const Queue& queue, const void* table, Dtype dtype, float scale, const int32_t* numbers, int64_t rows,
                int64_t width, float* to) {
    const int64_t blocks = blocks_for(queue, rows, 1);
    if (dtype == Dtype::bf16)
        return launch(queue, blocks, block_threads, gather_kernel<uint16_t>, static_cast<const uint16_t*>(table), scale,
                      numbers, rows, width, to);
    return launch(queue, blocks, block_threads, gather_kernel<float>, static_cast<const float*>(table), scale, numbers,
                  rows, width, to);
}

int rms_norm(const Queue& queue, const NormArguments& arguments, bool half) {
    return launch_cooperative_block(queue, blocks_for(queue, arguments.rows * arguments.parts, 1), row_threads,
                                    half ? norm_kernel<uint16_t> : norm_kernel<float>, arguments);
}

int add_values(const Queue& queue, float* x, const float* y, int64_t count) {
    return launch(queue, blocks_for(queue, count, block_threads), block_threads, add_kernel, x, y, count);
}

int add_bias(const Queue& queue, float* x, int64_t rows, int64_t width, const float* bias) {
    return launch(queue, blocks_for(queue, rows, 1), block_threads, bias_kernel, x, rows, width, bias);
}

int turn_heads(const Queue& queue, float* values, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim,
               const int32_t* positions, const float* cosines, const float* sines) {
    return launch(queue, blocks_for(queue, rows, 1), block_threads, turn_kernel, values, rows, stride, int(heads),
                  int(head_dim), positions, cosines, sines);
}

int store_rows(const Queue& queue, const float* from, int64_t rows, int64_t width, int64_t stride,
               const int32_t* places, float* to) {
    return launch(queue, blocks_for(queue, rows, 1), block_threads, store_kernel, from, rows, width, stride, places,
                  to);
}

int gated(const Queue& queue, const float* gate_up, int64_t rows, int64_t width, bool gelu, bool half, void* to) {
    const int64_t blocks = blocks_for(queue, rows, 1);
    if (half)
        return launch(queue, blocks, block_threads, gated_kernel<uint16_t>, gate_up, rows, width, gelu,
                      static_cast<uint16_t*>(to));
    return launch(queue, blocks, block_threads, gated_kernel<float>, gate_up, rows, width, gelu,
                  static_cast<float*>(to));
}

}  // namespace amalgam::cuda
