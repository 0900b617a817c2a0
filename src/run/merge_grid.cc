#include "src/run/merge_grid.h"

#include "src/run/model_groups.h"

namespace amalgam {

namespace {
void add(MergeTotals& sum, MergeTotals&& part) {
    sum.bytes_read += part.bytes_read;
    sum.bytes_written += part.bytes_written;
    sum.bytes_resumed += part.bytes_resumed;
    sum.stopped |= part.stopped;
    sum.emptied_inputs += part.emptied_inputs;
    sum.unchanged += part.unchanged;
    sum.folded += part.folded;
    sum.statistics_seconds += part.statistics_seconds;
    sum.fold_seconds += part.fold_seconds;
    sum.resume_seconds += part.resume_seconds;
    sum.statistics_bytes += part.statistics_bytes;
    sum.threads.add(part.threads);
    for (const auto& [place, count] : part.nonfinite_inputs) sum.nonfinite_inputs[place] += count;
    for (const auto& [task, counts] : part.outputs) sum.count_output(task, counts);
    sum.digests.insert(sum.digests.end(), part.digests.begin(), part.digests.end());
}
}  // namespace

MergeTotals merge_on_grid(Communicator& world, int groups, const Merge& merge, const OutputLayout& layout,
                          InputFiles& inputs, OutputSink& outputs, Journal& journal, const JournalContents& finished,
                          MergerSettings settings) {
    const ShardPlan plan(merge.tasks, layout, world.size());
    if (groups == 1) return Merger(world, merge, layout, plan, inputs, outputs, journal, finished, settings).run();

    const Grid grid{world.size(), groups};
    const int group = grid.group_of(world.rank()), row_number = grid.row_of(world.rank());
    const std::unique_ptr<Communicator> shards = world.renumber(grid.shard_of(world.rank()));
    const std::unique_ptr<Communicator> row = shards->range(row_number * groups, (row_number + 1) * groups);
    settings.axis.row = row.get();
    settings.axis.group_of_model = model_groups(merge, groups);

    MergeTotals totals;
    if (folds_in_links(*merge.method)) {
        const std::unique_ptr<Communicator> column = shards->every(group, world.size(), groups);
        const ShardPlan rows = plan.joined(groups);
        MergerSettings links = settings;
        links.axis.link_plan = &plan;
        links.filter = TaskFilter::merges;
        for (int of_model : settings.axis.group_of_model)
            links.work.here.push_back(of_model == every_group || of_model == group);
        add(totals, Merger(*column, merge, layout, rows, inputs, outputs, journal, finished, links).run());
        if (totals.stopped) settings.stop = [] { return true; };
        settings.filter = TaskFilter::copies;
    }
    add(totals, Merger(*shards, merge, layout, plan, inputs, outputs, journal, finished, settings).run());
    return totals;
}

}  // namespace amalgam
