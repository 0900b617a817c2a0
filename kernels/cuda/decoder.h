// What a decoder's forward pass computes on a GPU besides matrix products: each call queues a kernel.
#pragma once
#include <cstdint>

#include "kernels/cuda/passes.h"

namespace amalgam::cuda {

// All pointers are of the device, and every function returns a cudaError_t (0: all is queued). Sums have one order each, so
// that the result of a row depends on that row, and on the keys that it sees, alone. `half`: results are rounded to bfloat16,
// as factors of a product.

/// to[row] = table[numbers[row]] * scale; rows of `width` values. `dtype` is f32 or bf16.
int gather_rows(const Queue& queue, const void* table, Dtype dtype, float scale, const int32_t* numbers, int64_t rows,
                int64_t width, float* to);

/// RMSNorm of `parts` vectors of `width` values in each row; they lie side by side, rows are `stride` apart. Results lie in
/// `to` as in `from`, which may be the same.
struct NormArguments {
    const float* from = nullptr;
    int64_t rows = 0, parts = 1, width = 0, stride = 0;
    const float* weights = nullptr;
    float epsilon = 0;
    void* to = nullptr;
};
int rms_norm(const Queue& queue, const NormArguments& arguments, bool half);

/// x += y
int add_values(const Queue& queue, float* x, const float* y, int64_t count);
/// Adds one row to every row.
int add_bias(const Queue& queue, float* x, int64_t rows, int64_t width, const float* bias);

/// Turns the first `heads` heads of each row by the angles of its position: element i of the first half of a head with
/// element i of the second. Tables: head_dim / 2 values a position.
int turn_heads(const Queue& queue, float* values, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim,
               const int32_t* positions, const float* cosines, const float* sines);

/// to[places[row]] = from[row]; rows of `width` values, in `from` `stride` apart.
int store_rows(const Queue& queue, const float* from, int64_t rows, int64_t width, int64_t stride,
               const int32_t* places, float* to);

constexpr int tile_queries = 16;  ///< that one thread block answers
constexpr int64_t most_head_dim = 256;

/// Some queries of consecutive tokens of one text: those numbered [begin, end), at most tile_queries, where number i is that of
/// token i / group and head i % group of a key-value head's group.
struct QueryTile {
    int32_t first_row = 0;       ///< of the queries: token 0
    int32_t first_position = 0;  ///< of token 0 in its text
    int32_t first_key = 0;       ///< row of the keys: position 0 of the text
    int32_t begin = 0, end = 0;
};

/// Causal attention. Rows of queries, and of keys and values, are `query_stride` and `key_stride` apart, rows of `to`
/// heads x head_dim.
struct AttentionArguments {
    const float* queries = nullptr;
    const float* keys = nullptr;
    const float* values = nullptr;
    int64_t query_stride = 0, key_stride = 0;
    void* to = nullptr;
    const QueryTile* tiles = nullptr;
    int64_t tile_count = 0;
    int32_t heads = 0, kv_heads = 0, head_dim = 0;  ///< head_dim: at most most_head_dim
    int32_t window = 0;        ///< how many of the last tokens, its own among them, one sees; 0: all
    float scale = 1, cap = 0;  ///< cap > 0: scores become cap tanh(score / cap)
};
int attend(const Queue& queue, const AttentionArguments& arguments, bool half);

/// Rows of 2 x `width` values, gates then ups, to rows of `width`: activation(gate) * up; SiLU, or GELU in its tanh form.
int gated(const Queue& queue, const float* gate_up, int64_t rows, int64_t width, bool gelu, bool half, void* to);

/// What is known of a row of logits after some tiles of the vocabulary. `sum` is NaN if some logit was NaN or infinite.
struct LogitState {
    double largest = 0;
    double sum = 0;     ///< of exp(logit - largest)
    double target = 0;  ///< logit of the target, once its tile has been there
    int64_t best = 0;   ///< the first of the largest
};
/// Takes in logits of ids [first, first + count), rows of `count`; states begin anew at first = 0. With cap > 0 the logits
/// become cap tanh(logit / cap), in place. Targets may be nullptr.
int judge_logits(const Queue& queue, float* logits, int64_t rows, int64_t first, int64_t count, float cap,
                 const int32_t* targets, LogitState* states);

}  // namespace amalgam::cuda
