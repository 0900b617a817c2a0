// A merge that is never written: its tensors are folded in memory, when a decoder asks for them.
#pragma once
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "src/checkpoint/output_config.h"
#include "src/comm/communicator.h"
#include "src/evaluate/weights.h"
#include "src/run/candidate_maker.h"
#include "src/run/model_trim.h"

namespace amalgam {

/// What a merge writes as config.json, and what to tell the user about it.
OutputConfig merged_config(const Merge& merge);

/// One candidate, on the ranks of a group: each folds its own tensors, and so reads its share of the models; what is read
/// comes from the rank that folded it. All ranks construct it, call its members and read from it in the same order.
class CandidateModel {
  public:
    /// All outlive the candidate and its readers; of the makers, each rank has its own.
    CandidateModel(CandidateMaker& maker, Communicator& ranks, const Merge& merge);
    ~CandidateModel();

    /// Folds every tensor now; they stay in memory, each on one rank. Else a tensor is folded when it is read, every time.
    void fold_all();
    /// Lets go of what fold_all() made.
    void clear() { folded_.clear(); }
    /// Its tensors. Throws Error for one that is not there or has another shape; on all ranks if one of them cannot fold.
    std::unique_ptr<TensorReader> reader();
    /// Time spent in folding and in passing tensors on, on this rank.
    double seconds() const { return seconds_; }

  private:
    class Reader;
    const TensorTask& task(const std::string& name) const;
    int owner(const TensorTask& task) const { return owners_[size_t(&task - merge_.tasks.data())]; }
    void find_trim();
    void fold(const std::vector<const TensorTask*>& tasks);
    TensorBytes take(const TensorTask& task);

    CandidateMaker& maker_;
    Communicator& ranks_;
    const Merge& merge_;
    WorkSettings settings_;
    std::unique_ptr<ModelTrim> trim_;
    std::map<std::string, size_t> places_;  ///< of tasks
    std::vector<int> owners_;               ///< by task: the rank that folds it
    std::map<const TensorTask*, TensorBytes> folded_;
    bool keep_ = false;
    double seconds_ = 0;
};

}  // namespace amalgam
