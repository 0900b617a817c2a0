// What scoring a merge in memory takes of every rank, before anything is read.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/method_info.h"
#include "src/plan/tensor_task.h"

namespace amalgam {

/// Bytes on each rank of a group that scores a candidate together; upper bounds. A candidate is resident if that fits into
/// three quarters of the budget (fits()), else spread over the group if that does, else streamed.
struct CandidateMemory {
    uint64_t models = 0;    ///< of the inputs, mapped: the rank's share; not counted in the budget
    uint64_t orders = 0;    ///< orders of magnitudes, from which thresholds of any density are looked up
    uint64_t resident = 0;  ///< the candidate spread over the ranks in its dtype, and on each as products want it
    uint64_t spread = 0;    ///< the candidate spread over the ranks, and the largest layer as products want it
    uint64_t streamed = 0;  ///< the largest layer, embedding or head instead

    bool fits(uint64_t budget) const { return resident <= budget / 4 * 3; }
    bool fits_spread(uint64_t budget) const { return spread <= budget / 4 * 3; }
    /// The smallest budget in which it can be scored at all.
    uint64_t least_budget() const { return (std::min(resident, streamed) + 2) / 3 * 4; }
    /// What the budget leaves for texts while they are computed, if the candidate takes so much of it. One that is folded once
    /// needs nothing more to fold with, and what was learnt of the models takes an eighth at most.
    static uint64_t room(uint64_t budget, uint64_t taken, bool folded_once) {
        return budget - std::min(budget, taken + (folded_once ? budget / 8 : budget / 4));
    }
    /// The same, for the way that the budget allows.
    uint64_t room(uint64_t budget) const {
        if (fits(budget)) return room(budget, resident, true);
        return fits_spread(budget) ? room(budget, spread, true) : room(budget, streamed, false);
    }
};

CandidateMemory candidate_memory(const std::vector<TensorTask>& tasks, const MethodInfo& method, int ranks);

}  // namespace amalgam
