#include "src/plan/plan.h"

#include <algorithm>

namespace amalgam {

uint64_t input_bytes(const TaskInput& input, int64_t count) {
    return uint64_t(count) * uint64_t(info(input.tensor.dtype).bits) / 8;
}

std::vector<const TaskInput*> all_inputs(const TensorTask& task) {
    std::vector<const TaskInput*> inputs;
    if (task.base) inputs.push_back(&*task.base);
    for (const TaskInput& input : task.inputs) inputs.push_back(&input);
    return inputs;
}

namespace {

/// Bytes of the first `elements` elements of the output of a task.
uint64_t output_bytes(const TensorTask& task, int64_t elements) {
    return uint64_t(elements) * uint64_t(info(task.dtype).bits) / 8;
}

uint64_t task_traffic(const TensorTask& task) {
    const int64_t elements = task.elements();
    uint64_t bytes = output_bytes(task, elements);
    for (const TaskInput* input : all_inputs(task)) bytes += input_bytes(*input, elements);
    return bytes;
}

}  // namespace

ShardPlan::ShardPlan(std::span<const TensorTask> tasks, const OutputLayout& layout, int ranks)
    : tasks_(tasks), layout_(layout), ranks_(ranks) {
    long double total = 0;
    for (const TensorTask& task : tasks) {
        traffic_.push_back(task_traffic(task));
        total += static_cast<long double>(traffic_.back());
    }
    blocks_.push_back({0, 0});
    long double before = 0;
    size_t task = 0;
    for (int rank = 1; rank < ranks; ++rank) {
        const long double wanted = total * rank / ranks;
        while (task < tasks.size() && before + static_cast<long double>(traffic_[task]) <= wanted)
            before += static_cast<long double>(traffic_[task++]);
        BlockPlace place{int64_t(task), 0};
        if (task < tasks.size()) {
            // The nearest border of a block; the last block may be short.
            int64_t elements = tasks[task].elements(), blocks = block_count(elements);
            long double share = (wanted - before) / static_cast<long double>(traffic_[task]);
            long double border = share * static_cast<long double>(elements) / static_cast<long double>(block_elements);
            place.block = std::clamp<int64_t>(int64_t(border + 0.5L), 0, blocks);
            if (place.block == blocks) place = {int64_t(task) + 1, 0};
        }
        blocks_.push_back(std::max(place, blocks_.back()));
    }
    blocks_.push_back({int64_t(tasks.size()), 0});

    const BytePlace end{int(layout.files.size()), 0};
    bytes_.push_back({0, 0});
    for (int rank = 1; rank < ranks; ++rank) {
        BytePlace place = byte_of(blocks_[size_t(rank)]);
        if (place < end) {
            uint64_t page = (place.byte + page_bytes - 1) / page_bytes * page_bytes;
            place.byte = page;
            if (page >= layout.files[size_t(place.file)].bytes) place = {place.file + 1, 0};
        }
        bytes_.push_back(std::max(place, bytes_.back()));
    }
    bytes_.push_back(end);
}

BytePlace ShardPlan::byte_of(const BlockPlace& place) const {
    if (place.task == int64_t(tasks_.size())) return {int(layout_.files.size()), 0};
    const auto& at = layout_.places[size_t(place.task)];
    return {at.file, at.begin + output_bytes(tasks_[size_t(place.task)], place.block * block_elements)};
}

TaskPart ShardPlan::part(int rank, int64_t task) const {
    const TensorTask& what = tasks_[size_t(task)];
    const auto& place = layout_.places[size_t(task)];
    const int64_t blocks = block_count(what.elements());
    TaskPart part;
    part.task = task;
    auto block_within = [&](const BlockPlace& border) {
        return border.task < task ? 0 : border.task > task ? blocks : border.block;
    };
    part.own_first = block_within(blocks_[size_t(rank)]);
    part.own_last = block_within(blocks_[size_t(rank) + 1]);
    auto byte_within = [&](const BytePlace& border) {
        if (border.file != place.file) return border.file < place.file ? place.begin : place.begin + place.bytes;
        return std::clamp(border.byte, place.begin, place.begin + place.bytes);
    };
    part.write_begin = byte_within(bytes_[size_t(rank)]);
    part.write_end = byte_within(bytes_[size_t(rank) + 1]);
    if (part.write_begin < part.write_end) {
        const uint64_t per_block = output_bytes(what, block_elements);
        part.first = int64_t((part.write_begin - place.begin) / per_block);
        part.last = int64_t((part.write_end - place.begin + per_block - 1) / per_block);
    }
    return part;
}

ShardPlan ShardPlan::joined(int group) const {
    ShardPlan plan = *this;
    plan.ranks_ = ranks_ / group;
    plan.blocks_.clear();
    plan.bytes_.clear();
    for (size_t border = 0; border < blocks_.size(); border += size_t(group)) {
        plan.blocks_.push_back(blocks_[border]);
        plan.bytes_.push_back(bytes_[border]);
    }
    return plan;
}

int ShardPlan::first_rank(int64_t task) const {
    const auto& place = layout_.places[size_t(task)];
    const BlockPlace block{task, 0};
    const BytePlace byte{place.file, place.begin};
    int low = 0, high = ranks_;
    while (low < high) {
        int middle = (low + high) / 2;
        bool begun = blocks_[size_t(middle) + 1] > block || bytes_[size_t(middle) + 1] > byte;
        (begun ? high : low) = begun ? middle : middle + 1;
    }
    return low;
}

int ShardPlan::last_rank(int64_t task) const {
    const auto& place = layout_.places[size_t(task)];
    const BlockPlace block{task + 1, 0};
    const BytePlace byte{place.file, place.begin + place.bytes};
    int low = 0, high = ranks_;
    while (low < high) {
        int middle = (low + high) / 2;
        bool before_end = blocks_[size_t(middle)] < block || bytes_[size_t(middle)] < byte;
        (before_end ? low : high) = before_end ? middle + 1 : middle;
    }
    return low;
}

std::vector<TaskPart> ShardPlan::parts(int rank) const {
    std::vector<TaskPart> result;
    for (int64_t task = blocks_[size_t(rank)].task; task < int64_t(tasks_.size()); ++task) {
        if (tasks_[size_t(task)].elements() == 0) continue;
        // Ranks between two that have a part of a tensor count as having one: they join its collectives.
        TaskPart mine = part(rank, task);
        mine.first_rank = first_rank(task);
        mine.last_rank = last_rank(task);
        if (mine.first_rank > rank) break;
        if (rank < mine.last_rank) result.push_back(mine);
    }
    return result;
}

}  // namespace amalgam
