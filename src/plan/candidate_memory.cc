#include "src/plan/candidate_memory.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "src/plan/plan.h"

namespace amalgam {

CandidateMemory candidate_memory(const std::vector<TensorTask>& tasks, const MethodInfo& method, int ranks) {
    CandidateMemory memory;
    const bool ordered = method.trim == Trim::magnitude || method.trim == Trim::band;
    std::map<std::pair<std::string, int64_t>, uint64_t> layers;
    uint64_t bytes = 0, elements = 0;
    for (const TensorTask& task : tasks) {
        const auto count = uint64_t(task.elements());
        bytes += task.bytes();
        elements += count;
        for (const TaskInput* input : all_inputs(task)) memory.models += input_bytes(*input, task.elements());
        if (ordered && task.kind == TaskKind::merge) memory.orders += count * 2 * task.inputs.size();
        const uint64_t both = task.bytes() + count * sizeof(float);
        // Tensors of no layer come one at a time.
        uint64_t& layer =
            layers[task.layer < 0 ? std::pair(task.name, int64_t(-1)) : std::pair(task.tower, task.layer)];
        layer += both;
        memory.streamed = std::max(memory.streamed, layer);
    }
    const auto share = uint64_t(ranks);
    memory.models /= share;
    memory.orders /= share;
    memory.resident = bytes / share + elements * sizeof(float);
    memory.spread = bytes / share + memory.streamed;
    return memory;
}

}  // namespace amalgam
