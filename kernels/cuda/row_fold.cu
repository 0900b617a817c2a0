// Folds whose coefficients change from row to row or from column to column.
#include "kernels/cuda/launch.cuh"
#include "kernels/folds.h"

namespace amalgam::cuda {

namespace {

/// Threads take packs of a row, of which the last is short: so a pack has one row's coefficients.
template <template <class> class Fold, class T>
__global__ void __launch_bounds__(block_threads, 1)
    row_kernel(FoldArguments arguments, int64_t columns, DeviceCounts* counts) {
    const int64_t column = arguments.first % columns, count = arguments.count;
    const int64_t packs = (columns + pack_width - 1) / pack_width;
    const int64_t rows = (column + count + columns - 1) / columns;
    FoldCounts all;
    for (int64_t task = grid_thread(); task < rows * packs; task += grid_threads()) {
        const int64_t row = task / packs, begin = row * columns - column;
        const int64_t row_begin = begin > 0 ? begin : 0;
        const int64_t row_end = begin + columns < count ? begin + columns : count;
        FoldPass<Fold<T>, Sparsifier::none, T> pass{arguments};
        pass.arguments.models = arguments.models + row * arguments.model_count;
        pass.arguments.count = row_end;
        pass.template run<pack_width>(row_begin + task % packs * pack_width, columns);
        all.nonfinite_input |= pass.counts.nonfinite_input;
        all.nonfinite_output += pass.counts.nonfinite_output;
        all.saturated += pass.counts.saturated;
        all.unchanged += pass.counts.unchanged;
    }
    add_counts(all, counts);
}

template <template <class> class Fold>
int rows_by_type(const Queue& queue, bool wide, const FoldArguments& arguments, int64_t columns, DeviceCounts* counts) {
    const int64_t packs = (columns + pack_width - 1) / pack_width;
    const int64_t rows = (arguments.first % columns + arguments.count + columns - 1) / columns;
    return launch(queue, blocks_for(queue, rows * packs, block_threads), block_threads,
                  wide ? row_kernel<Fold, double> : row_kernel<Fold, float>, arguments, columns, counts);
}

template <class T>
__global__ void __launch_bounds__(block_threads, 1)
    column_kernel(FoldArguments arguments, const double* coefficients, int64_t columns, int64_t column,
                  DeviceCounts* counts) {
    constexpr int N = pack_width;
    ScePass<T> writer{};
    writer.arguments.out = arguments.out;
    writer.arguments.out_dtype = arguments.out_dtype;
    BitsOf<T> peak[N] = {};
    for (int64_t at = grid_thread() * N; at < arguments.count; at += grid_threads() * N) {
        const int valid = arguments.count - at < N ? int(arguments.count - at) : N;
        T start[N] = {}, value[N], result[N];
        if (arguments.base.data) load_pack<N>(arguments.base, at, valid, start);
        raise_peak<N>(start, peak);
        int64_t place[N];
        place[0] = (column + at) % columns;
        AMALGAM_UNROLL
        for (int i = 1; i < N; ++i) place[i] = place[i - 1] + 1 == columns ? 0 : place[i - 1] + 1;
        AMALGAM_UNROLL
        for (int i = 0; i < N; ++i) result[i] = start[i];
        for (int m = 0; m < arguments.model_count; ++m) {
            load_pack<N>(arguments.inputs[m], at, valid, value);
            raise_peak<N>(value, peak);
            AMALGAM_UNROLL
            for (int i = 0; i < N; ++i)
                result[i] += static_cast<T>(coefficients[m * columns + place[i]]) * (value[i] - start[i]);
        }
        writer.template finish_pack<N>(at, valid, result);
    }
    writer.counts.nonfinite_input = has_nonfinite<N, T>(peak);
    add_counts(writer.counts, counts);
}

}  // namespace

int fold_rows(const Queue& queue, FoldKind kind, bool wide, const FoldArguments& arguments, int64_t columns,
              DeviceCounts* counts) {
    switch (kind) {
        case FoldKind::average: return rows_by_type<folds::Average>(queue, wide, arguments, columns, counts);
        case FoldKind::sum: return rows_by_type<folds::Sum>(queue, wide, arguments, columns, counts);
        case FoldKind::elect: return rows_by_type<folds::Elect>(queue, wide, arguments, columns, counts);
        case FoldKind::nearswap: return rows_by_type<folds::NearSwap>(queue, wide, arguments, columns, counts);
        case FoldKind::ram: return rows_by_type<folds::Ram>(queue, wide, arguments, columns, counts);
        case FoldKind::ramplus: return rows_by_type<folds::RamPlus>(queue, wide, arguments, columns, counts);
    }
    return cudaErrorInvalidValue;
}

int fold_columns(const Queue& queue, bool wide, const FoldArguments& arguments, const double* coefficients,
                 int64_t columns, int64_t column, DeviceCounts* counts) {
    const int64_t blocks = blocks_for(queue, arguments.count, block_threads * pack_width);
    return launch(queue, blocks, block_threads, wide ? column_kernel<double> : column_kernel<float>, arguments,
                  coefficients, columns, column, counts);
}

}  // namespace amalgam::cuda
