// The kinds of work, one file each; make_work() picks.
#pragma once
#include <memory>

#include "src/run/tensor_work.h"

namespace amalgam {

std::unique_ptr<TensorWork> make_copy_work(const TensorTask& task, const WorkSettings& settings);
std::unique_ptr<TensorWork> make_gta_work(const TensorTask& task, const WorkSettings& settings, const ModelTrim* trim);
/// linear, passthrough with scale, nearswap, ram, ramplus_tl.
std::unique_ptr<TensorWork> make_fold_work(const TensorTask& task, const WorkSettings& settings);
/// slerp, multislerp, karcher, nuslerp and model_stock of whole tensors.
std::unique_ptr<TensorWork> make_blend_work(const TensorTask& task, const WorkSettings& settings);
/// nuslerp and model_stock row by row.
std::unique_ptr<TensorWork> make_row_blend_work(const TensorTask& task, const WorkSettings& settings);
/// nuslerp column by column.
std::unique_ptr<TensorWork> make_column_blend_work(const TensorTask& task, const WorkSettings& settings);
std::unique_ptr<TensorWork> make_sce_work(const TensorTask& task, const WorkSettings& settings);
std::unique_ptr<TensorWork> make_fusion_work(const TensorTask& task, const WorkSettings& settings);

/// Elements at the top that a band drops, and elements it keeps below them (mergekit 1.6).
struct Counts {
    int64_t top = 0, keep = 0;
};
Counts band_counts(int64_t n, double density, double gamma);

}  // namespace amalgam
