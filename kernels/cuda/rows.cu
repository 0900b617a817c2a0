// Whole rows: softmax divergences, and ranks within a row. A thread block takes one row at a time, and its threads meet.
#include "kernels/cuda/launch.cuh"

namespace amalgam::cuda {

namespace {

/// row_sum() of row_pass.h by a block of 256 threads, which all get the result. Thread t adds up the lane of element t of each
/// piece, so that neighbours read neighbours.
template <class Term>
__device__ double sum_of_row(int64_t row_first, int64_t count, double* lanes, const Term& term) {
    const int thread = int(threadIdx.x);
    double total = 0;
    for (int64_t at = 0; at < count;) {
        const int64_t flat = row_first + at, rest = sum_block - flat % sum_block;
        const int64_t piece = rest < count - at ? rest : count - at;
        double sum = 0;
        for (int64_t i = thread; i < piece; i += sum_lanes) sum += term(at + i);
        lanes[(flat + thread) % sum_lanes] = sum;
        __syncthreads();
        for (int half = sum_lanes / 2; half > 0; half /= 2) {
            if (thread < half) lanes[thread] += lanes[thread + half];
            __syncthreads();
        }
        total += lanes[0];
        __syncthreads();
        at += piece;
    }
    return total;
}

template <class T>
__device__ double element(const Operand& operand, int64_t at) {
    T value[1] = {};
    load_pack<1>(operand, at, 1, value);
    return static_cast<double>(value[0]);
}

template <class T>
__device__ double highest_of_row(const Operand& operand, int64_t count, double* lanes) {
    const int thread = int(threadIdx.x);
    double highest = -1.7976931348623157e308;
    for (int64_t i = thread; i < count; i += sum_lanes) {
        const double value = element<T>(operand, i);
        highest = value > highest ? value : highest;
    }
    lanes[thread] = highest;
    __syncthreads();
    for (int half = sum_lanes / 2; half > 0; half /= 2) {
        if (thread < half) lanes[thread] = lanes[thread + half] > lanes[thread] ? lanes[thread + half] : lanes[thread];
        __syncthreads();
    }
    highest = lanes[0];
    __syncthreads();
    return highest;
}

/// What divides and what is taken away before the exponential.
struct Softmax {
    double highest, total;
};

template <class T>
__device__ Softmax softmax_of_row(const Operand& operand, int64_t row_first, int64_t count, double* lanes) {
    const double highest = highest_of_row<T>(operand, count, lanes);
    const double total =
        sum_of_row(row_first, count, lanes, [&](int64_t i) { return exact_exp(element<T>(operand, i) - highest); });
    return {highest, total};
}

template <class T>
__device__ double share_of(const Operand& operand, int64_t at, const Softmax& softmax) {
    return exact_exp(element<T>(operand, at) - softmax.highest) / softmax.total + 1e-8;
}

template <class T>
__global__ void __launch_bounds__(sum_lanes, 1) divergence_kernel(Operand base, Operand other, int64_t row_first,
                                                                  int64_t rows, int64_t columns, double* divergences) {
    AMALGAM_SHARED(double, lanes, sum_lanes);
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const int64_t begin = row * columns, first = row_first + begin;
        const Operand mine = at_element(base, begin), theirs = at_element(other, begin);
        const Softmax p = softmax_of_row<T>(theirs, first, columns, lanes);
        const Softmax q = softmax_of_row<T>(mine, first, columns, lanes);
        const double divergence = sum_of_row(first, columns, lanes, [&](int64_t i) {
            const double share = share_of<T>(theirs, i, p);
            return share * (exact_log(share) - exact_log(share_of<T>(mine, i, q)));
        });
        if (threadIdx.x == 0) divergences[row] = divergence;
    }
}

constexpr int sort_threads = 128, digit_bits = 4, digits = 1 << digit_bits;

/// order = places of the keys, ascending, among equal keys the higher place first; `other` is as long. Returns which of the
/// two holds the result. Threads own runs of the order, so that every pass is stable.
template <class Bits>
__device__ uint32_t* sort_row(const Bits* keys, int64_t count, uint32_t* order, uint32_t* other, uint32_t* counters,
                              uint32_t* totals) {
    const int thread = int(threadIdx.x);
    const int64_t run = (count + sort_threads - 1) / sort_threads;
    const int64_t begin = thread * run < count ? thread * run : count;
    const int64_t end = begin + run < count ? begin + run : count;
    for (int64_t i = begin; i < end; ++i) order[i] = static_cast<uint32_t>(count - 1 - i);
    constexpr int key_bits = 8 * int(sizeof(Bits)) - 1;
    for (int shift = 0; shift < key_bits; shift += digit_bits) {
        const auto digit = [&](uint32_t place) { return int(keys[place] >> shift) & (digits - 1); };
        for (int d = 0; d < digits; ++d) counters[d * sort_threads + thread] = 0;
        for (int64_t i = begin; i < end; ++i) ++counters[digit(order[i]) * sort_threads + thread];
        __syncthreads();
        if (thread < digits) {
            uint32_t total = 0;
            for (int t = 0; t < sort_threads; ++t) {
                uint32_t& counter = counters[thread * sort_threads + t];
                const uint32_t here = counter;
                counter = total;
                total += here;
            }
            totals[thread] = total;
        }
        __syncthreads();
        uint32_t before = 0;
        bool all_equal = false;
        for (int d = 0; d < digits; ++d) {
            counters[d * sort_threads + thread] += before;
            before += totals[d];
            all_equal |= totals[d] == static_cast<uint32_t>(count);
        }
        if (all_equal) continue;  // for every thread; nothing moves
        for (int64_t i = begin; i < end; ++i) other[counters[digit(order[i]) * sort_threads + thread]++] = order[i];
        __syncthreads();
        uint32_t* sorted = other;
        other = order;
        order = sorted;
    }
    return order;
}

template <class T>
__global__ void __launch_bounds__(sort_threads, 1)
    rank_kernel(RankedArguments arguments, int64_t rows, unsigned char* scratch, int64_t slot_bytes, double* factors) {
    using Bits = BitsOf<T>;
    AMALGAM_SHARED(uint32_t, counters, digits * sort_threads);
    AMALGAM_SHARED(uint32_t, totals, digits);
    const int64_t columns = arguments.columns, last = arguments.first + arguments.count;
    unsigned char* slot = scratch + blockIdx.x * slot_bytes;
    auto keys = reinterpret_cast<Bits*>(slot);
    auto order = reinterpret_cast<uint32_t*>(slot + columns * int64_t(sizeof(Bits)));
    for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const int64_t begin = (arguments.first / columns + row) * columns;
        const Operand input = at_element(arguments.input, row * columns);
        const KeyArguments key{at_element(arguments.base, row * columns), &input, 1, nullptr, columns};
        KeyPass<KeyKind::distance, T>{key}.template extract<pack_width>(0, keys, threadIdx.x * pack_width,
                                                                        sort_threads * pack_width);
        __syncthreads();
        const uint32_t* sorted = sort_row(keys, columns, order, order + columns, counters, totals);
        __syncthreads();
        for (int64_t rank = threadIdx.x; rank < columns; rank += sort_threads) {
            const int64_t place = begin + sorted[rank];
            if (place >= arguments.first && place < last)
                factors[place - arguments.first] = ranked_factor(arguments, place, rank);
        }
        __syncthreads();
    }
}

