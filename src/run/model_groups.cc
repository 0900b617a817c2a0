#include "src/run/model_groups.h"

#include <algorithm>

#include "src/plan/plan.h"

namespace amalgam {

std::vector<int> model_groups(const Merge& merge, int groups) {
    std::vector<int> result(merge.models.size(), every_group);
    std::vector<long double> bytes(merge.models.size());
    std::vector<bool> base(merge.models.size()), seen(merge.models.size());
    std::vector<int> order;  // of first appearance among the inputs
    for (const TensorTask& task : merge.tasks) {
        if (task.base) base[size_t(task.base->model)] = true;
        for (const TaskInput& input : task.inputs) {
            const auto model = size_t(input.model);
            bytes[model] += static_cast<long double>(input_bytes(input, task.elements()));
            if (!seen[model]) order.push_back(input.model);
            seen[model] = true;
        }
    }
    std::erase_if(order, [&](int model) { return base[size_t(model)]; });
    std::sort(order.begin(), order.end());  // models are numbered by first mention in the recipe
    long double total = 0, before = 0;
    for (int model : order) total += bytes[size_t(model)];
    for (int model : order) {
        const long double middle = before + bytes[size_t(model)] / 2;
        const int share = total > 0 ? int(middle / total * groups) : 0;
        const int declared = merge.models[size_t(model)].group;
        result[size_t(model)] = declared >= 0 ? declared : std::clamp(share, 0, groups - 1);
        before += bytes[size_t(model)];
    }
    return result;
}

std::vector<ChainStage> chain_stages(const TensorTask& task, const std::vector<int>& group_of_model) {
    std::vector<ChainStage> stages;
    for (size_t i = 0; i < task.inputs.size(); ++i) {
        const int group = group_of_model[size_t(task.inputs[i].model)];
        if (!stages.empty() && (group == every_group || group == stages.back().group))
            stages.back().last = i + 1;
        else
            stages.push_back({std::max(group, 0), i, i + 1});
    }
    return stages;
}

}  // namespace amalgam
