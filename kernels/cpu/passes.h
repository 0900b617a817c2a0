// Every pass on the CPU: one call works through one block on the calling thread.
#pragma once
#include <cstdint>

#include "kernels/fold_kind.h"
#include "kernels/fold_pass.h"
#include "kernels/gram_pass.h"
#include "kernels/key_pass.h"
#include "kernels/ranked.h"
#include "kernels/row_pass.h"
#include "kernels/select_pass.h"

namespace amalgam::cpu {

/// `wide`: compute in double.
FoldCounts fold(FoldKind kind, Sparsifier sparsifier, bool wide, const FoldArguments& arguments);

/// One coefficient per column: out = sum over inputs of coefficient[input][column] x input (plus base, if given, for
/// task vectors); `column` is that of element 0.
FoldCounts fold_columns(bool wide, const FoldArguments& arguments, const double* coefficients, int64_t columns,
                        int64_t column);

void norms(Sparsifier sparsifier, bool wide, const FoldArguments& arguments, double* totals);
void gram(bool wide, const GramArguments& arguments, GramScratch& scratch, double* products);
void count_keys(KeyKind kind, bool wide, const KeyArguments& arguments, const KeyStream* streams, int stream_count,
                KeyCounts* counts);
/// Keys of one stream, in order, as 64-bit numbers.
void extract_keys(KeyKind kind, bool wide, const KeyArguments& arguments, int input, uint64_t* out);
void energies(bool wide, const SelectArguments& arguments, double* totals, double* scratch);
FoldCounts sce(bool wide, const SelectArguments& arguments);
FoldCounts fusion(bool wide, const SelectArguments& arguments);
void changes(bool wide, const KeyArguments& arguments, double epsilon, int64_t* shared, int64_t* unique);
double divergence(bool wide, const DivergenceArguments& arguments);

/// One factor per element wanted (see ranked.h).
void ranked_factors(bool wide, const RankedArguments& arguments, double* factors);

/// 16 random bits for each element from `first`, a multiple of 8, on; `count` is a multiple of 256. Element i has the low
/// (i even) or high half of words[i / 2].
void draws(const MaskAddress& address, int64_t first, int64_t count, uint32_t* words);

/// NaN and infinite elements.
int64_t count_nonfinite(const Operand& operand, int64_t count);
/// Elements in another dtype, rounded once. Returns what was cut to the largest FP8 number.
int64_t convert(const Operand& from, void* to, Dtype to_dtype, int64_t count);

/// sums[3 c], [3 c + 1], [3 c + 2] += a a, a b, b b in column c, rows ascending; a and b are the two inputs (less the
/// base, if given); `column` is that of element 0. Elements that are not finite count as 0.
void column_products(bool wide, const GramArguments& arguments, int64_t columns, int64_t column, double* sums);

}  // namespace amalgam::cpu
