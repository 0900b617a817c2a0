// What scoring a merge in memory takes of every rank, before anything is read.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/method_info.h"
#include "src/plan/tensor_task.h"

namespace amalgam {

/// Bytes on each rank of a group that scores a candidate together; upper bounds. A candidate is resident if that fits into
/// three quarters of the budget (fits()), else streamed.
struct CandidateMemory {
    uint64_t models = 0;    ///< of the inputs, mapped: the rank's share; not counted in the budget
    uint64_t orders = 0;    ///< orders of magnitudes, from which thresholds of any density are looked up
    uint64_t resident = 0;  ///< the candidate spread over the ranks in its dtype, and on each as products want it
    uint64_t streamed = 0;  ///< the largest layer, embedding or head instead

    bool fits(uint64_t budget) const { return resident <= budget / 4 * 3; }
    /// The smallest budget in which it can be scored at all.
    uint64_t least_budget() const { return (std::min(resident, streamed) + 2) / 3 * 4; }
    /// What the budget leaves for texts while they are computed.
    uint64_t room(uint64_t budget, bool as_resident) const {
        // A resident candidate needs nothing more to fold with, and what was learnt of the models takes an eighth at most.
        const uint64_t taken = as_resident ? budget / 8 + resident : budget / 4 + streamed;
        return budget - std::min(budget, taken);
    }
};

CandidateMemory candidate_memory(const std::vector<TensorTask>& tasks, const MethodInfo& method, int ranks);

}  // namespace amalgam
