// Gram matrices in tiles of 4 x 4 vectors: a thread keeps the 16 sums of two lanes in registers.
#include "kernels/cuda/launch.cuh"

namespace amalgam::cuda {

namespace {

constexpr int group = gram_group, tile_sums = group * group;
constexpr int lanes_per_thread = 2, gram_threads = sum_lanes / lanes_per_thread;

/// Vectors that a tile multiplies: groups [left, left + 4) and [right, right + 4).
struct Tile {
    int left, right;
};

/// Tiles on and above the diagonal, row by row.
AMALGAM_BODY Tile tile_at(int64_t number, int vectors) {
    const int groups = (vectors + group - 1) / group;
    int row = 0;
    while (number >= groups - row) {
        number -= groups - row;
        ++row;
    }
    return {row * group, (row + int(number)) * group};
}

template <class T>
AMALGAM_BODY void load_group(const GramArguments& arguments, int first, int64_t at, int valid, const T* start,
                             double (*out)[lanes_per_thread]) {
    AMALGAM_UNROLL
    for (int v = 0; v < group; ++v) {
        T value[lanes_per_thread] = {};
        const bool there = first + v < arguments.input_count;
        if (there) load_pack<lanes_per_thread>(arguments.inputs[first + v], at, valid, value);
        AMALGAM_UNROLL
        for (int k = 0; k < lanes_per_thread; ++k) {
            const T delta = arguments.base.data ? value[k] - start[k] : value[k];
            out[v][k] = there && is_finite(delta) ? static_cast<double>(delta) : 0.;
        }
    }
}

/// A thread block takes one tile of one piece at a time. Threads count from the piece's first element on, so that they find
/// pairs where a load does; which lanes these are, the piece says.
template <class T>
__global__ void __launch_bounds__(gram_threads, 1)
    gram_kernel(GramArguments arguments, const Piece* pieces, int64_t first_tile, int64_t tiles, int64_t tasks,
                double* lanes) {
    const int64_t place = int64_t(threadIdx.x) * lanes_per_thread;
    for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
        const Piece piece = pieces[task / tiles];
        const Tile tile = tile_at(first_tile + task % tiles, arguments.input_count);
        double sums[group][group][lanes_per_thread] = {};
        for (int64_t at = place; at < piece.count; at += sum_lanes) {
            const int valid = piece.count - at < lanes_per_thread ? int(piece.count - at) : lanes_per_thread;
            T start[lanes_per_thread] = {};
            double a[group][lanes_per_thread], b[group][lanes_per_thread];
            if (arguments.base.data) load_pack<lanes_per_thread>(arguments.base, piece.begin + at, valid, start);
            load_group(arguments, tile.left, piece.begin + at, valid, start, a);
            load_group(arguments, tile.right, piece.begin + at, valid, start, b);
            AMALGAM_UNROLL
            for (int i = 0; i < group; ++i) {
                AMALGAM_UNROLL
                for (int j = 0; j < group; ++j) {
                    AMALGAM_UNROLL
                    for (int k = 0; k < lanes_per_thread; ++k) sums[i][j][k] += a[i][k] * b[j][k];
                }
            }
        }
        double* out = lanes + task * tile_sums * sum_lanes;
        AMALGAM_UNROLL
        for (int i = 0; i < group; ++i) {
            AMALGAM_UNROLL
            for (int j = 0; j < group; ++j) {
                AMALGAM_UNROLL
                for (int k = 0; k < lanes_per_thread; ++k)
                    out[(i * group + j) * sum_lanes + (piece.lane + place + k) % sum_lanes] = sums[i][j][k];
            }
        }
    }
}

/// Products of the pairs i <= j that exist.
__global__ void __launch_bounds__(block_threads, 2)
    gram_fold_kernel(const double* lanes, int vectors, int64_t first_tile, int64_t tiles, int64_t tasks,
                     double* products) {
    fold_sums(lanes, tasks * tile_sums, products, [=](int64_t sum) -> int64_t {
        const int64_t task = sum / tile_sums;
        const int pair = int(sum % tile_sums);
        const Tile tile = tile_at(first_tile + task % tiles, vectors);
        const int i = tile.left + pair / group, j = tile.right + pair % group;
        if (i > j || j >= vectors) return -1;
        return task / tiles * pair_count(vectors) + pair_index(i, j, vectors);
    });
}

}  // namespace

int gram(const Queue& queue, bool wide, const GramArguments& arguments, const Piece* pieces, int64_t piece_count,
         int64_t first_tile, int64_t tiles, double* lanes, double* products) {
    const int64_t tasks = piece_count * tiles;
    const int error =
        launch(queue, blocks_for(queue, tasks, 1), gram_threads, wide ? gram_kernel<double> : gram_kernel<float>,
               arguments, pieces, first_tile, tiles, tasks, lanes);
    if (error) return error;
    return launch(queue, blocks_for(queue, tasks * tile_sums, block_threads), block_threads, gram_fold_kernel, lanes,
                  arguments.input_count, first_tile, tiles, tasks, products);
}

}  // namespace amalgam::cuda