/// Keys of consecutive rows, `first` elements after element 0 of the arguments.
template <class T>
__global__ void __launch_bounds__(block_threads)
    row_keys_kernel(RankedArguments arguments, int64_t first, int64_t count, BitsOf<T>* keys) {
    const Operand input = at_element(arguments.input, first);
    const KeyArguments key{at_element(arguments.base, first), &input, 1, nullptr, count};
    KeyPass<KeyKind::distance, T>{key}.template extract<pack_width>(0, keys, grid_thread() * pack_width,
                                                                    grid_threads() * pack_width);
}

/// Ranks within short rows: an element's is the number of smaller ones.
template <class T>
__global__ void __launch_bounds__(block_threads)
    short_rank_kernel(RankedArguments arguments, int64_t first, int64_t count, const BitsOf<T>* keys, double* factors) {
    const int64_t columns = arguments.columns;
    const int64_t begin = arguments.first / columns * columns + first, last = arguments.first + arguments.count;
    for (int64_t e = grid_thread(); e < count; e += grid_threads()) {
        const int64_t place = begin + e, own = e % columns;
        if (place < arguments.first || place >= last) continue;
        const BitsOf<T>* row = keys + (e - own);
        const BitsOf<T> key = row[own];
        int64_t rank = 0;
        for (int64_t other = 0; other < columns; ++other)
            rank += int64_t(row[other] < key || (row[other] == key && other > own));
        factors[place - arguments.first] = ranked_factor(arguments, place, rank);
    }
}

