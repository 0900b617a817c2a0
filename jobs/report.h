// Parts of the page that `amalgam report` writes, as data for its script. Numbers that are not known are null.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "jobs/json.h"
#include "src/search/run_folder.h"

namespace amalgam {

/// A run that the page's is compared with.
struct OtherRun {
    std::string name;
    Run run;
    std::optional<RunResult> result;
    size_t kind = 0;        ///< place among the kinds of runs; 0: that of the page's run, but for the seed
    std::string kind_name;  ///< of all runs of the kind
};

/// Best, sources, uniform merge, constant answer: name, kind, title, scores, interval, p. Without a result the best so far only.
Json contenders_json(const Run& run, const std::optional<RunResult>& result);
/// A sentence or two for readers in a hurry.
std::string headline_text(const Run& run, const std::optional<RunResult>& result);
Json tasks_json(const Run& run, const std::optional<RunResult>& result);
/// Held-out items by contender, and how the winner does where its two best sources are right or wrong; null without them.
Json items_json(const Run& run, const std::optional<RunResult>& result);
Json failures_json(const Run& run);
Json settings_json(const Run& run, const std::optional<RunResult>& result);

/// Adds points, running best, medians of generations, borders of phases, scores to compare with, and the other runs' courses.
void add_progress(Json& data, const Run& run, const std::optional<RunResult>& result,
                  const std::vector<OtherRun>& others);
/// Genes and the optimiser's facts over generations, by phase.
/// Finds out which runs differ in their seed only, and names each kind. `run` is the page's.
void tell_kinds(const OtherRun& run, std::vector<OtherRun>& others);
/// Final scores beside those of other runs, with tests paired over items and, for several runs of a kind, over seeds.
Json comparison_json(const OtherRun& run, const std::vector<OtherRun>& others);
Json phases_json(const Run& run, const std::optional<RunResult>& result);
Json timing_json(const Run& run);

/// The best candidate so far by its objective; null if there is none.
const RunEvaluation* best_so_far(const Run& run);
/// What a budget counts.
int64_t counted_evaluations(const Run& run);
/// A number with so many digits; null if it is not finite.
Json rounded(double value, int digits = 6);
/// Whether all scores are shares of a whole.
bool are_shares(const Run& run, const std::optional<RunResult>& result);
/// "74.2 %" or "0.7421"
std::string score_text(double score, bool percent);

/// "once", "3 times"
std::string times_text(size_t count);

/// The page's files, which stand in jobs/report_page/.
extern const std::string_view report_html, report_style, report_script;

}  // namespace amalgam
