// Passes of a lane: lists and results travel, kernels do the work in batches that their scratch memory allows.
#include <algorithm>
#include <limits>
#include <vector>

#include "src/base/error.h"
#include "src/device/cuda_lane.h"

namespace amalgam {

namespace {

/// Scratch memory of a batch, in bytes.
constexpr int64_t scratch_bytes = int64_t(64) << 20;

int64_t blocks_of(int64_t count) { return (count + sum_block - 1) / sum_block; }

/// Things of `each` bytes that scratch memory holds.
int64_t batch_of(int64_t each, int64_t wanted) { return std::clamp<int64_t>(scratch_bytes / each, 1, wanted); }

constexpr int64_t sum_bytes = cuda::lanes_of_sum * int64_t(sizeof(double));

Operand at_element(const Operand& operand, int64_t elements) {
    if (!operand.data) return operand;
    return {static_cast<const std::byte*>(operand.data) + elements * stored_bytes(operand.dtype), operand.dtype};
}

/// Appends the pieces of elements [begin, begin + count), whose first has the flat index `flat`.
void add_pieces(std::vector<cuda::Piece>& pieces, int64_t flat, int64_t begin, int64_t count) {
    for (int64_t at = 0; at < count;) {
        const int64_t length = std::min(sum_block - (flat + at) % sum_block, count - at);
        pieces.push_back({begin + at, int32_t(length), int32_t((flat + at) % sum_lanes)});
        at += length;
    }
}

}  // namespace

FoldCounts CudaLane::read(const cuda::DeviceCounts* counts) {
    cuda::DeviceCounts seen;
    download(counts, &seen, 1);
    return {seen.nonfinite_input > 0, int64_t(seen.nonfinite_output), int64_t(seen.saturated), int64_t(seen.unchanged)};
}

FoldArguments CudaLane::with_lists(const FoldArguments& arguments) {
    FoldArguments ours = arguments;
    ours.inputs = upload(arguments.inputs, arguments.model_count);
    ours.models = upload(arguments.models, arguments.model_count);
    return ours;
}

GramArguments CudaLane::with_lists(const GramArguments& arguments) {
    GramArguments ours = arguments;
    ours.inputs = upload(arguments.inputs, arguments.input_count);
    return ours;
}

KeyArguments CudaLane::with_lists(const KeyArguments& arguments) {
    KeyArguments ours = arguments;
    ours.inputs = upload(arguments.inputs, arguments.input_count);
    return ours;
}

FoldCounts CudaLane::fold(FoldKind kind, Sparsifier sparsifier, bool wide, const FoldArguments& arguments) {
    if (arguments.count == 0) return {};
    const Call call(*this);
    const FoldArguments ours = with_lists(arguments);
    auto* counts = zeros<cuda::DeviceCounts>(1);
    check_cuda(cuda::fold(passes(), kind, sparsifier, wide, ours, counts), "launching a fold");
    return read(counts);
}

FoldCounts CudaLane::fold_columns(bool wide, const FoldArguments& arguments, std::span<const double> coefficients,
                                  int64_t columns, int64_t column) {
    if (arguments.count == 0) return {};
    const Call call(*this);
    FoldArguments ours = arguments;
    ours.inputs = upload(arguments.inputs, arguments.model_count);
    ours.models = nullptr;
    const double* numbers = upload(coefficients.data(), int64_t(coefficients.size()));
    auto* counts = zeros<cuda::DeviceCounts>(1);
    check_cuda(cuda::fold_columns(passes(), wide, ours, numbers, columns, column, counts),
               "launching a fold by column");
    return read(counts);
}

FoldCounts CudaLane::fold_rows(FoldKind kind, bool wide, const FoldArguments& arguments, std::span<const double> scales,
                               int64_t columns) {
    if (arguments.count == 0) return {};
    check(!arguments.planes_in && !arguments.planes_out,
          "folds by row are not spread over ranks (an error of the program)");
    const Call call(*this);
    std::vector<FoldModel> models(scales.size());
    for (size_t i = 0; i < scales.size(); ++i) models[i].scale = models[i].weight = scales[i];
    FoldArguments ours = arguments;
    ours.inputs = upload(arguments.inputs, arguments.model_count);
    ours.models = upload(models.data(), int64_t(models.size()));
    auto* counts = zeros<cuda::DeviceCounts>(1);
    check_cuda(cuda::fold_rows(passes(), kind, wide, ours, columns, counts), "launching a fold by row");
    return read(counts);
}

void CudaLane::norms(Sparsifier sparsifier, bool wide, const FoldArguments& arguments, double* totals) {
    const int64_t blocks = blocks_of(arguments.count), each = 2 * int64_t(arguments.model_count);
    if (blocks == 0 || each == 0) return;
    const Call call(*this);
    const FoldArguments ours = with_lists(arguments);
    const int64_t batch = batch_of(each * sum_bytes, blocks);
    auto* lanes = array<double>(batch * each * cuda::lanes_of_sum);
    auto* results = array<double>(blocks * each);
    for (int64_t first = 0; first < blocks; first += batch)
        check_cuda(cuda::norms(passes(), sparsifier, wide, ours, first, std::min(batch, blocks - first), lanes,
                               results + first * each),
                   "launching norms");
    download(results, totals, blocks * each);
}

template <class Body>
void CudaLane::each_gram(bool wide, const GramArguments& arguments, const std::vector<cuda::Piece>& pieces,
                         const Body& body) {
    const int64_t pairs = pair_count(arguments.input_count), tiles = cuda::gram_tiles(arguments.input_count);
    if (pieces.empty() || pairs == 0) return;
    const Call call(*this);
    const GramArguments ours = with_lists(arguments);
    const int64_t tile_bytes = cuda::gram_group * cuda::gram_group * sum_bytes;
    const int64_t piece_batch = batch_of(std::max(tile_bytes, pairs * int64_t(sizeof(double))), int64_t(pieces.size()));
    const int64_t tile_batch = batch_of(piece_batch * tile_bytes, tiles);
    const cuda::Piece* list = upload(pieces.data(), int64_t(pieces.size()));
    auto* lanes = array<double>(piece_batch * tile_batch * tile_bytes / int64_t(sizeof(double)));
    auto* results = array<double>(piece_batch * pairs);
    std::vector<double> products(static_cast<size_t>(piece_batch * pairs));
    for (int64_t first = 0; first < int64_t(pieces.size()); first += piece_batch) {
        const int64_t count = std::min(piece_batch, int64_t(pieces.size()) - first);
        for (int64_t tile = 0; tile < tiles; tile += tile_batch)
            check_cuda(cuda::gram(passes(), wide, ours, list + first, count, tile, std::min(tile_batch, tiles - tile),
                                  lanes, results),
                       "launching a Gram matrix");
        download(results, products.data(), count * pairs);
        for (int64_t piece = 0; piece < count; ++piece) body(first + piece, products.data() + piece * pairs);
    }
}

void CudaLane::gram(bool wide, const GramArguments& arguments, double* products) {
    const int64_t pairs = pair_count(arguments.input_count);
    std::vector<cuda::Piece> pieces;
    add_pieces(pieces, arguments.first, 0, arguments.count);
    each_gram(wide, arguments, pieces,
              [&](int64_t piece, const double* of_piece) { std::copy_n(of_piece, pairs, products + piece * pairs); });
}

void CudaLane::gram_rows(bool wide, const GramArguments& arguments, int64_t columns, double* products) {
    const int64_t pairs = pair_count(arguments.input_count), rows = arguments.count / columns;
    std::vector<cuda::Piece> pieces;
    for (int64_t row = 0; row < rows; ++row)
        add_pieces(pieces, arguments.first + row * columns, row * columns, columns);
    std::fill_n(products, rows * pairs, 0.);
    each_gram(wide, arguments, pieces, [&](int64_t piece, const double* of_piece) {
        double* row = products + pieces[size_t(piece)].begin / columns * pairs;
        for (int64_t pair = 0; pair < pairs; ++pair) row[pair] += of_piece[pair];
    });
}

void CudaLane::column_products(bool wide, const GramArguments& arguments, int64_t columns, double* sums) {
    const int64_t blocks = blocks_of(arguments.count), each = 3 * columns;
    if (blocks == 0) return;
    const Call call(*this);
    const GramArguments ours = with_lists(arguments);
    const int64_t batch = batch_of(each * int64_t(sizeof(double)), blocks);
    auto* results = array<double>(batch * each);
    for (int64_t first = 0; first < blocks; first += batch) {
        const int64_t count = std::min(batch, blocks - first);
        check_cuda(cuda::column_products(passes(), wide, ours, columns, first, count, results),
                   "launching products by column");
        download(results, sums + first * each, count * each);
    }
}

void CudaLane::count_keys(KeyKind kind, bool wide, const KeyArguments& arguments, std::span<const KeyStream> streams,
                          KeyCounts* counts) {
    const int64_t results = blocks_of(arguments.count) * int64_t(streams.size());
    if (results == 0) return;
    const Call call(*this);
    KeyArguments ours = with_lists(arguments);
    if (kind != KeyKind::importance) ours.factors = nullptr;
    std::vector<KeyStream> mine(streams.begin(), streams.end());
    std::vector<int64_t> bins(streams.size());
    for (size_t s = 0; s < mine.size(); ++s) {
        const KeyWindow& window = mine[s].window;
        if (!mine[s].bins) continue;
        bins[s] = window.high > window.low ? int64_t((window.high - 1 - window.low) >> window.shift) + 1 : 0;
        mine[s].bins = bins[s] > 0 ? zeros<uint32_t>(bins[s]) : nullptr;
    }
    const KeyStream* list = upload(mine.data(), int64_t(mine.size()));
    auto* totals = zeros<cuda::DeviceKeyCounts>(results);
    check_cuda(cuda::count_keys(passes(), kind, wide, ours, list, int(mine.size()), totals),
               "launching counts of keys");
    std::vector<cuda::DeviceKeyCounts> seen(static_cast<size_t>(results));
    download(totals, seen.data(), results);
    for (size_t i = 0; i < seen.size(); ++i) counts[i] = {int64_t(seen[i].from_low), int64_t(seen[i].from_high)};
    std::vector<uint32_t> counted;
    for (size_t s = 0; s < mine.size(); ++s) {
        if (!mine[s].bins) continue;
        counted.resize(size_t(bins[s]));
        download(mine[s].bins, counted.data(), bins[s]);
        for (size_t bin = 0; bin < counted.size(); ++bin) streams[s].bins[bin] += counted[bin];
    }
}

void CudaLane::extract_keys(KeyKind kind, bool wide, const KeyArguments& arguments, int input, uint64_t* keys) {
    const int64_t batch = batch_of(sizeof(uint64_t), std::max<int64_t>(arguments.count, 1));
    for (int64_t first = 0; first < arguments.count; first += batch) {
        const Call call(*this);
        std::vector<Operand> inputs;
        for (int m = 0; m < arguments.input_count; ++m) inputs.push_back(at_element(arguments.inputs[m], first));
        KeyArguments ours = arguments;
        ours.base = at_element(arguments.base, first);
        ours.inputs = upload(inputs.data(), int64_t(inputs.size()));
        ours.factors = kind == KeyKind::importance ? arguments.factors + first : nullptr;
        ours.count = std::min(batch, arguments.count - first);
        auto* results = array<uint64_t>(ours.count);
        check_cuda(cuda::extract_keys(passes(), kind, wide, ours, input, results), "launching a list of keys");
        download(results, keys + first, ours.count);
    }
}

void CudaLane::energies(bool wide, const SelectArguments& arguments, double* energies) {
    const int64_t blocks = blocks_of(arguments.key.count), each = arguments.key.input_count;
    if (blocks == 0 || each == 0) return;
    const Call call(*this);
    SelectArguments ours = arguments;
    ours.key = with_lists(arguments.key);
    ours.key.factors = nullptr;
    ours.weights = nullptr;
    ours.out = nullptr;
    auto* kept = array<uint8_t>((arguments.key.count + 7) / 8);
    check_cuda(cuda::variance_mask(passes(), wide, ours, kept), "launching a selection by variance");
    const int64_t batch = batch_of(each * sum_bytes, blocks);
    auto* lanes = array<double>(batch * each * cuda::lanes_of_sum);
    auto* results = array<double>(blocks * each);
    for (int64_t first = 0; first < blocks; first += batch)
        check_cuda(cuda::energies(passes(), wide, ours, kept, first, std::min(batch, blocks - first), lanes,
                                  results + first * each),
                   "launching energies");
    download(results, energies, blocks * each);
}

FoldCounts CudaLane::sce(bool wide, const SelectArguments& arguments) {
    if (arguments.key.count == 0) return {};
    const Call call(*this);
    SelectArguments ours = arguments;
    ours.key = with_lists(arguments.key);
    ours.key.factors = nullptr;
    ours.weights = upload(arguments.weights, arguments.key.input_count);
    auto* counts = zeros<cuda::DeviceCounts>(1);
    check_cuda(cuda::sce(passes(), wide, ours, counts), "launching a fold of selected elements");
    return read(counts);
}

FoldCounts CudaLane::fusion(bool wide, const SelectArguments& arguments) {
    if (arguments.key.count == 0) return {};
    const Call call(*this);
    SelectArguments ours = arguments;
    ours.key = with_lists(arguments.key);
    ours.weights = nullptr;
    auto* counts = zeros<cuda::DeviceCounts>(1);
    check_cuda(cuda::fusion(passes(), wide, ours, counts), "launching a fusion");
    return read(counts);
}

void CudaLane::changes(bool wide, const KeyArguments& arguments, double epsilon, int64_t* shared, int64_t* unique) {
    if (arguments.count == 0 || arguments.input_count == 0) return;
    const Call call(*this);
    KeyArguments ours = with_lists(arguments);
    ours.factors = nullptr;
    auto* active = array<uint8_t>((arguments.count + 7) / 8);
    auto* totals = zeros<unsigned long long>(2 * int64_t(arguments.input_count));
    check_cuda(cuda::changes(passes(), wide, ours, epsilon, active, totals), "launching counts of changes");
    std::vector<unsigned long long> seen(2 * size_t(arguments.input_count));
    download(totals, seen.data(), int64_t(seen.size()));
    for (size_t m = 0; m < seen.size() / 2; ++m) {
        shared[m] += int64_t(seen[2 * m]);
        unique[m] += int64_t(seen[2 * m + 1]);
    }
}

void CudaLane::divergences(bool wide, const Operand& base, const Operand& other, int64_t row_first, int64_t rows,
                           int64_t columns, double* divergences) {
    if (rows == 0) return;
    const Call call(*this);
    auto* results = array<double>(rows);
    check_cuda(cuda::divergences(passes(), wide, base, other, row_first, rows, columns, results),
               "launching divergences of rows");
    download(results, divergences, rows);
}

const double* CudaLane::ranked_factors(bool wide, const RankedArguments& arguments) {
    check(arguments.columns <= std::numeric_limits<uint32_t>::max(),
          "a row of {} elements is too long to be ranked on a GPU, which counts to 2^32; use --device cpu",
          arguments.columns);
    if (arguments.density <= 0) return static_cast<const double*>(reserve_zeros(uint64_t(arguments.count) * 8));
    auto* factors = array<double>(arguments.count);
    if (arguments.count == 0) return factors;
    const Call call(*this);
    const auto row_bytes = int64_t(cuda::ranked_scratch(wide, arguments));
    const int64_t slots = batch_of(row_bytes, cuda::ranked_rows_at_once(passes(), arguments));
    void* scratch = reserve(uint64_t(slots * row_bytes));
    check_cuda(cuda::ranked_factors(passes(), wide, arguments, slots, scratch, factors), "launching ranks within rows");
    finish();
    return factors;
}

const float* CudaLane::spread_rows(std::span<const float> values, int64_t columns, int64_t first, int64_t count) {
    auto* spread = array<float>(count);
    if (count == 0) return spread;
    const Call call(*this);
    const float* list = upload(values.data(), int64_t(values.size()));
    check_cuda(cuda::spread_rows(passes(), list, columns, first % columns, count, spread), "launching values of rows");
    finish();
    return spread;
}

const double* CudaLane::bring_numbers(std::span<const double> numbers) {
    return static_cast<const double*>(bring(numbers.data(), numbers.size_bytes()));
}

int64_t CudaLane::count_nonfinite(const Operand& operand, int64_t count) {
    if (count == 0) return 0;
    const Call call(*this);
    auto* total = zeros<unsigned long long>(1);
    check_cuda(cuda::count_nonfinite(passes(), operand, count, total), "launching a count of elements");
    unsigned long long seen = 0;
    download(total, &seen, 1);
    return int64_t(seen);
}

}  // namespace amalgam
