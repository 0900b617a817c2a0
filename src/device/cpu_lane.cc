#include "src/device/cpu_lane.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/passes.h"

namespace amalgam {

namespace {

Operand at_element(const Operand& operand, int64_t elements) {
    if (!operand.data) return operand;
    return {static_cast<const unsigned char*>(operand.data) + elements * stored_bytes(operand.dtype), operand.dtype};
}

/// Calls body(first, count) for the pieces of [0, count) that end at multiples of `block`, counted from `offset`.
template <class Body>
void each_piece(int64_t offset, int64_t count, int64_t block, const Body& body) {
    for (int64_t at = 0; at < count;) {
        const int64_t piece = std::min(block - (offset + at) % block, count - at);
        body(at, piece);
        at += piece;
    }
}

void add(FoldCounts& total, const FoldCounts& part) {
    total.nonfinite_input |= part.nonfinite_input;
    total.nonfinite_output += part.nonfinite_output;
    total.saturated += part.saturated;
    total.unchanged += part.unchanged;
}

template <class T>
T* plane_at(T* planes, int64_t at, bool wide) {
    using Byte = std::conditional_t<std::is_const_v<T>, const std::byte, std::byte>;
    return planes ? static_cast<T*>(static_cast<Byte*>(planes) + at * (wide ? 8 : 4)) : planes;
}

}  // namespace

template <class T>
T* CpuLane::Pool<T>::take(size_t count) {
    if (next_ == buffers_.size()) buffers_.emplace_back();
    std::vector<T>& buffer = buffers_[next_++];
    if (buffer.size() < count) buffer.resize(count);
    return buffer.data();
}

void CpuLane::begin_window() {
    reserved_.restart();
    doubles_.restart();
    floats_.restart();
}

void* CpuLane::reserve(uint64_t bytes) { return reserved_.take(bytes); }

void CpuLane::take(const void* from, void* host, uint64_t bytes) {
    if (from != host && bytes > 0) std::memcpy(host, from, bytes);
}

const Operand* CpuLane::inputs_from(const Operand* inputs, int count, int64_t at) {
    operands_.clear();
    for (int m = 0; m < count; ++m) operands_.push_back(at_element(inputs[m], at));
    return operands_.data();
}

/// Elements [at, at + count) of a fold; not of its planes.
FoldArguments CpuLane::piece_of(const FoldArguments& arguments, int64_t at, int64_t count) {
    FoldArguments piece = arguments;
    piece.base = at_element(arguments.base, at);
    piece.inputs = inputs_from(arguments.inputs, arguments.model_count, at);
    piece.first = arguments.first + at;
    piece.count = count;
    if (arguments.out) piece.out = static_cast<std::byte*>(arguments.out) + at * stored_bytes(arguments.out_dtype);
    const bool factors = std::any_of(arguments.models, arguments.models + arguments.model_count,
                                     [](const FoldModel& model) { return model.factors != nullptr; });
    if (factors && at > 0) {
        models_.assign(arguments.models, arguments.models + arguments.model_count);
        for (FoldModel& model : models_)
            if (model.factors) model.factors += at;
        piece.models = models_.data();
    }
    return piece;
}

FoldCounts CpuLane::fold(FoldKind kind, Sparsifier sparsifier, bool wide, const FoldArguments& arguments) {
    FoldCounts counts;
    each_piece(arguments.first, arguments.count, block_, [&](int64_t at, int64_t count) {
        FoldArguments piece = piece_of(arguments, at, count);
        piece.planes_in = plane_at(arguments.planes_in, at, wide);
        piece.planes_out = plane_at(arguments.planes_out, at, wide);
        add(counts, cpu::fold(kind, sparsifier, wide, piece));
    });
    return counts;
}

FoldCounts CpuLane::fold_columns(bool wide, const FoldArguments& arguments, std::span<const double> coefficients,
                                 int64_t columns, int64_t column) {
    return cpu::fold_columns(wide, arguments, coefficients.data(), columns, column);
}

FoldCounts CpuLane::fold_rows(FoldKind kind, bool wide, const FoldArguments& arguments, std::span<const double> scales,
                              int64_t columns) {
    FoldCounts counts;
    std::vector<FoldModel> models(size_t(arguments.model_count));
    const int64_t first_row = arguments.first / columns;
    each_piece(arguments.first, arguments.count, columns, [&](int64_t at, int64_t count) {
        const int64_t row = (arguments.first + at) / columns - first_row;
        for (size_t m = 0; m < models.size(); ++m)
            models[m].scale = models[m].weight = scales[size_t(row) * models.size() + m];
        FoldArguments piece = arguments;
        piece.models = models.data();
        piece = piece_of(piece, at, count);
        add(counts, cpu::fold(kind, Sparsifier::none, wide, piece));
    });
    return counts;
}

void CpuLane::norms(Sparsifier sparsifier, bool wide, const FoldArguments& arguments, double* totals) {
    each_piece(0, arguments.count, sum_block, [&](int64_t at, int64_t count) {
        cpu::norms(sparsifier, wide, piece_of(arguments, at, count), totals);
        totals += 2 * arguments.model_count;
    });
}

void CpuLane::gram(bool wide, const GramArguments& arguments, double* products) {
    if (!gram_) gram_ = std::make_unique<GramScratch>();
    each_piece(arguments.first, arguments.count, sum_block, [&](int64_t at, int64_t count) {
        GramArguments piece{at_element(arguments.base, at), inputs_from(arguments.inputs, arguments.input_count, at),
                            arguments.input_count, arguments.first + at, count};
        cpu::gram(wide, piece, *gram_, products);
        products += pair_count(arguments.input_count);
    });
}

void CpuLane::gram_rows(bool wide, const GramArguments& arguments, int64_t columns, double* products) {
    const int64_t pairs = pair_count(arguments.input_count);
    std::vector<double> pieces;
    for (int64_t row = 0; row * columns < arguments.count; ++row, products += pairs) {
        const int64_t begin = row * columns;
        GramArguments whole{at_element(arguments.base, begin), nullptr, arguments.input_count, arguments.first + begin,
                            columns};
        std::vector<Operand> inputs;
        for (int m = 0; m < arguments.input_count; ++m) inputs.push_back(at_element(arguments.inputs[m], begin));
        whole.inputs = inputs.data();
        const int64_t count = (whole.first % sum_block + columns + sum_block - 1) / sum_block;
        pieces.resize(size_t(count * pairs));
        gram(wide, whole, pieces.data());
        std::fill_n(products, pairs, 0.);
        for (int64_t piece = 0; piece < count; ++piece)
            for (int64_t pair = 0; pair < pairs; ++pair) products[pair] += pieces[size_t(piece * pairs + pair)];
    }
}

void CpuLane::column_products(bool wide, const GramArguments& arguments, int64_t columns, double* sums) {
    each_piece(0, arguments.count, sum_block, [&](int64_t at, int64_t count) {
        GramArguments piece{at_element(arguments.base, at), inputs_from(arguments.inputs, arguments.input_count, at),
                            arguments.input_count, arguments.first + at, count};
        std::fill_n(sums, 3 * columns, 0.);
        cpu::column_products(wide, piece, columns, piece.first % columns, sums);
        sums += 3 * columns;
    });
}

void CpuLane::count_keys(KeyKind kind, bool wide, const KeyArguments& arguments, std::span<const KeyStream> streams,
                         KeyCounts* counts) {
    each_piece(0, arguments.count, sum_block, [&](int64_t at, int64_t count) {
        KeyArguments piece{at_element(arguments.base, at), inputs_from(arguments.inputs, arguments.input_count, at),
                           arguments.input_count, arguments.factors ? arguments.factors + at : nullptr, count};
        std::fill_n(counts, streams.size(), KeyCounts{});
        cpu::count_keys(kind, wide, piece, streams.data(), int(streams.size()), counts);
        counts += streams.size();
    });
}

void CpuLane::extract_keys(KeyKind kind, bool wide, const KeyArguments& arguments, int input, uint64_t* keys) {
    cpu::extract_keys(kind, wide, arguments, input, keys);
}

void CpuLane::energies(bool wide, const SelectArguments& arguments, double* energies) {
    numbers_.resize(size_t(arguments.key.input_count) * sum_lanes);
    each_piece(0, arguments.key.count, sum_block, [&](int64_t at, int64_t count) {
        SelectArguments piece = arguments;
        piece.key.base = at_element(arguments.key.base, at);
        piece.key.inputs = inputs_from(arguments.key.inputs, arguments.key.input_count, at);
        piece.key.count = count;
        if (arguments.tie_count >= 0) piece.tie_count = std::max<int64_t>(0, arguments.tie_count - at);
        cpu::energies(wide, piece, energies, numbers_.data());
        energies += arguments.key.input_count;
    });
}

FoldCounts CpuLane::sce(bool wide, const SelectArguments& arguments) {
    FoldCounts counts;
    each_piece(0, arguments.key.count, block_, [&](int64_t at, int64_t count) {
        SelectArguments piece = arguments;
        piece.key.base = at_element(arguments.key.base, at);
        piece.key.inputs = inputs_from(arguments.key.inputs, arguments.key.input_count, at);
        piece.key.count = count;
        piece.out = static_cast<std::byte*>(arguments.out) + at * stored_bytes(arguments.out_dtype);
        add(counts, cpu::sce(wide, piece));
    });
    return counts;
}

FoldCounts CpuLane::fusion(bool wide, const SelectArguments& arguments) { return cpu::fusion(wide, arguments); }

void CpuLane::changes(bool wide, const KeyArguments& arguments, double epsilon, int64_t* shared, int64_t* unique) {
    cpu::changes(wide, arguments, epsilon, shared, unique);
}

void CpuLane::divergences(bool wide, const Operand& base, const Operand& other, int64_t row_first, int64_t rows,
                          int64_t columns, double* divergences) {
    numbers_.resize(size_t(2 * columns));
    for (int64_t row = 0; row < rows; ++row)
        divergences[row] = cpu::divergence(wide, {at_element(base, row * columns), at_element(other, row * columns),
                                                  row_first + row * columns, columns, numbers_.data()});
}

const double* CpuLane::ranked_factors(bool wide, const RankedArguments& arguments) {
    double* factors = doubles_.take(size_t(arguments.count));
    cpu::ranked_factors(wide, arguments, factors);
    return factors;
}

const float* CpuLane::spread_rows(std::span<const float> values, int64_t columns, int64_t first, int64_t count) {
    float* spread = floats_.take(size_t(count));
    each_piece(first, count, columns, [&](int64_t at, int64_t elements) {
        std::fill_n(spread + at, elements, values[size_t((first + at) / columns - first / columns)]);
    });
    return spread;
}

int64_t CpuLane::count_nonfinite(const Operand& operand, int64_t count) { return cpu::count_nonfinite(operand, count); }

}  // namespace amalgam
