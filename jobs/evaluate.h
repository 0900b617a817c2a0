// What `amalgam evaluate` does by itself and what it leaves to programs of the user's have in common.
#pragma once
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "jobs/command_line.h"
#include "jobs/json.h"
#include "src/base/files.h"
#include "src/comm/communicator.h"
#include "src/evaluate/checkpoint_reader.h"
#include "src/evaluate/evaluate.h"
#include "src/recipe/resolve.h"

namespace amalgam {

/// A line of a list of candidates.
struct CandidateLine {
    std::string recipe;
    std::vector<std::string> set;
};

/// Throws Error with path and line.
std::vector<CandidateLine> read_list(Files& files, const std::string& path);

/// Throws Error if the file cannot be written.
void write_json(const std::string& path, const std::string& text);
/// Where --json says, and the table unless that is standard output.
void write_scores(const Arguments& arguments, const Json& json, const std::string& table);

Json evaluation_json(const Evaluation& evaluation, const std::string& model, Compute compute,
                     const EvaluationDevice& device);
std::string evaluation_text(const Evaluation& evaluation);
/// Throws Error for what the processor cannot do.
Compute choose_compute(const Arguments& arguments, const DecoderCheckpoint& model, bool has_bfloat16);
/// What --device says; `pool` outlives it. Ranks of one machine share out its GPUs; with `ranks`, these work together, which
/// GPUs do not: "auto" then says why the CPU is taken.
std::unique_ptr<EvaluationDevice> choose_device(const Arguments& arguments, ThreadPool& pool, const Communicator& all,
                                                Communicator* ranks);
/// What --on-mismatch and --integers say.
ResolveOptions resolve_options(const Arguments& arguments);
int thread_count(const Arguments& arguments, const Communicator& ranks);

/// What is to be scored. Throws UsageError unless it is one of MODEL, --recipe and --recipes.
void check_candidates(const Arguments& arguments);

/// What candidates give cause for: each thing is said once, and no more than a few of them.
class Warnings {
  public:
    void say(const std::string& warning);

  private:
    std::set<std::string> said_;
};

/// Scores the candidates of --recipes, each on one of the groups that `ranks` are divided into, and writes what came of them.
/// `score` gives an object with "score", or throws Error.
struct CandidateGroups {
    Communicator& ranks;
    int count = 1, own = 0;        ///< groups, and which of them this rank is in
    bool leads = true;             ///< this rank speaks for its group
    Warnings* warnings = nullptr;  ///< to say what candidates have under "warnings"
};
using ScoreCandidate = std::function<Json(const std::string& recipe, const std::vector<std::string>& set)>;
void score_list(const Arguments& arguments, const std::vector<CandidateLine>& lines, const CandidateGroups& groups,
                const ScoreCandidate& score);

/// Scores --recipe or --recipes in memory.
void evaluate_candidates(const Arguments& arguments, Files& files, const std::vector<Task>& tasks, Communicator& ranks);

/// Whether --command or --worker is given. Throws UsageError if it is with options that it has no use for, or options that
/// belong to it are given without it.
bool is_external(const Arguments& arguments);

/// Scores by that program.
void evaluate_externally(const Arguments& arguments, Files& files, Communicator& ranks);

}  // namespace amalgam
