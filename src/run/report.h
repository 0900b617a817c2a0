// What a merge tells afterwards: a JSON report, a summary for a person, a model card.
#pragma once
#include <string>

#include "src/checkpoint/layout.h"
#include "src/checkpoint/output_folder.h"
#include "src/recipe/recipe_copy.h"
#include "src/recipe/resolve.h"
#include "src/run/merge_job.h"
#include "src/run/merger.h"

namespace amalgam {

/// Beside the totals of all ranks.
struct RunFacts {
    int ranks = 1, model_groups = 1, threads = 1;
    uint64_t memory = 0, peak_memory = 0;  ///< budget, and largest resident set of any rank
    double open_seconds = 0, sync_seconds = 0, total_seconds = 0;
    double slowest_statistics = 0, slowest_fold = 0;  ///< of any rank
    std::string version, compiler, mpi, device = "cpu";
    double memory_speed = 0;  ///< bytes per second of all ranks together; 0: not known
};

/// Totals as bytes, to be sent to rank 0 and added there.
std::string pack_totals(const MergeTotals& totals);
void add_packed_totals(MergeTotals& sum, const std::string& bytes);

/// JSON text. `totals` are those of all ranks, with the digests of every block.
std::string report_text(const Merge& merge, const Recipe& recipe, const RecipeCopy& copy, const OutputLayout& layout,
                        const MergeTotals& totals, const RunFacts& facts);
/// A few lines for a person.
std::string summary_text(const Merge& merge, const OutputLayout& layout, const MergeTotals& totals,
                         const RunFacts& facts, const std::string& out);
/// Sums over all tensors.
OutputCounts wrong_outputs(const MergeTotals& totals);
/// What is not finite, or was cut: inputs a line each, at most `most`, and a line on the result for each kind.
std::vector<std::string> wrong_lines(const Merge& merge, const MergeTotals& totals, size_t most);
/// Why --fail-on-nonfinite ends the merge; "" if everything is finite.
std::string nonfinite_refusal(const Merge& merge, const MergeTotals& totals);

ModelCard merge_card(const Merge& merge, const RecipeCopy& copy, const MergeOptions& options,
                     const std::string& version);

}  // namespace amalgam
