// A merge on the ranks of a grid: one merger, or two where groups read different models.
#pragma once
#include "src/plan/grid.h"
#include "src/run/merger.h"

namespace amalgam {

/// Carries out the whole merge. With several groups, folds pass from group to group, and all else exchanges its inputs
/// (design 4). Collective over `world`; throws as Merger::run() does. `settings`: its axis and filter are filled in here.
MergeTotals merge_on_grid(Communicator& world, int groups, const Merge& merge, const OutputLayout& layout,
                          InputFiles& inputs, OutputSink& outputs, Journal& journal, const JournalContents& finished,
                          MergerSettings settings);

}  // namespace amalgam
