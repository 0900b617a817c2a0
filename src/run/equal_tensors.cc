#include "src/run/equal_tensors.h"

#include <xxhash.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "src/base/error.h"
#include "src/comm/together.h"
#include "src/plan/plan.h"
#include "src/run/input_files.h"
#include "src/run/model_groups.h"

namespace amalgam {
namespace {

uint64_t hash_of(InputFiles& files, const TaskInput& input, int64_t elements) {
    const InputFile& file = files.get(input.model, input.tensor.file);
    const std::unique_ptr<XXH64_state_t, XXH_errorcode (*)(XXH64_state_t*)> state(XXH64_createState(), XXH64_freeState);
    XXH64_reset(state.get(), 0);
    const uint64_t end = input.tensor.begin + input_bytes(input, elements);
    constexpr uint64_t piece = uint64_t(1) << 20;
    for (uint64_t begin = input.tensor.begin; begin < end; begin += piece) {
        const uint64_t bytes = std::min(piece, end - begin);
        XXH64_update(state.get(), file.mapped() + begin, bytes);
        file.drop(begin, begin + bytes);
    }
    file.check_whole();
    return XXH64_digest(state.get());
}

/// The rank that reads an input: of those that have its model, one after the other.
int reader_of(const Grid& grid, int group, size_t number) {
    if (grid.groups == 1 || group == every_group) return int(number % size_t(grid.ranks));
    return grid.rank_of(group, int(number % size_t(grid.rows())));
}

}  // namespace

void check_equal_tensors(Communicator& world, const Merge& merge, const Grid& grid) {
    std::vector<const TensorTask*> tasks;
    size_t count = 0;
    for (const TensorTask& task : merge.tasks) {
        if (task.kind != TaskKind::equal || task.inputs.size() < 2) continue;
        tasks.push_back(&task);
        count += task.inputs.size();
    }
    if (tasks.empty()) return;
    std::vector<uint64_t> hashes(count);
    together(world, [&] {
        const std::vector<int> groups = model_groups(merge, grid.groups);
        InputFiles files(merge, ReadMode::mmap);
        size_t number = 0;
        for (const TensorTask* task : tasks)
            for (const TaskInput& input : task->inputs) {
                if (reader_of(grid, groups[size_t(input.model)], number) == world.rank())
                    hashes[number] = hash_of(files, input, task->elements());
                ++number;
            }
    });
    world.all_reduce_sum(std::span<uint64_t>(hashes));
    const auto reference = [&](const TaskInput& input) { return merge.models[size_t(input.model)].reference; };
    together(world, [&] {
        size_t number = 0;
        for (const TensorTask* task : tasks) {
            for (size_t i = 1; i < task->inputs.size(); ++i)
                check(hashes[number + i] == hashes[number],
                      "{}: {} and {} disagree on this {} tensor, which is never averaged; --integers base takes it "
                      "from {}",
                      task->name, reference(task->inputs[0]), reference(task->inputs[i]), info(task->dtype).name,
                      reference(task->inputs[0]));
            number += task->inputs.size();
        }
    });
}

}  // namespace amalgam
