// One thread's way to a processor: memory for a window, and every pass of kernels/ over it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/fold_kind.h"
#include "kernels/fold_pass.h"
#include "kernels/gram_pass.h"
#include "kernels/key_pass.h"
#include "kernels/ranked.h"
#include "kernels/row_pass.h"
#include "kernels/select_pass.h"

namespace amalgam {

/// Statistics and shards count in blocks of sum_block elements. Passes that give results "by block" begin at a border of
/// blocks: result i is that of elements [i, i + 1) x sum_block of the arguments; the last block may be short.
///
/// Operands, factors, planes and outputs lie in the lane's memory; argument arrays, coefficients and results in the
/// caller's. A pass that returns something has ended when it returns. `wide`: compute in double. One thread at a time.
/// All functions throw Error if the processor fails or its memory does not suffice.
class Lane {
  public:
    Lane() = default;
    Lane(const Lane&) = delete;
    Lane& operator=(const Lane&) = delete;
    virtual ~Lane() = default;

    /// The lane's memory is the caller's: bring() gives back what it was given.
    virtual bool on_host() const = 0;

    /// A new window: what was brought or reserved before is gone.
    virtual void begin_window() = 0;
    /// Copies into the lane's memory, aligned for vector loads; `host` may be reused when this returns.
    virtual const void* bring(const void* host, uint64_t bytes) = 0;
    /// Memory for what passes write; not initialised.
    virtual void* reserve(uint64_t bytes) = 0;
    /// What lies at `from` in the lane's memory, once all passes before have ended.
    virtual void take(const void* from, void* host, uint64_t bytes) = 0;
    /// All work so far has ended.
    virtual void finish() = 0;
    /// Queue of the device in which the lane's passes run, for transports; nullptr on the host.
    virtual void* queue() = 0;

    /// `factors` of the sparsifier of that name may be nullptr for models that keep everything. Without planes: results
    /// into arguments.out. See FoldArguments for folds that are spread over ranks.
    virtual FoldCounts fold(FoldKind kind, Sparsifier sparsifier, bool wide, const FoldArguments& arguments) = 0;
    /// out = base (if given, and then of differences to it) + sum over inputs of coefficient[input][column] x input; `column`
    /// is that of element 0.
    virtual FoldCounts fold_columns(bool wide, const FoldArguments& arguments, std::span<const double> coefficients,
                                    int64_t columns, int64_t column) = 0;
    /// A fold without sparsifier whose models have scales[(row - first row) x model_count + m] as scale and weight; rows of
    /// `columns` elements, of which the first and last may be partly there.
    virtual FoldCounts fold_rows(FoldKind kind, bool wide, const FoldArguments& arguments,
                                 std::span<const double> scales, int64_t columns) = 0;

    /// By block: totals[(block x model_count + m) x 2] and the next, sums of |delta| over all and over the kept elements.
    virtual void norms(Sparsifier sparsifier, bool wide, const FoldArguments& arguments, double* totals) = 0;
    /// By block: pair_count(input_count) products; arguments.first is a border of blocks.
    virtual void gram(bool wide, const GramArguments& arguments, double* products) = 0;
    /// By row: pair_count(input_count) products, of whole rows from element 0 on; pieces of row x block in order.
    virtual void gram_rows(bool wide, const GramArguments& arguments, int64_t columns, double* products) = 0;
    /// By block: columns x 3 sums, of a a, a b, b b in each column (see cpu::column_products); `first` is a border of blocks.
    virtual void column_products(bool wide, const GramArguments& arguments, int64_t columns, double* sums) = 0;

    /// By block: counts[block x streams.size() + stream], overwritten; bins (the caller's memory) are added to.
    virtual void count_keys(KeyKind kind, bool wide, const KeyArguments& arguments, std::span<const KeyStream> streams,
                            KeyCounts* counts) = 0;
    /// Keys of one stream in order, into the caller's memory.
    virtual void extract_keys(KeyKind kind, bool wide, const KeyArguments& arguments, int input, uint64_t* keys) = 0;
    /// By block: energies[block x input_count + m]. tie_count of the arguments counts from element 0.
    virtual void energies(bool wide, const SelectArguments& arguments, double* energies) = 0;
    virtual FoldCounts sce(bool wide, const SelectArguments& arguments) = 0;
    virtual FoldCounts fusion(bool wide, const SelectArguments& arguments) = 0;
    /// shared[m] and unique[m] are added to.
    virtual void changes(bool wide, const KeyArguments& arguments, double epsilon, int64_t* shared,
                         int64_t* unique) = 0;
    /// By row: the divergence of whole rows from element 0 on, `row_first` the flat index of element 0 (see DivergencePass).
    virtual void divergences(bool wide, const Operand& base, const Operand& other, int64_t row_first, int64_t rows,
                             int64_t columns, double* divergences) = 0;
    /// One factor per element of [first, first + count), in the lane's memory; operands hold whole rows around them.
    virtual const double* ranked_factors(bool wide, const RankedArguments& arguments) = 0;

    /// values[e / columns] for elements e of [first, first + count), in the lane's memory; values[0] is that of the row of
    /// element `first`.
    virtual const float* spread_rows(std::span<const float> values, int64_t columns, int64_t first, int64_t count) = 0;
    virtual const double* bring_numbers(std::span<const double> numbers) = 0;

    virtual int64_t count_nonfinite(const Operand& operand, int64_t count) = 0;
};

}  // namespace amalgam
