// Attention of tiles of queries, whose keys pass through shared memory 32 at a time; softmax runs along. A single new token is a
// tile with few queries. Keys come in blocks that are counted from the text's beginning, so that a query's result does not
// depend on its tile.
#include "kernels/cuda/decoder.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/vector_math.h"

namespace amalgam::cuda {

namespace {

constexpr int attention_threads = 128;
constexpr int tile_keys = 32;
constexpr int part = 64, part_vectors = part / 4;  ///< elements of a head that are in shared memory at a time
constexpr int padded_vectors = part_vectors + 1;   ///< so that threads that read a column meet different banks
constexpr int padded_scores = tile_keys + 1;
constexpr int queries_of_thread = tile_queries / (attention_threads / tile_keys);  ///< whose scores it computes
constexpr int threads_of_query = attention_threads / tile_queries;                 ///< that keep its result
constexpr int vectors_of_thread = part_vectors / threads_of_query;                 ///< of a part

__device__ void put_result(float* to, float value) { *to = value; }
__device__ void put_result(uint16_t* to, float value) { *to = bf16_from_float(value); }

/// Elements [at, at + 4) of a head, 0 beyond its end.
__device__ float4 load_four(const float* head, int at, int head_dim, bool aligned) {
    if (aligned && at < head_dim) return *reinterpret_cast<const float4*>(head + at);
    float value[4];
    AMALGAM_UNROLL
    for (int i = 0; i < 4; ++i) value[i] = at + i < head_dim ? head[at + i] : 0.0f;
    return make_float4(value[0], value[1], value[2], value[3]);
}

__device__ float dot(const float4& a, const float4& b, float sum) {
    sum += a.x * b.x;
    sum += a.y * b.y;
    sum += a.z * b.z;
    return sum + a.w * b.w;
}

/// Where query `number` of the tile stands, and the keys [low, high) that it sees.
struct Place {
    int64_t row;
    int head;
    int low, high;
};

__device__ Place place_of(const AttentionArguments& arguments, const QueryTile& tile, int kv_head, int number) {
    const int group = arguments.heads / arguments.kv_heads, index = tile.begin + number;
    const int last = tile.end - 1, own = index < last ? index : last;
    Place place;
    place.row = tile.first_row + own / group;
    place.head = kv_head * group + own % group;
    place.high = tile.first_position + own / group + 1;
    place.low = arguments.window > 0 && place.high > arguments.window ? place.high - arguments.window : 0;
    return place;
}

/// Part `number` of 32 rows of keys or values from position `first` on; 0 from position `high` on.
__device__ void load_keys(const AttentionArguments& arguments, const float* values, const QueryTile& tile, int kv_head,
                          int number, int first, int high, bool aligned, float4* to) {
    for (int i = int(threadIdx.x); i < tile_keys * part_vectors; i += attention_threads) {
        const int key = first + i / part_vectors, at = number * part + i % part_vectors * 4;
        const float* head =
            values + (int64_t(tile.first_key) + key) * arguments.key_stride + int64_t(kv_head) * arguments.head_dim;
        to[i / part_vectors * padded_vectors + i % part_vectors] =
            key < high ? load_four(head, at, arguments.head_dim, aligned) : make_float4(0.f, 0.f, 0.f, 0.f);
    }
}

/// Parts: how many parts of 64 elements hold a head.
template <int Parts, class Out>
__global__ void __launch_bounds__(attention_threads) attention_kernel(AttentionArguments arguments, bool aligned) {
    AMALGAM_SHARED(float4, queries, tile_queries * Parts * part_vectors);
    AMALGAM_SHARED(float4, rows, tile_keys * padded_vectors);
    AMALGAM_SHARED(float, scores, tile_queries* padded_scores);
    const int thread = int(threadIdx.x), head_dim = arguments.head_dim;
    const int lane = thread % tile_keys, first_query = thread / tile_keys * queries_of_thread;
    const int own = thread / threads_of_query, column = thread % threads_of_query;
    const int64_t tasks = arguments.tile_count * arguments.kv_heads;
    const float nothing = -float_of(infinity_bits<float>);
    for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
        const QueryTile tile = arguments.tiles[task / arguments.kv_heads];
        const int kv_head = int(task % arguments.kv_heads);
        // Threads that are still at the task before read other arrays.
        for (int i = thread; i < tile_queries * Parts * part_vectors; i += attention_threads) {
            const Place place = place_of(arguments, tile, kv_head, i / (Parts * part_vectors));
            const float* head = arguments.queries + place.row * arguments.query_stride + int64_t(place.head) * head_dim;
            queries[i] = load_four(head, i % (Parts * part_vectors) * 4, head_dim, aligned);
        }
        int lows[queries_of_thread], highs[queries_of_thread];
        AMALGAM_UNROLL
        for (int q = 0; q < queries_of_thread; ++q) {
            const Place place = place_of(arguments, tile, kv_head, first_query + q);
            lows[q] = place.low;
            highs[q] = place.high;
        }
        const int low = place_of(arguments, tile, kv_head, 0).low;
        const int high = place_of(arguments, tile, kv_head, tile_queries - 1).high;
        float results[Parts][vectors_of_thread][4] = {};
        float largest = nothing, total = 0;
        for (int first = low / tile_keys * tile_keys; first < high; first += tile_keys) {
            float sums[queries_of_thread] = {};
            AMALGAM_UNROLL
            for (int p = 0; p < Parts; ++p) {
                const int rest = (head_dim - p * part + 3) / 4, used = rest < part_vectors ? rest : part_vectors;
                __syncthreads();
                load_keys(arguments, arguments.keys, tile, kv_head, p, first, high, aligned, rows);
                __syncthreads();
                for (int v = 0; v < used; ++v) {
                    const float4 key = rows[lane * padded_vectors + v];
                    AMALGAM_UNROLL
                    for (int q = 0; q < queries_of_thread; ++q)
                        sums[q] =
                            dot(queries[(first_query + q) * Parts * part_vectors + p * part_vectors + v], key, sums[q]);
                }
            }
            AMALGAM_UNROLL
            for (int q = 0; q < queries_of_thread; ++q) {
                float score = sums[q] * arguments.scale;
                if (arguments.cap > 0) score = arguments.cap * vector_tanh(score / arguments.cap);
                const bool seen = first + lane >= lows[q] && first + lane < highs[q];
                scores[(first_query + q) * padded_scores + lane] = seen ? score : nothing;
            }
            __syncthreads();
            float* mine = scores + own * padded_scores;
            float peak = largest;
            for (int key = 0; key < tile_keys; ++key) peak = mine[key] > peak ? mine[key] : peak;
            // Where nothing is seen yet all powers must be 0, not NaN.
            const float base = peak == nothing ? 0.0f : peak;
            const float correction = vector_exp(largest - base);
            largest = peak;
            float powers[tile_keys / threads_of_query];
            AMALGAM_UNROLL
            for (int k = 0; k < tile_keys / threads_of_query; ++k)
                powers[k] = vector_exp(mine[column + k * threads_of_query] - base);
            __syncthreads();
            AMALGAM_UNROLL
            for (int k = 0; k < tile_keys / threads_of_query; ++k) mine[column + k * threads_of_query] = powers[k];
            __syncthreads();
            float sum = 0;
            for (int key = 0; key < tile_keys; ++key) sum += mine[key];
            total = total * correction + sum;
            AMALGAM_UNROLL
            for (int p = 0; p < Parts; ++p) {
                if (p > 0) __syncthreads();
                load_keys(arguments, arguments.values, tile, kv_head, p, first, high, aligned, rows);
                __syncthreads();
                AMALGAM_UNROLL
                for (int j = 0; j < vectors_of_thread; ++j) {
                    AMALGAM_UNROLL
                    for (int c = 0; c < 4; ++c) results[p][j][c] *= correction;
                }
                for (int key = 0; key < tile_keys; ++key) {
                    const float share = mine[key];
                    AMALGAM_UNROLL
                    for (int j = 0; j < vectors_of_thread; ++j) {
                        const float4 value = rows[key * padded_vectors + column + j * threads_of_query];
                        results[p][j][0] += share * value.x;
                        results[p][j][1] += share * value.y;
                        results[p][j][2] += share * value.z;
                        results[p][j][3] += share * value.w;
                    }
                }
            }
        }
        if (tile.begin + own >= tile.end) continue;
        const Place place = place_of(arguments, tile, kv_head, own);
        Out* to = static_cast<Out*>(arguments.to) + (place.row * arguments.heads + place.head) * head_dim;
        const float share = 1 / total;
        AMALGAM_UNROLL
        for (int p = 0; p < Parts; ++p) {
            AMALGAM_UNROLL
            for (int j = 0; j < vectors_of_thread; ++j) {
                AMALGAM_UNROLL
                for (int c = 0; c < 4; ++c) {
                    const int at = p * part + (column + j * threads_of_query) * 4 + c;
                    if (at < head_dim) put_result(to + at, results[p][j][c] * share);
                }
            }
        }
    }
}

template <class Out>
auto kernel_for(int64_t head_dim) {
    return head_dim <= part       ? attention_kernel<1, Out>
           : head_dim <= 2 * part ? attention_kernel<2, Out>
                                  : attention_kernel<4, Out>;
}

}  // namespace

int attend(const Queue& queue, const AttentionArguments& arguments, bool half) {
    const bool aligned =
        arguments.head_dim % 4 == 0 && arguments.query_stride % 4 == 0 && arguments.key_stride % 4 == 0;
    return launch_cooperative_block(
        queue, blocks_for(queue, arguments.tile_count * arguments.kv_heads, 1), attention_threads,
        half ? kernel_for<uint16_t>(arguments.head_dim) : kernel_for<float>(arguments.head_dim), arguments, aligned);
}

}  // namespace amalgam::cuda
