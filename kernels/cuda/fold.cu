// Folds: one pack of 8 elements after the other in every thread.
#include "kernels/cuda/launch.cuh"
#include "kernels/folds.h"

namespace amalgam::cuda {

namespace {

template <template <class> class Fold, Sparsifier kind, class T>
__global__ void __launch_bounds__(block_threads, sizeof(T) == 4 ? 2 : 1)
    fold_kernel(FoldArguments arguments, DeviceCounts* counts) {
    FoldPass<Fold<T>, kind, T> pass{arguments};
    pass.template run<pack_width>(grid_thread() * pack_width, grid_threads() * pack_width);
    add_counts(pass.counts, counts);
}

template <template <class> class Fold, Sparsifier kind>
int by_type(const Queue& queue, bool wide, const FoldArguments& arguments, DeviceCounts* counts) {
    const int64_t blocks = blocks_for(queue, arguments.count, block_threads * pack_width);
    return launch(queue, blocks, block_threads, wide ? fold_kernel<Fold, kind, double> : fold_kernel<Fold, kind, float>,
                  arguments, counts);
}

template <template <class> class Fold>
int by_sparsifier(const Queue& queue, Sparsifier sparsifier, bool wide, const FoldArguments& arguments,
                  DeviceCounts* counts) {
    switch (sparsifier) {
        case Sparsifier::none: return by_type<Fold, Sparsifier::none>(queue, wide, arguments, counts);
        case Sparsifier::magnitude: return by_type<Fold, Sparsifier::magnitude>(queue, wide, arguments, counts);
        case Sparsifier::random: return by_type<Fold, Sparsifier::random>(queue, wide, arguments, counts);
        case Sparsifier::factors: return by_type<Fold, Sparsifier::factors>(queue, wide, arguments, counts);
    }
    return cudaErrorInvalidValue;
}

}  // namespace

int fold(const Queue& queue, FoldKind kind, Sparsifier sparsifier, bool wide, const FoldArguments& arguments,
         DeviceCounts* counts) {
    switch (kind) {
        case FoldKind::average: return by_type<folds::Average, Sparsifier::none>(queue, wide, arguments, counts);
        case FoldKind::sum: return by_sparsifier<folds::Sum>(queue, sparsifier, wide, arguments, counts);
        case FoldKind::elect: return by_sparsifier<folds::Elect>(queue, sparsifier, wide, arguments, counts);
        case FoldKind::nearswap: return by_type<folds::NearSwap, Sparsifier::none>(queue, wide, arguments, counts);
        case FoldKind::ram: return by_type<folds::Ram, Sparsifier::none>(queue, wide, arguments, counts);
        case FoldKind::ramplus: return by_type<folds::RamPlus, Sparsifier::none>(queue, wide, arguments, counts);
    }
    return cudaErrorInvalidValue;
}

}  // namespace amalgam::cuda
