#include "kernels/cpu/launch.h"
#include "kernels/cpu/passes.h"
#include "kernels/folds.h"

namespace amalgam::cpu {

namespace {

template <class Pass>
AMALGAM_CLONES FoldCounts run_fold(const FoldArguments& arguments) {
    Pass pass{arguments};  // a copy the compiler knows nobody else writes
    pass.template run<pack_width>();
    return pass.counts;
}

template <template <class> class Fold, Sparsifier kind>
FoldCounts by_type(bool wide, const FoldArguments& arguments) {
    return wide ? run_fold<FoldPass<Fold<double>, kind, double>>(arguments)
                : run_fold<FoldPass<Fold<float>, kind, float>>(arguments);
}

template <template <class> class Fold>
FoldCounts by_sparsifier(Sparsifier sparsifier, bool wide, const FoldArguments& arguments) {
    switch (sparsifier) {
        case Sparsifier::none: return by_type<Fold, Sparsifier::none>(wide, arguments);
        case Sparsifier::magnitude: return by_type<Fold, Sparsifier::magnitude>(wide, arguments);
        case Sparsifier::random: return by_type<Fold, Sparsifier::random>(wide, arguments);
        case Sparsifier::factors: return by_type<Fold, Sparsifier::factors>(wide, arguments);
    }
    return {};
}

template <class T>
AMALGAM_CLONES FoldCounts run_columns(const FoldArguments& arguments, const double* coefficients, int64_t columns,
                                      int64_t column) {
    constexpr int width = 64;
    const BitsOf<T> overflow = overflow_bits<T>(arguments.out_dtype);
    FoldCounts counts;
    for (int64_t at = 0; at < arguments.count; at += width) {
        int valid = arguments.count - at < width ? int(arguments.count - at) : width;
        T start[width] = {}, value[width], result[width];
        if (arguments.base.data) load_pack<width>(arguments.base, at, valid, start);
        for (int i = 0; i < valid; ++i) {
            result[i] = start[i];
            counts.nonfinite_input |= !is_finite(start[i]);
        }
        for (int m = 0; m < arguments.model_count; ++m) {
            load_pack<width>(arguments.inputs[m], at, valid, value);
            int64_t c = (column + at) % columns;
            for (int i = 0; i < valid; ++i) {
                counts.nonfinite_input |= !is_finite(value[i]);
                result[i] += static_cast<T>(coefficients[m * columns + c]) * (value[i] - start[i]);
                c = c + 1 == columns ? 0 : c + 1;
            }
        }
        for (int i = 0; i < valid; ++i) {
            counts.nonfinite_output += magnitude_bits(result[i]) >= overflow;
            if (bytes_of(arguments.out_dtype) == 1) counts.saturated += saturates(arguments.out_dtype, result[i]);
        }
        store_pack<width>(arguments.out, arguments.out_dtype, at, valid, result);
    }
    return counts;
}

}  // namespace

FoldCounts fold(FoldKind kind, Sparsifier sparsifier, bool wide, const FoldArguments& arguments) {
    switch (kind) {
        case FoldKind::average: return by_type<folds::Average, Sparsifier::none>(wide, arguments);
        case FoldKind::sum: return by_sparsifier<folds::Sum>(sparsifier, wide, arguments);
        case FoldKind::elect: return by_sparsifier<folds::Elect>(sparsifier, wide, arguments);
        case FoldKind::nearswap: return by_type<folds::NearSwap, Sparsifier::none>(wide, arguments);
        case FoldKind::ram: return by_type<folds::Ram, Sparsifier::none>(wide, arguments);
        case FoldKind::ramplus: return by_type<folds::RamPlus, Sparsifier::none>(wide, arguments);
    }
    return {};
}

FoldCounts fold_columns(bool wide, const FoldArguments& arguments, const double* coefficients, int64_t columns,
                        int64_t column) {
    return wide ? run_columns<double>(arguments, coefficients, columns, column)
                : run_columns<float>(arguments, coefficients, columns, column);
}

}  // namespace amalgam::cpu
