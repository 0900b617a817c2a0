// The groups of ranks that score a search's candidates: in this process, or behind MPI.
#pragma once
#include <memory>

#include "src/comm/communicator.h"
#include "src/search/controller.h"

namespace amalgam {

/// One group: this process, which works when it is handed a job.
std::unique_ptr<SearchGroups> groups_in_process(ScoreInstruction score);

/// The groups as rank 0 sees them: `count` of equal size, of the ranks behind it. Ranks that are left over idle. It talks to
/// the first rank of each group alone, and never waits for one.
class RankGroups : public SearchGroups {
  public:
    /// Whether every rank answers within half a minute: a group whose work another one did is not known to be lost, nor is one
    /// that had nothing to do.
    virtual bool all_answer() = 0;
    /// Tells all ranks behind rank 0 to end, and whether they `join` in what comes then. Does not wait long for those that do
    /// not listen.
    virtual void retire(bool join) = 0;
};
std::unique_ptr<RankGroups> groups_of_ranks(Communicator& world, int count);

/// On the ranks behind rank 0: the group this one belongs to, nullptr if it is left over.
std::unique_ptr<Communicator> own_group(Communicator& world, int count);
/// Works for rank 0 until it retires the group, and says whether to join; collective over the group. An Error of `score` that
/// all its ranks agree on is a failed candidate. Throws Error if rank 0 has not been heard of for AMALGAM_NETWORK_SECONDS: idle
/// groups hear of it every few seconds.
bool serve_search(Communicator& world, Communicator& group, const ScoreInstruction& score);

/// The end for a rank that is left over.
bool wait_for_retirement(Communicator& world);

}  // namespace amalgam
