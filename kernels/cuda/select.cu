// Selection: keys counted and listed, folds by selected elements, counts of changes.
#include "kernels/cuda/launch.cuh"

namespace amalgam::cuda {

namespace {

/// A thread block takes one stream of one block of elements at a time; streams of a block follow each other, so that they
/// find the base in the cache.
template <KeyKind kind, class T>
__global__ void __launch_bounds__(block_threads, 1)
    count_kernel(KeyArguments arguments, const KeyStream* streams, int stream_count, int64_t tasks,
                 DeviceKeyCounts* counts) {
    for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
        const int64_t begin = task / stream_count * sum_block;
        KeyPass<kind, T> pass{arguments};
        pass.arguments.count = arguments.count - begin < sum_block ? arguments.count : begin + sum_block;
        KeyCounts mine;
        pass.template count<pack_width>(streams + task % stream_count, 1, &mine, begin + threadIdx.x * pack_width,
                                        int64_t(blockDim.x) * pack_width);
        add(&counts[task].from_low, mine.from_low);
        add(&counts[task].from_high, mine.from_high);
    }
}

template <KeyKind kind, class T>
__global__ void __launch_bounds__(block_threads, 1) extract_kernel(KeyArguments arguments, int input, uint64_t* keys) {
    KeyPass<kind, T>{arguments}.template extract<pack_width>(input, keys, grid_thread() * pack_width,
                                                             grid_threads() * pack_width);
}

template <KeyKind kind>
int count_by_type(const Queue& queue, bool wide, const KeyArguments& arguments, const KeyStream* streams,
                  int stream_count, DeviceKeyCounts* counts) {
    const int64_t tasks = (arguments.count + sum_block - 1) / sum_block * stream_count;
    return launch(queue, blocks_for(queue, tasks, 1), block_threads,
                  wide ? count_kernel<kind, double> : count_kernel<kind, float>, arguments, streams, stream_count,
                  tasks, counts);
}

template <KeyKind kind>
int extract_by_type(const Queue& queue, bool wide, const KeyArguments& arguments, int input, uint64_t* keys) {
    return launch(queue, blocks_for(queue, arguments.count, block_threads * pack_width), block_threads,
                  wide ? extract_kernel<kind, double> : extract_kernel<kind, float>, arguments, input, keys);
}

template <class Pass>
__global__ void __launch_bounds__(block_threads, 1) select_kernel(SelectArguments arguments, DeviceCounts* counts) {
    Pass pass{arguments};
    pass.template run<pack_width>(grid_thread() * pack_width, grid_threads() * pack_width);
    add_counts(pass.counts, counts);
}

/// Whether an element changed by more than epsilon; a NaN did.
template <class T>
AMALGAM_BODY bool changed(T value, T start, T limit) {
    T delta = value - start;
    delta = delta < 0 ? -delta : delta;
    return !(delta <= limit);
}

/// For each pack of elements, one bit per element: some input changed it, and more than one did.
template <class T>
__global__ void __launch_bounds__(block_threads, 1) active_kernel(KeyArguments arguments, T limit, uint8_t* active) {
    constexpr int N = pack_width;
    for (int64_t at = grid_thread() * N; at < arguments.count; at += grid_threads() * N) {
        const int valid = arguments.count - at < N ? int(arguments.count - at) : N;
        T start[N], value[N];
        uint32_t any = 0, several = 0;
        load_pack<N>(arguments.base, at, valid, start);
        for (int m = 0; m < arguments.input_count; ++m) {
            load_pack<N>(arguments.inputs[m], at, valid, value);
            uint32_t mine = 0;
            AMALGAM_UNROLL
            for (int i = 0; i < N; ++i) mine |= uint32_t(changed(value[i], start[i], limit)) << i;
            several |= any & mine;
            any |= mine;
        }
        active[at / N] = static_cast<uint8_t>(several);
    }
}

/// A thread counts for one input, so that it adds to memory once.
template <class T>
__global__ void __launch_bounds__(block_threads, 1)
    change_kernel(KeyArguments arguments, T limit, const uint8_t* active, int64_t blocks_per_input,
                  unsigned long long* changes) {
    constexpr int N = pack_width;
    for (int64_t task = blockIdx.x; task < blocks_per_input * arguments.input_count; task += gridDim.x) {
        const int64_t m = task / blocks_per_input, part = task % blocks_per_input;
        const int64_t step = blocks_per_input * blockDim.x * N;
        int64_t shared = 0, alone = 0;
        for (int64_t at = (part * blockDim.x + threadIdx.x) * N; at < arguments.count; at += step) {
            const int valid = arguments.count - at < N ? int(arguments.count - at) : N;
            T start[N], value[N];
            load_pack<N>(arguments.base, at, valid, start);
            load_pack<N>(arguments.inputs[m], at, valid, value);
            const uint32_t several = active[at / N];
            AMALGAM_UNROLL
            for (int i = 0; i < N; ++i) {
                const int mine = int(i < valid && changed(value[i], start[i], limit));
                const int with_others = int(several >> i & 1);
                shared += mine & with_others;
                alone += mine & (1 - with_others);
            }
        }
        add(changes + 2 * m, shared);
        add(changes + 2 * m + 1, alone);
    }
}

template <class T>
int changes_by_type(const Queue& queue, const KeyArguments& arguments, double epsilon, uint8_t* active,
                    unsigned long long* changes) {
    const T limit = static_cast<T>(epsilon);
    const int per_block = block_threads * pack_width;
    const int error = launch(queue, blocks_for(queue, arguments.count, per_block), block_threads, active_kernel<T>,
                             arguments, limit, active);
    if (error) return error;
    const int64_t blocks_per_input = (arguments.count + per_block * 16 - 1) / (per_block * 16);
    return launch(queue, blocks_for(queue, blocks_per_input * arguments.input_count, 1), block_threads,
                  change_kernel<T>, arguments, limit, static_cast<const uint8_t*>(active), blocks_per_input, changes);
}

__global__ void __launch_bounds__(block_threads, 1)
    spread_kernel(const float* values, int64_t columns, int64_t column, int64_t count, float* spread) {
    for (int64_t i = grid_thread(); i < count; i += grid_threads()) spread[i] = values[(column + i) / columns];
}

}  // namespace