/// Rows up to this length are ranked by comparing all with all, which costs less than a sort's barriers.
constexpr int64_t short_row = 512;

template <class T>
int rank_short_rows(const Queue& queue, const RankedArguments& arguments, int64_t rows, int64_t rows_at_once,
                    BitsOf<T>* keys, double* factors) {
    for (int64_t row = 0; row < rows; row += rows_at_once) {
        const int64_t first = row * arguments.columns;
        const int64_t count = std::min(rows_at_once, rows - row) * arguments.columns;
        if (const int error = launch(queue, blocks_for(queue, count, block_threads * pack_width), block_threads,
                                     row_keys_kernel<T>, arguments, first, count, keys))
            return error;
        if (const int error = launch(queue, blocks_for(queue, count, block_threads), block_threads,
                                     short_rank_kernel<T>, arguments, first, count, keys, factors))
            return error;
    }
    return 0;
}

}  // namespace

int divergences(const Queue& queue, bool wide, const Operand& base, const Operand& other, int64_t row_first,
                int64_t rows, int64_t columns, double* divergences) {
    return launch_cooperative_block(queue, blocks_for(queue, rows, 1), sum_lanes,
                                    wide ? divergence_kernel<double> : divergence_kernel<float>, base, other, row_first,
                                    rows, columns, divergences);
}

namespace {
int64_t ranked_rows(const RankedArguments& arguments) {
    return (arguments.first % arguments.columns + arguments.count + arguments.columns - 1) / arguments.columns;
}
}  // namespace

int64_t ranked_rows_at_once(const Queue& queue, const RankedArguments& arguments) {
    const int64_t rows = ranked_rows(arguments);
    return arguments.columns <= short_row ? rows : blocks_for(queue, rows, 1);
}

uint64_t ranked_scratch(bool wide, const RankedArguments& arguments) {
    if (arguments.columns <= short_row) return uint64_t(arguments.columns) * (wide ? 8 : 4);
    const uint64_t bytes = uint64_t(arguments.columns) * ((wide ? 8 : 4) + 2 * sizeof(uint32_t));
    return (bytes + 255) / 256 * 256;
}

int ranked_factors(const Queue& queue, bool wide, const RankedArguments& arguments, int64_t slots, void* scratch,
                   double* factors) {
    if (arguments.columns <= short_row) {
        const int64_t rows = ranked_rows(arguments);
        return wide ? rank_short_rows<double>(queue, arguments, rows, slots, static_cast<uint64_t*>(scratch), factors)
                    : rank_short_rows<float>(queue, arguments, rows, slots, static_cast<uint32_t*>(scratch), factors);
    }
    return launch_cooperative_block(queue, slots, sort_threads, wide ? rank_kernel<double> : rank_kernel<float>,
                                    arguments, ranked_rows(arguments), static_cast<unsigned char*>(scratch),
                                    static_cast<int64_t>(ranked_scratch(wide, arguments)), factors);
}

}  // namespace amalgam::cuda
