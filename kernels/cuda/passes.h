// The passes on a GPU: each call queues kernels that work through a window.
#pragma once
#include <cstdint>

#include "kernels/fold_kind.h"
#include "kernels/fold_pass.h"
#include "kernels/gram_pass.h"
#include "kernels/key_pass.h"
#include "kernels/ranked.h"
#include "kernels/row_pass.h"
#include "kernels/select_pass.h"

namespace amalgam::cuda {

/// Where kernels are queued.
struct Queue {
    void* stream = nullptr;
    int multiprocessors = 1;
};

/// FoldCounts of all threads together, which they add to.
struct DeviceCounts {
    unsigned long long nonfinite_input = 0, nonfinite_output = 0, saturated = 0, unchanged = 0;
};

/// KeyCounts as threads add to them.
struct DeviceKeyCounts {
    unsigned long long from_low = 0, from_high = 0;
};

/// Elements [begin, begin + count) of the operands within one block; the first of them has the lane `lane`.
struct Piece {
    int64_t begin = 0;
    int32_t count = 0, lane = 0;
};

constexpr int gram_group = 4;  ///< vectors on each side of a tile of products

/// Tiles on and above the diagonal, which gram() sums one by one.
constexpr int64_t gram_tiles(int64_t vectors) {
    const int64_t groups = (vectors + gram_group - 1) / gram_group;
    return groups * (groups + 1) / 2;
}

// All pointers, those in arguments and arrays too, are of the device, and every function returns a cudaError_t (0: all is
// queued). Counts, bins and changes are added to; the caller clears them. `wide`: compute in double. `first_block` and
// `blocks` pick blocks of 65,536 elements of the window, whose results alone are written, from the first place on.

int fold(const Queue& queue, FoldKind kind, Sparsifier sparsifier, bool wide, const FoldArguments& arguments,
         DeviceCounts* counts);
/// coefficients[input x columns + column]; `column` is that of element 0.
int fold_columns(const Queue& queue, bool wide, const FoldArguments& arguments, const double* coefficients,
                 int64_t columns, int64_t column, DeviceCounts* counts);
/// arguments.models holds model_count models for each row; no planes.
int fold_rows(const Queue& queue, FoldKind kind, bool wide, const FoldArguments& arguments, int64_t columns,
              DeviceCounts* counts);

/// Numbers of scratch memory for each sum.
constexpr int64_t lanes_of_sum = sum_lanes;

/// totals[(block x model_count + m) x 2] and the next; lanes: memory for as many sums.
int norms(const Queue& queue, Sparsifier sparsifier, bool wide, const FoldArguments& arguments, int64_t first_block,
          int64_t blocks, double* lanes, double* totals);
/// products[piece x pair_count + pair] of tiles [first_tile, first_tile + tiles); lanes: for pieces x tiles x 16 sums.
int gram(const Queue& queue, bool wide, const GramArguments& arguments, const Piece* pieces, int64_t piece_count,
         int64_t first_tile, int64_t tiles, double* lanes, double* products);
/// sums[(block x columns + column) x 3] and the next two; `first` is the flat index of element 0.
int column_products(const Queue& queue, bool wide, const GramArguments& arguments, int64_t columns, int64_t first_block,
                    int64_t blocks, double* sums);
/// kept[e / 8]: bit e % 8 says whether variance selects element e; energies() reads it.
int variance_mask(const Queue& queue, bool wide, const SelectArguments& arguments, uint8_t* kept);
/// energies[block x input_count + m]; lanes: for as many sums.
int energies(const Queue& queue, bool wide, const SelectArguments& arguments, const uint8_t* kept, int64_t first_block,
             int64_t blocks, double* lanes, double* energies);

/// counts[block x stream_count + stream], of all blocks.
int count_keys(const Queue& queue, KeyKind kind, bool wide, const KeyArguments& arguments, const KeyStream* streams,
               int stream_count, DeviceKeyCounts* counts);
int extract_keys(const Queue& queue, KeyKind kind, bool wide, const KeyArguments& arguments, int input, uint64_t* keys);
int sce(const Queue& queue, bool wide, const SelectArguments& arguments, DeviceCounts* counts);
int fusion(const Queue& queue, bool wide, const SelectArguments& arguments, DeviceCounts* counts);
/// active: memory for one bit per element; changes[2 m] shared, changes[2 m + 1] alone.
int changes(const Queue& queue, bool wide, const KeyArguments& arguments, double epsilon, uint8_t* active,
            unsigned long long* changes);

int divergences(const Queue& queue, bool wide, const Operand& base, const Operand& other, int64_t row_first,
                int64_t rows, int64_t columns, double* divergences);
/// Rows that ranked_factors() sorts at a time, each in ranked_scratch() bytes.
int64_t ranked_rows_at_once(const Queue& queue, const RankedArguments& arguments);
uint64_t ranked_scratch(bool wide, const RankedArguments& arguments);
/// density > 0 and columns < 2^32; `scratch` is that of `slots` rows.
int ranked_factors(const Queue& queue, bool wide, const RankedArguments& arguments, int64_t slots, void* scratch,
                   double* factors);

/// spread[e] = values[(column + e) / columns].
int spread_rows(const Queue& queue, const float* values, int64_t columns, int64_t column, int64_t count, float* spread);
int count_nonfinite(const Queue& queue, const Operand& operand, int64_t count, unsigned long long* total);

}  // namespace amalgam::cuda
