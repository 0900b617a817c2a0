// What the folder of a search tells, while it goes on, after a kill, or at its end.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace amalgam {

// Numbers that are not there, or not finite, are NaN; texts that are not there are empty.

struct RunGene {
    std::string name, kind;
    double low = 0, high = 0;
};

struct RunTask {
    std::string name, metric;
    int64_t items = 0, heldout_items = 0;
};

struct RunTaskScore {
    double score = 0, likelihood = 0;
    std::string items;  ///< a character an item: 0 or 1, or digits of a graded score
};

struct RunEvaluation {
    int64_t id = 0, generation = 0, candidate = 0, duplicate_of = 0;  ///< duplicate_of: 0 for none
    int session = 0;                                                  ///< 0: the first start, 1: after the first kill
    int group = -1, attempt = 1;
    std::string phase, origin, set, recipe_hash, error;
    bool ok = false;
    double objective = 0, score = 0;
    double started = 0, ended = 0;  ///< seconds; time between sessions does not count
    std::vector<double> genome;
    std::vector<RunTaskScore> tasks;

    /// Drawn in the search, and not the same as one before: what a budget counts.
    bool counts() const;
};

struct RunGeneration {
    std::string phase;
    int64_t generation = 0, evaluations = 0;
    double best = 0, median = 0, time = 0;
    std::vector<double> mean_genome;
    std::vector<std::pair<std::string, double>> facts;
};

struct RunEvent {
    int session = 0, group = -1;
    double time = 0;  ///< seconds, like those of evaluations
    std::string text;
};

/// Of the winner, a source, the uniform merge or the constant answer.
struct RunScores {
    std::string name, origin, chosen_on, answer;
    double search = 0, heldout = 0, low = 0, high = 0, p = 0;
    std::string heldout_items;  ///< tasks one after the other
    std::vector<std::pair<std::string, double>> genome;
};

struct RunTaskResult {
    std::string name, metric;
    double weight = 0, search = 0, heldout = 0, low = 0, high = 0;
};

/// result.json
struct RunResult {
    int64_t evaluations = 0;
    double seconds = 0;
    std::string reason;
    RunScores best;
    std::vector<RunScores> sources;
    std::optional<RunScores> uniform, constant, random;
    std::vector<RunTaskResult> tasks;
};

/// A part of a search with genes of its own: PS, or DFS.
struct RunPhase {
    std::string name;
    std::vector<RunGene> genes;
};

struct RunStart {
    std::string key, space, optimiser, options;  ///< options: of the optimiser, as they stand in the journal
    uint64_t seed = 0;
    int64_t evaluations = 0, population = 0;
    double tie_breaker = 0, time = 0;  ///< time: seconds since 1970
    std::vector<RunGene> genes;
    std::vector<RunTask> tasks;
    std::vector<std::string> sources;
    std::string search_items, heldout_items;  ///< hashes of the items
};

struct Run {
    RunStart start;
    std::vector<RunPhase> phases;
    std::vector<RunEvaluation> evaluations;
    std::vector<RunGeneration> generations;
    std::vector<RunEvent> lost_groups, sessions;  ///< sessions after the first: where they begin
    int groups = 0;                               ///< of the last session, or those that answered
    bool ended = false;
    std::string end_reason;
    double end_seconds = 0;
    double seconds = 0;      ///< when the last record was written; time between sessions does not count
    int64_t unreadable = 0;  ///< records with a right checksum that are none of a search
    bool torn = false;       ///< something follows the last record

    /// Those of a phase; of one that the journal has no record of, those of the start.
    const std::vector<RunGene>& genes(const std::string& phase) const;
};

/// Reads a run folder, again and again if it grows.
class RunFolder {
  public:
    /// Throws Error if the folder has no journal.
    explicit RunFolder(std::string path);
    /// Reads what was written since. Throws Error if the journal cannot be read.
    void refresh();
    const Run& run() const { return run_; }
    /// result.json, if it is there and can be read; what it lacks is NaN. Throws Error if it is damaged.
    std::optional<RunResult> result() const;
    /// A file of the folder, at most `limit` bytes of it; empty if it is not there.
    std::string file(const std::string& name, uint64_t limit = uint64_t{1} << 20) const;
    const std::string& path() const { return path_; }

  private:
    void add(std::string_view line);
    void take_resumed(const nlohmann::json& json);

    std::string path_;
    uint64_t offset_ = 0;
    double session_start_ = 0;  ///< in seconds of all sessions
    Run run_;
};

/// Scores of items between 0 and 1, from their characters.
std::vector<double> item_scores(std::string_view characters);

}  // namespace amalgam
