// Scores merges that are never written, one after the other, on a group of ranks.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/base/files.h"
#include "src/base/thread_pool.h"
#include "src/comm/communicator.h"
#include "src/evaluate/checkpoint_reader.h"
#include "src/evaluate/evaluate.h"
#include "src/recipe/recipe.h"
#include "src/recipe/resolve.h"
#include "src/run/candidate_maker.h"

namespace amalgam {

/// Files whose answers are remembered, so that the recipes of many candidates read the headers of their models once.
std::unique_ptr<Files> remembering_files(Files& source);

struct EvaluatorSettings {
    uint64_t memory = 0;    ///< bytes for all that is kept and worked on; the mapped models come on top
    bool is_guess = false;  ///< what needs more memory is scored all the same, with a warning; else it is an Error
    bool allow_unknown = false;
    ResolveOptions rules;  ///< for models that do not fit together
    /// What to compute with, once it is known what the model is; throws Error for what this processor cannot do.
    std::function<Compute(const DecoderCheckpoint&)> compute;
    /// Told what a person should know of a candidate, before it is scored; may be empty.
    std::function<void(const std::string&)> warn;
    EvaluationDevice* device = nullptr;  ///< scores with these ranks, and outlives the evaluator; nullptr: the CPU does
};

/// What became of a candidate, and where its time went.
struct Scored {
    Evaluation evaluation;
    Compute compute = Compute::float32;
    bool resident = false;  ///< folded once as a whole, and kept as products want it
    bool spread = false;  ///< folded once, and kept by the ranks that folded it; else a layer at a time, for every pass
    double merge_seconds = 0;   ///< on this rank: folding, and passing tensors on
    double weight_seconds = 0;  ///< laying folded tensors out as products want them
    double forward_seconds = 0;
    double seconds = 0;  ///< all of it
    CandidateMaker::Counts counts;
};

/// Whether a candidate need not be asked the rest; the same on every rank.
using EnoughAsked = std::function<bool(const Evaluation& so_far)>;

/// All ranks of the group construct it and call score() with the same arguments, in the same order. Scores do not depend on
/// the group's size, threads or memory, and are those of the written merge.
class EvaluatorGroup {
  public:
    /// All outlive the evaluator.
    EvaluatorGroup(Files& files, ThreadPool& pool, Communicator& ranks, EvaluatorSettings settings);
    ~EvaluatorGroup();

    /// Throws Error, on every rank the same.
    Scored score(const Recipe& recipe, const std::string& name, const std::vector<Task>& tasks);
    /// Likewise, in rounds: each has some of the items of every task. `enough`, asked between them, ends it early.
    Scored score(const Recipe& recipe, const std::string& name, std::span<const std::vector<Task>> rounds,
                 const EnoughAsked& enough);
    Files& files() { return *files_; }
    Communicator& ranks() { return ranks_; }
    const CandidateMaker& maker() const { return maker_; }

  private:
    std::unique_ptr<Files> files_;
    ThreadPool& pool_;
    Communicator& ranks_;
    EvaluatorSettings settings_;
    CandidateMaker maker_;
};

}  // namespace amalgam
