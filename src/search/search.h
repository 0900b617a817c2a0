// A search from its configuration to its winner. What is evaluated, and what is told to the optimiser, depends on the
// configuration and the answers alone: not on groups, not on how often it was interrupted.
#pragma once
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/evaluate/task.h"
#include "src/search/controller.h"
#include "src/search/messages.h"
#include "src/search/optimiser.h"
#include "src/search/recipe_space.h"
#include "src/search/search_config.h"
#include "src/search/search_state.h"

namespace amalgam {

/// What a search works on, opened.
struct SearchInputs {
    SearchConfig config;
    std::vector<Task> search, validation, heldout;  ///< by task; validation and heldout may be empty
    int64_t layers = 0;                             ///< of the merges
    std::vector<PathModel> sources;                 ///< the models of the recipe
    std::vector<std::string> fingerprints;          ///< of the files of all models, the base's too
    std::string compute;                            ///< how scores are computed, as far as it decides their last digits
};

/// How a search reaches the world.
struct SearchWorld {
    SearchGroups* groups = nullptr;
    /// Appends to the journal; with `sync`, everything so far is on the disk when it returns.
    std::function<void(const std::string& record, bool sync)> append;
    /// Writes a checkpoint and returns its place; of searches in two steps.
    std::function<std::string(const Recipe& recipe, const std::string& name)> write_checkpoint;
    /// Keeps the state between generations, so that a restart need not go through all of them again; and the last one kept.
    std::function<void(const SearchState& state)> save;
    std::optional<SearchState> saved;
    int64_t date = 0;  ///< of this start, seconds since 1970
    /// Asked between candidates: whether to stop, to go on another time.
    std::function<bool()> interrupted;
    ControllerSettings controller;
};

/// A model or merge and what it scores; on held-out items only if there are any.
struct Contender {
    std::string name, origin;  ///< origin: drawn, injected, mean, source, uniform
    Recipe recipe;
    std::vector<double> genome;
    double objective = 0;
    Answer search;
    std::optional<Answer> heldout;
    std::string error;       ///< why it has no scores; of the winner: none on held-out items
    double chosen_by = NAN;  ///< of the winner: its objective on the items that it was chosen on
};

/// Interval of an answer's score, 95 %, each task with its share of the score.
std::pair<double, double> answer_interval(const Answer& answer, const std::vector<Task>& tasks);
/// How probable it is that two answers to the same items differ so much if neither is better: the exact sign test of one
/// task, of several the sign-flip test of their weighted differences.
double answer_difference(const Answer& one, const Answer& other, const std::vector<Task>& tasks);

/// The best answer that does not look at the question, by task.
struct ConstantAnswer {
    std::string answer;  ///< as token ids, or the number of a choice
    Answer search;
    std::optional<Answer> heldout;
};

struct SearchResult {
    bool complete = false;  ///< false: interrupted
    std::string reason;
    int64_t evaluations = 0;
    double seconds = 0;
    std::string space;
    std::vector<std::string> gene_names;
    Contender best;
    std::string chosen_on = "search";
    std::vector<Contender> sources;
    Contender uniform;
    std::optional<ConstantAnswer> constant;
    std::vector<Contender> front;  ///< of several tasks: those that no other one beats in all of them, the best first
    int groups = 0;
};

/// `records`: of the journal so far, whose answers are not asked for again. Throws Error.
SearchResult run_search(const SearchInputs& inputs, SearchWorld& world, const std::vector<std::string>& records);

/// The text of result.json.
std::string result_json(const SearchInputs& inputs, const SearchResult& result);

/// Of exact match, last numbers and choices; nothing if there are other tasks.
std::optional<ConstantAnswer> best_constant(const std::vector<Task>& search, const std::vector<Task>& heldout);

}  // namespace amalgam
