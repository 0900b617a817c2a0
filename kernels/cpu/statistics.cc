#include "kernels/cpu/launch.h"
#include "kernels/cpu/passes.h"

namespace amalgam::cpu {

namespace {

template <Sparsifier kind, class T>
AMALGAM_CLONES void run_norms(const FoldArguments& arguments, double* totals) {
    NormPass<kind, T>{arguments}.template run<sum_lanes>(totals);
}

template <Sparsifier kind>
void norms_by_type(bool wide, const FoldArguments& arguments, double* totals) {
    wide ? run_norms<kind, double>(arguments, totals) : run_norms<kind, float>(arguments, totals);
}

template <class T>
AMALGAM_CLONES void run_gram(const GramArguments& arguments, GramScratch& scratch, double* products) {
    GramPass<T>{arguments}.run(scratch, products);
}

template <KeyKind kind, class T>
AMALGAM_CLONES void run_count(const KeyArguments& arguments, const KeyStream* streams, int stream_count,
                              KeyCounts* counts) {
    KeyPass<kind, T>{arguments}.template count<pack_width>(streams, stream_count, counts);
}

template <KeyKind kind, class T>
AMALGAM_CLONES void run_extract(const KeyArguments& arguments, int input, uint64_t* out) {
    using Pass = KeyPass<kind, T>;
    constexpr int width = 64;  // samples come in pieces of 64
    const Pass pass{arguments};
    typename Pass::Bits keys[width];
    T start[width];
    for (int64_t at = 0; at < arguments.count; at += width) {
        int valid = arguments.count - at < width ? int(arguments.count - at) : width;
        load_pack<width>(arguments.base, at, valid, start);
        pass.template keys<width>(input, at, valid, start, keys);
        for (int i = 0; i < valid; ++i) out[at + i] = keys[i];
    }
}

template <class T>
AMALGAM_CLONES void run_energies(const SelectArguments& arguments, double* totals, double* scratch) {
    EnergyPass<T>{arguments}.template run<pack_width>(totals, scratch);
}

template <class Pass>
AMALGAM_CLONES FoldCounts run_select(const SelectArguments& arguments) {
    Pass pass{arguments};
    pass.template run<pack_width>();
    return pass.counts;
}

template <class T>
AMALGAM_CLONES void run_changes(const KeyArguments& arguments, double epsilon, int64_t* shared, int64_t* unique) {
    ChangePass<T>{arguments, epsilon}.template run<pack_width>(shared, unique);
}

template <class T>
AMALGAM_CLONES double run_divergence(const DivergenceArguments& arguments) {
    return DivergencePass<T>{arguments}.run();
}

template <class T>
AMALGAM_CLONES int64_t run_nonfinite(const Operand& operand, int64_t count) {
    int64_t bad = 0;
    for (int64_t at = 0; at < count; at += pack_width) {
        int valid = count - at < pack_width ? int(count - at) : pack_width;
        T value[pack_width];
        load_pack<pack_width>(operand, at, valid, value);
        int here = 0;
        AMALGAM_LANES
        for (int i = 0; i < pack_width; ++i) here += int(!is_finite(value[i]));
        bad += here;
    }
    return bad;
}

template <class T>
AMALGAM_CLONES int64_t run_convert(const Operand& from, void* to, Dtype to_dtype, int64_t count) {
    int64_t cut = 0;
    for (int64_t at = 0; at < count; at += pack_width) {
        int valid = count - at < pack_width ? int(count - at) : pack_width;
        T value[pack_width];
        load_pack<pack_width>(from, at, valid, value);
        if (bytes_of(to_dtype) == 1)
            for (int i = 0; i < valid; ++i) cut += saturates(to_dtype, value[i]);
        store_pack<pack_width>(to, to_dtype, at, valid, value);
    }
    return cut;
}

template <class T>
AMALGAM_CLONES void run_columns(const GramArguments& arguments, int64_t columns, int64_t column, double* sums) {
    constexpr int width = 64;
    for (int64_t at = 0; at < arguments.count; at += width) {
        int valid = arguments.count - at < width ? int(arguments.count - at) : width;
        T start[width] = {}, a[width], b[width];
        if (arguments.base.data) load_pack<width>(arguments.base, at, valid, start);
        load_pack<width>(arguments.inputs[0], at, valid, a);
        load_pack<width>(arguments.inputs[1], at, valid, b);
        int64_t c = (column + at) % columns;
        for (int i = 0; i < valid; ++i) {
            T x = a[i] - start[i], y = b[i] - start[i];
            double u = is_finite(x) ? static_cast<double>(x) : 0., v = is_finite(y) ? static_cast<double>(y) : 0.;
            sums[3 * c] += u * u;
            sums[3 * c + 1] += u * v;
            sums[3 * c + 2] += v * v;
            c = c + 1 == columns ? 0 : c + 1;
        }
    }
}

AMALGAM_CLONES void run_draws(const MaskAddress& address, int64_t first, int64_t count, uint32_t* words) {
    constexpr int width = 256;
    for (int64_t at = 0; at < count; at += width)
        philox<width / 8>(address, uint64_t(first + at) / 8, 0, words + at / 2);
}

}  // namespace

void draws(const MaskAddress& address, int64_t first, int64_t count, uint32_t* words) {
    run_draws(address, first, count, words);
}

void norms(Sparsifier sparsifier, bool wide, const FoldArguments& arguments, double* totals) {
    switch (sparsifier) {
        case Sparsifier::none: return norms_by_type<Sparsifier::none>(wide, arguments, totals);
        case Sparsifier::magnitude: return norms_by_type<Sparsifier::magnitude>(wide, arguments, totals);
        case Sparsifier::random: return norms_by_type<Sparsifier::random>(wide, arguments, totals);
        case Sparsifier::factors: return norms_by_type<Sparsifier::factors>(wide, arguments, totals);
    }
}

void gram(bool wide, const GramArguments& arguments, GramScratch& scratch, double* products) {
    wide ? run_gram<double>(arguments, scratch, products) : run_gram<float>(arguments, scratch, products);
}

void count_keys(KeyKind kind, bool wide, const KeyArguments& arguments, const KeyStream* streams, int stream_count,
                KeyCounts* counts) {
    if (kind == KeyKind::distance)
        wide ? run_count<KeyKind::distance, double>(arguments, streams, stream_count, counts)
             : run_count<KeyKind::distance, float>(arguments, streams, stream_count, counts);
    else if (kind == KeyKind::variance)
        wide ? run_count<KeyKind::variance, double>(arguments, streams, stream_count, counts)
             : run_count<KeyKind::variance, float>(arguments, streams, stream_count, counts);
    else
        wide ? run_count<KeyKind::importance, double>(arguments, streams, stream_count, counts)
             : run_count<KeyKind::importance, float>(arguments, streams, stream_count, counts);
}

void extract_keys(KeyKind kind, bool wide, const KeyArguments& arguments, int input, uint64_t* out) {
    if (kind == KeyKind::distance)
        wide ? run_extract<KeyKind::distance, double>(arguments, input, out)
             : run_extract<KeyKind::distance, float>(arguments, input, out);
    else if (kind == KeyKind::variance)
        wide ? run_extract<KeyKind::variance, double>(arguments, input, out)
             : run_extract<KeyKind::variance, float>(arguments, input, out);
    else
        wide ? run_extract<KeyKind::importance, double>(arguments, input, out)
             : run_extract<KeyKind::importance, float>(arguments, input, out);
}

void energies(bool wide, const SelectArguments& arguments, double* totals, double* scratch) {
    wide ? run_energies<double>(arguments, totals, scratch) : run_energies<float>(arguments, totals, scratch);
}

FoldCounts sce(bool wide, const SelectArguments& arguments) {
    return wide ? run_select<ScePass<double>>(arguments) : run_select<ScePass<float>>(arguments);
}

FoldCounts fusion(bool wide, const SelectArguments& arguments) {
    return wide ? run_select<FusionPass<double>>(arguments) : run_select<FusionPass<float>>(arguments);
}

void changes(bool wide, const KeyArguments& arguments, double epsilon, int64_t* shared, int64_t* unique) {
    wide ? run_changes<double>(arguments, epsilon, shared, unique)
         : run_changes<float>(arguments, epsilon, shared, unique);
}

double divergence(bool wide, const DivergenceArguments& arguments) {
    return wide ? run_divergence<double>(arguments) : run_divergence<float>(arguments);
}

int64_t count_nonfinite(const Operand& operand, int64_t count) {
    return operand.dtype == Dtype::f64 ? run_nonfinite<double>(operand, count) : run_nonfinite<float>(operand, count);
}

int64_t convert(const Operand& from, void* to, Dtype to_dtype, int64_t count) {
    return from.dtype == Dtype::f64 ? run_convert<double>(from, to, to_dtype, count)
                                    : run_convert<float>(from, to, to_dtype, count);
}

void column_products(bool wide, const GramArguments& arguments, int64_t columns, int64_t column, double* sums) {
    wide ? run_columns<double>(arguments, columns, column, sums) : run_columns<float>(arguments, columns, column, sums);
}

}  // namespace amalgam::cpu
