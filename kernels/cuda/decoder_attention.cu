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

/// Where a query stands, and the keys [low, high) that it sees.
struct Place {
    int64_t row;
    int head;
    int low, high;
};

/// One tile of queries and one key-value head: what a thread block works through at a time, and its shared memory. The methods
/// are called by all threads.
template <int Parts>
struct AttentionTask {
    const AttentionArguments& arguments;
    bool aligned;
    QueryTile tile;
    int kv_head;
    float4* queries;  ///< tile_queries x Parts x part_vectors
    float4* rows;     ///< tile_keys x padded_vectors
    float* scores;    ///< tile_queries x padded_scores

    static constexpr int query_vectors = Parts * part_vectors;
    /// Sums of the thread's query and elements, before they are divided by the sum of the powers.
    using Results = float[Parts][vectors_of_thread][4];
    struct Sum {
        float largest, total;
    };

    /// Queries beyond the tile's end are its last one.
    __device__ __forceinline__ Place place_of(int number) const {
        const int group = arguments.heads / arguments.kv_heads, index = tile.begin + number;
        const int last = tile.end - 1, own = index < last ? index : last;
        Place place;
        place.row = tile.first_row + own / group;
        place.head = kv_head * group + own % group;
        place.high = tile.first_position + own / group + 1;
        place.low = arguments.window > 0 && place.high > arguments.window ? place.high - arguments.window : 0;
        return place;
    }

    __device__ __forceinline__ void load_queries() const {
        for (int i = int(threadIdx.x); i < tile_queries * query_vectors; i += attention_threads) {
            const Place place = place_of(i / query_vectors);
            const float* head =
                arguments.queries + place.row * arguments.query_stride + int64_t(place.head) * arguments.head_dim;
            queries[i] = load_four(head, i % query_vectors * 4, arguments.head_dim, aligned);
        }
    }

    /// Part `number` of 32 rows of keys or values from position `first` on; 0 from position `high` on.
    __device__ __forceinline__ void load_keys(const float* values, int number, int first, int high) const {
        for (int i = int(threadIdx.x); i < tile_keys * part_vectors; i += attention_threads) {
            const int key = first + i / part_vectors, at = number * part + i % part_vectors * 4;
            const float* head =
                values + (int64_t(tile.first_key) + key) * arguments.key_stride + int64_t(kv_head) * arguments.head_dim;
            rows[i / part_vectors * padded_vectors + i % part_vectors] =
                key < high ? load_four(head, at, arguments.head_dim, aligned) : make_float4(0.f, 0.f, 0.f, 0.f);
        }
    }

    /// A thread multiplies one key with its queries.
    __device__ __forceinline__ void score_keys(int first, int high) const {
        const int lane = int(threadIdx.x) % tile_keys, first_query = int(threadIdx.x) / tile_keys * queries_of_thread;
        float sums[queries_of_thread] = {};
        AMALGAM_UNROLL
        for (int p = 0; p < Parts; ++p) {
            const int rest = (arguments.head_dim - p * part + 3) / 4, used = rest < part_vectors ? rest : part_vectors;
            __syncthreads();
            load_keys(arguments.keys, p, first, high);
            __syncthreads();
            for (int v = 0; v < used; ++v) {
                const float4 key = rows[lane * padded_vectors + v];
                AMALGAM_UNROLL
                for (int q = 0; q < queries_of_thread; ++q)
                    sums[q] = dot(queries[(first_query + q) * query_vectors + p * part_vectors + v], key, sums[q]);
            }
        }
        AMALGAM_UNROLL
        for (int q = 0; q < queries_of_thread; ++q) {
            const Place place = place_of(first_query + q);
            float score = sums[q] * arguments.scale;
            if (arguments.cap > 0) score = arguments.cap * vector_tanh(score / arguments.cap);
            const bool seen = first + lane >= place.low && first + lane < place.high;
            scores[(first_query + q) * padded_scores + lane] = seen ? score : nothing();
        }
    }

