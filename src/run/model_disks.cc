#include "src/run/model_disks.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/comm/together.h"
#include "src/plan/plan.h"
#include "src/run/fingerprint.h"
#include "src/run/model_groups.h"

namespace amalgam {
namespace {

std::vector<bool> used_models(const Merge& merge) {
    std::vector<bool> used(merge.models.size());
    for (const TensorTask& task : merge.tasks)
        for (const TaskInput* input : all_inputs(task)) used[size_t(input->model)] = true;
    return used;
}

void check_model(Files& own, const MergeModel& model, int group) {
    for (const CheckpointFile& file : model.checkpoint.files) {
        const FileStatus status = own.status(file.path);
        const std::string who = group == every_group ? "every group of ranks reads it"
                                                     : fmt::format("group {} of the ranks reads it", group);
        check(status.kind == FileKind::file,
              "{}: is not on the disk of this rank, though {}: put the model there, or set its group in the recipe",
              printable(file.path), who);
        check(status.bytes == file.bytes, "{}: has {} bytes on the disk of this rank and {} where its header was read",
              printable(file.path), status.bytes, file.bytes);
    }
}

/// Companion files are copied by rank 0 when the merge is done: too late to find out that they are elsewhere.
void check_companions(Files& own, const MergeModel& model) {
    check(own.status(model.checkpoint.path).kind != FileKind::missing,
          "{}: tokenizer and generation files are to come from this model, which is not on the disk of rank 0: put it "
          "there, or name a model that is there in tokenizer_source",
          printable(model.checkpoint.path));
}

}  // namespace

void check_disks(Files& own, const Merge& merge, const Grid& grid, const Communicator& world) {
    if (world.rank() == 0) check_companions(own, merge.models[size_t(merge.tokenizer_donor)]);
    if (world.node_rank() != 0 && grid.row_of(world.rank()) != 0) return;
    const std::vector<int> groups = model_groups(merge, grid.groups);
    const std::vector<bool> used = used_models(merge);
    for (size_t model = 0; model < groups.size(); ++model)
        if (used[model] && (groups[model] == every_group || groups[model] == grid.group_of(world.rank())))
            check_model(own, merge.models[model], groups[model]);
}

std::vector<std::string> file_fingerprints(Communicator& world, const Merge& merge, const Grid& grid) {
    const std::vector<int> groups = model_groups(merge, grid.groups);
    // With one group the recipe's groups do not count.
    const auto owner = [&](size_t model) { return grid.groups == 1 ? 0 : grid.rank_of(std::max(groups[model], 0), 0); };
    std::string own;
    together(world, [&] {
        for (size_t model = 0; model < groups.size(); ++model)
            if (owner(model) == world.rank())
                for (const CheckpointFile& file : merge.models[model].checkpoint.files)
                    own += fingerprint(file.path, file.header_hash).text() + '\n';
    });
    std::vector<std::string> texts = {own};
    if (grid.groups > 1) texts = world.gather(own, 0);
    std::vector<std::string> result;
    if (world.rank() != 0) return result;
    std::vector<size_t> at(texts.size());
    for (size_t model = 0; model < groups.size(); ++model) {
        const auto rank = size_t(owner(model));
        for (size_t file = 0; file < merge.models[model].checkpoint.files.size(); ++file) {
            const size_t end = texts[rank].find('\n', at[rank]);
            check(end != std::string::npos, "rank {} sent too few fingerprints: this is a bug of amalgam", rank);
            result.push_back(texts[rank].substr(at[rank], end - at[rank]));
            at[rank] = end + 1;
        }
    }
    return result;
}

}  // namespace amalgam