int count_keys(const Queue& queue, KeyKind kind, bool wide, const KeyArguments& arguments, const KeyStream* streams,
               int stream_count, DeviceKeyCounts* counts) {
    const auto run = [&](auto by_type) { return by_type(queue, wide, arguments, streams, stream_count, counts); };
    switch (kind) {
        case KeyKind::distance: return run(count_by_type<KeyKind::distance>);
        case KeyKind::variance: return run(count_by_type<KeyKind::variance>);
        case KeyKind::importance: return run(count_by_type<KeyKind::importance>);
    }
    return cudaErrorInvalidValue;
}

int extract_keys(const Queue& queue, KeyKind kind, bool wide, const KeyArguments& arguments, int input,
                 uint64_t* keys) {
    const auto run = [&](auto by_type) { return by_type(queue, wide, arguments, input, keys); };
    switch (kind) {
        case KeyKind::distance: return run(extract_by_type<KeyKind::distance>);
        case KeyKind::variance: return run(extract_by_type<KeyKind::variance>);
        case KeyKind::importance: return run(extract_by_type<KeyKind::importance>);
    }
    return cudaErrorInvalidValue;
}

int sce(const Queue& queue, bool wide, const SelectArguments& arguments, DeviceCounts* counts) {
    return launch(queue, blocks_for(queue, arguments.key.count, block_threads * pack_width), block_threads,
                  wide ? select_kernel<ScePass<double>> : select_kernel<ScePass<float>>, arguments, counts);
}

int fusion(const Queue& queue, bool wide, const SelectArguments& arguments, DeviceCounts* counts) {
    return launch(queue, blocks_for(queue, arguments.key.count, block_threads * pack_width), block_threads,
                  wide ? select_kernel<FusionPass<double>> : select_kernel<FusionPass<float>>, arguments, counts);
}

int changes(const Queue& queue, bool wide, const KeyArguments& arguments, double epsilon, uint8_t* active,
            unsigned long long* changes) {
    return wide ? changes_by_type<double>(queue, arguments, epsilon, active, changes)
                : changes_by_type<float>(queue, arguments, epsilon, active, changes);
}

int spread_rows(const Queue& queue, const float* values, int64_t columns, int64_t column, int64_t count,
                float* spread) {
    return launch(queue, blocks_for(queue, count, block_threads), block_threads, spread_kernel, values, columns, column,
                  count, spread);
}

}  // namespace amalgam::cuda