    /// Scores become powers of e; returns what the thread's results so far are to be multiplied by.
    __device__ __forceinline__ float raise_scores(Sum& sum) const {
        constexpr int keys_of_thread = tile_keys / threads_of_query;
        const int column = int(threadIdx.x) % threads_of_query;
        float* mine = own_scores();
        float peak = sum.largest;
        __syncthreads();
        for (int key = 0; key < tile_keys; ++key) peak = mine[key] > peak ? mine[key] : peak;
        // Where nothing is seen yet all powers must be 0, not NaN.
        const float base = peak == nothing() ? 0.0f : peak;
        const float correction = vector_exp(sum.largest - base);
        float powers[keys_of_thread];
        AMALGAM_UNROLL
        for (int k = 0; k < keys_of_thread; ++k) powers[k] = vector_exp(mine[column + k * threads_of_query] - base);
        __syncthreads();
        AMALGAM_UNROLL
        for (int k = 0; k < keys_of_thread; ++k) mine[column + k * threads_of_query] = powers[k];
        __syncthreads();
        float total = 0;
        for (int key = 0; key < tile_keys; ++key) total += mine[key];
        sum = {peak, sum.total * correction + total};
        return correction;
    }

    __device__ __forceinline__ void add_values(int first, int high, float correction, Results& results) const {
        const int column = int(threadIdx.x) % threads_of_query;
        const float* mine = own_scores();
        AMALGAM_UNROLL
        for (int p = 0; p < Parts; ++p) {
            if (p > 0) __syncthreads();
            load_keys(arguments.values, p, first, high);
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

    template <class Out>
    __device__ __forceinline__ void write_results(const Results& results, float total) const {
        const int own = int(threadIdx.x) / threads_of_query, column = int(threadIdx.x) % threads_of_query;
        if (tile.begin + own >= tile.end) return;
        const Place place = place_of(own);
        Out* to = static_cast<Out*>(arguments.to) + (place.row * arguments.heads + place.head) * arguments.head_dim;
        const float share = 1 / total;
        AMALGAM_UNROLL
        for (int p = 0; p < Parts; ++p) {
            AMALGAM_UNROLL
            for (int j = 0; j < vectors_of_thread; ++j) {
                AMALGAM_UNROLL
                for (int c = 0; c < 4; ++c) {
                    const int at = p * part + (column + j * threads_of_query) * 4 + c;
                    if (at < arguments.head_dim) put_result(to + at, results[p][j][c] * share);
                }
            }
        }
    }

    __device__ __forceinline__ float* own_scores() const {
        return scores + int(threadIdx.x) / threads_of_query * padded_scores;
    }
    static __device__ __forceinline__ float nothing() { return -float_of(infinity_bits<float>); }
};

/// Parts: how many parts of 64 elements hold a head.
template <int Parts, class Out>
__global__ void __launch_bounds__(attention_threads) attention_kernel(AttentionArguments arguments, bool aligned) {
    using Task = AttentionTask<Parts>;
    AMALGAM_SHARED(float4, queries, tile_queries * Task::query_vectors);
    AMALGAM_SHARED(float4, rows, tile_keys * padded_vectors);
    AMALGAM_SHARED(float, scores, tile_queries* padded_scores);
    const int64_t tasks = arguments.tile_count * arguments.kv_heads;
    for (int64_t number = blockIdx.x; number < tasks; number += gridDim.x) {
        const Task task{
            arguments, aligned, arguments.tiles[number / arguments.kv_heads], int(number % arguments.kv_heads), queries,
            rows,      scores};
        // Threads that are still at the task before read other arrays than this writes.
        task.load_queries();
        const int low = task.place_of(0).low, high = task.place_of(tile_queries - 1).high;
        typename Task::Results results = {};
        typename Task::Sum sum{Task::nothing(), 0};
        for (int first = low / tile_keys * tile_keys; first < high; first += tile_keys) {
            task.score_keys(first, high);
            const float correction = task.raise_scores(sum);
            task.add_values(first, high, correction, results);
        }
        task.template write_results<Out>(results, sum.total);
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
