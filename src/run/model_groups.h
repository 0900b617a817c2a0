// Which group of ranks reads which model (design 4: the model axis).
#pragma once
#include <vector>

#include "src/plan/tensor_task.h"
#include "src/recipe/resolve.h"

namespace amalgam {

constexpr int every_group = -1;

/// By model of the merge: its group, or every_group for those that are a task's base. What the recipe does not say is shared
/// out in recipe order, contiguous runs of about equal bytes.
std::vector<int> model_groups(const Merge& merge, int groups);

/// Consecutive inputs of a task that lie in one group.
struct ChainStage {
    int group = 0;
    size_t first = 0, last = 0;  ///< [first, last) of the task's inputs
};

/// The inputs of a task in order. An input that lies in every group joins the stage before it.
std::vector<ChainStage> chain_stages(const TensorTask& task, const std::vector<int>& group_of_model);

}  // namespace amalgam
