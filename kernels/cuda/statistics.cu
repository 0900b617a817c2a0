// Sums whose bits depend on their shape: each thread adds up a few lanes of one block, a second kernel folds the lanes.
#include "kernels/cuda/launch.cuh"

namespace amalgam::cuda {

namespace {

constexpr int threads_per_sum = sum_lanes / pack_width;

/// Elements of a block of the window.
AMALGAM_BODY int64_t block_elements(int64_t begin, int64_t count) {
    return count - begin < sum_block ? count - begin : sum_block;
}

AMALGAM_BODY void store_lanes(const double* sums, double* lanes) {
    AMALGAM_UNROLL
    for (int i = 0; i < pack_width; ++i) lanes[i] = sums[i];
}

__global__ void __launch_bounds__(block_threads, 2) fold_lanes_kernel(const double* lanes, int64_t sums, double* out) {
    fold_sums(lanes, sums, out, [](int64_t sum) { return sum; });
}

int fold_lanes_of(const Queue& queue, const double* lanes, int64_t sums, double* out) {
    return launch(queue, blocks_for(queue, sums, block_threads), block_threads, fold_lanes_kernel, lanes, sums, out);
}

template <Sparsifier kind, class T>
__global__ void __launch_bounds__(block_threads, 1)
    norm_kernel(FoldArguments arguments, int64_t first_block, int64_t tasks, double* lanes) {
    for (int64_t thread = grid_thread(); thread < tasks * threads_per_sum; thread += grid_threads()) {
        const int64_t task = thread / threads_per_sum;
        const int lane = int(thread % threads_per_sum) * pack_width;
        const int64_t begin = (first_block + task / arguments.model_count) * sum_block;
        const int64_t m = task % arguments.model_count;
        const Operand input = at_element(arguments.inputs[m], begin);
        FoldModel model = arguments.models[m];
        if (model.factors) model.factors += begin;
        FoldArguments piece;
        piece.base = at_element(arguments.base, begin);
        piece.inputs = &input;
        piece.models = &model;
        piece.first = arguments.first + begin;
        piece.count = block_elements(begin, arguments.count);
        double whole[pack_width] = {}, kept[pack_width] = {};
        NormPass<kind, T>{piece}.template accumulate<pack_width>(0, lane, whole, kept);
        store_lanes(whole, lanes + (2 * task) * sum_lanes + lane);
        store_lanes(kept, lanes + (2 * task + 1) * sum_lanes + lane);
    }
}

template <Sparsifier kind>
int norms_by_type(const Queue& queue, bool wide, const FoldArguments& arguments, int64_t first_block, int64_t blocks,
                  double* lanes, double* totals) {
    const int64_t tasks = blocks * arguments.model_count;
    const int error =
        launch(queue, blocks_for(queue, tasks * threads_per_sum, block_threads), block_threads,
               wide ? norm_kernel<kind, double> : norm_kernel<kind, float>, arguments, first_block, tasks, lanes);
    return error ? error : fold_lanes_of(queue, lanes, 2 * tasks, totals);
}

template <class T>
__global__ void __launch_bounds__(block_threads, 1) mask_kernel(SelectArguments arguments, uint8_t* kept) {
    constexpr int N = pack_width;
    const KeyPass<KeyKind::variance, T> pass{arguments.key};
    for (int64_t at = grid_thread() * N; at < arguments.key.count; at += grid_threads() * N) {
        const int valid = arguments.key.count - at < N ? int(arguments.key.count - at) : N;
        T start[N];
        uint32_t key[N], bits = 0;
        load_pack<N>(arguments.key.base, at, valid, start);
        pass.template keys<N>(0, at, valid, start, key);
        AMALGAM_UNROLL
        for (int i = 0; i < N; ++i) {
            const bool late_tie =
                arguments.tie_count >= 0 && key[i] == arguments.tie_key && at + i >= arguments.tie_count;
            bits |= uint32_t((late_tie ? 0 : key[i]) >= arguments.low) << i;
        }
        kept[at / N] = static_cast<uint8_t>(bits);
    }
}

template <class T>
__global__ void __launch_bounds__(block_threads, 1)
    energy_kernel(KeyArguments arguments, const uint8_t* kept, int64_t first_block, int64_t tasks, double* lanes) {
    constexpr int N = pack_width;
    for (int64_t thread = grid_thread(); thread < tasks * threads_per_sum; thread += grid_threads()) {
        const int64_t task = thread / threads_per_sum;
        const int lane = int(thread % threads_per_sum) * N;
        const int64_t begin = (first_block + task / arguments.input_count) * sum_block;
        const int64_t end = begin + block_elements(begin, arguments.count);
        const Operand input = arguments.inputs[task % arguments.input_count];
        double sums[N] = {};
        for (int64_t at = begin + lane; at < end; at += sum_lanes) {
            const int valid = end - at < N ? int(end - at) : N;
            T start[N], value[N];
            load_pack<N>(arguments.base, at, valid, start);
            load_pack<N>(input, at, valid, value);
            const uint32_t bits = kept[at / N];
            AMALGAM_UNROLL
            for (int i = 0; i < N; ++i) {
                const T delta = value[i] - start[i];
                const bool keep = (bits >> i & 1) != 0 && is_finite(delta);
                const double number = keep ? static_cast<double>(delta) : 0.;
                sums[i] += number * number;
            }
        }
        store_lanes(sums, lanes + task * sum_lanes + lane);
    }
}

/// A thread adds up one column of one block, rows ascending.
template <class T>
__global__ void __launch_bounds__(block_threads, 1)
    column_kernel(GramArguments arguments, int64_t columns, int64_t first_block, int64_t tasks, double* sums) {
    for (int64_t task = grid_thread(); task < tasks; task += grid_threads()) {
        const int64_t begin = (first_block + task / columns) * sum_block, column = task % columns;
        const int64_t end = begin + block_elements(begin, arguments.count);
        int64_t skip = column - (arguments.first + begin) % columns;
        if (skip < 0) skip += columns;
        double aa = 0, ab = 0, bb = 0;
        for (int64_t at = begin + skip; at < end; at += columns) {
            T start[1] = {}, a[1] = {}, b[1] = {};
            if (arguments.base.data) load_pack<1>(arguments.base, at, 1, start);
            load_pack<1>(arguments.inputs[0], at, 1, a);
            load_pack<1>(arguments.inputs[1], at, 1, b);
            const T x = a[0] - start[0], y = b[0] - start[0];
            const double u = is_finite(x) ? static_cast<double>(x) : 0., v = is_finite(y) ? static_cast<double>(y) : 0.;
            aa += u * u;
            ab += u * v;
            bb += v * v;
        }
        sums[3 * task] = aa;
        sums[3 * task + 1] = ab;
        sums[3 * task + 2] = bb;
    }
}

template <class T>
__global__ void __launch_bounds__(block_threads, 1)
    nonfinite_kernel(Operand operand, int64_t count, unsigned long long* total) {
    constexpr int N = pack_width;
    int64_t bad = 0;
    for (int64_t at = grid_thread() * N; at < count; at += grid_threads() * N) {
        const int valid = count - at < N ? int(count - at) : N;
        T value[N];
        load_pack<N>(operand, at, valid, value);
        AMALGAM_UNROLL
        for (int i = 0; i < N; ++i) bad += int(!is_finite(value[i]));
    }
    add(total, bad);
}

}  // namespace

int norms(const Queue& queue, Sparsifier sparsifier, bool wide, const FoldArguments& arguments, int64_t first_block,
          int64_t blocks, double* lanes, double* totals) {
    const auto run = [&](auto by_type) { return by_type(queue, wide, arguments, first_block, blocks, lanes, totals); };
    switch (sparsifier) {
        case Sparsifier::none: return run(norms_by_type<Sparsifier::none>);
        case Sparsifier::magnitude: return run(norms_by_type<Sparsifier::magnitude>);
        case Sparsifier::random: return run(norms_by_type<Sparsifier::random>);
        case Sparsifier::factors: return run(norms_by_type<Sparsifier::factors>);
    }
    return cudaErrorInvalidValue;
}

int variance_mask(const Queue& queue, bool wide, const SelectArguments& arguments, uint8_t* kept) {
    return launch(queue, blocks_for(queue, arguments.key.count, block_threads * pack_width), block_threads,
                  wide ? mask_kernel<double> : mask_kernel<float>, arguments, kept);
}

int energies(const Queue& queue, bool wide, const SelectArguments& arguments, const uint8_t* kept, int64_t first_block,
             int64_t blocks, double* lanes, double* energies) {
    const int64_t tasks = blocks * arguments.key.input_count;
    const int error =
        launch(queue, blocks_for(queue, tasks * threads_per_sum, block_threads), block_threads,
               wide ? energy_kernel<double> : energy_kernel<float>, arguments.key, kept, first_block, tasks, lanes);
    return error ? error : fold_lanes_of(queue, lanes, tasks, energies);
}

int column_products(const Queue& queue, bool wide, const GramArguments& arguments, int64_t columns, int64_t first_block,
                    int64_t blocks, double* sums) {
    const int64_t tasks = blocks * columns;
    return launch(queue, blocks_for(queue, tasks, block_threads), block_threads,
                  wide ? column_kernel<double> : column_kernel<float>, arguments, columns, first_block, tasks, sums);
}

int count_nonfinite(const Queue& queue, const Operand& operand, int64_t count, unsigned long long* total) {
    return launch(queue, blocks_for(queue, count, block_threads * pack_width), block_threads,
                  operand.dtype == Dtype::f64 ? nonfinite_kernel<double> : nonfinite_kernel<float>, operand, count,
                  total);
}

}  // namespace amalgam::cuda
