#include "src/run/merger_links.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "src/base/error.h"

namespace amalgam {

namespace {
uint64_t planes_bytes(const TensorWork& work, const TensorTask& task, int64_t count) {
    return uint64_t(fold_planes(work.link_kind())) * uint64_t(count) * (computes_in_double(task) ? 8 : 4);
}
}  // namespace

Merger::~Merger() = default;

void Merger::open_axis() {
    if (!settings_.axis.row) return;
    if (settings_.axis.link_plan) {
        transport_ = settings_.axis.row->device_transport(*settings_.device);
        links_ = std::make_unique<Links>(*this);
    } else {
        transport_ = settings_.axis.row->transport();
    }
}

Merger::Links::Links(Merger& owner) : merger(owner) {
    MergerSettings& settings = merger.settings_;
    Communicator& row = *settings.axis.row;
    group = row.rank();
    // What decides how the work is cut must be the same along the row.
    uint64_t least[2] = {settings.memory, uint64_t(settings.work.sample_keys)};
    if (const uint64_t device = settings.device->memory(); device > 0) least[0] = std::min(least[0], device);
    row.all_reduce_min(std::span<uint64_t>(least));
    settings.memory = memory = least[0];
    settings.work.sample_keys = int64_t(least[1]);
    threads = int(row.all_reduce_max(uint64_t(merger.pool_.threads())));
    const ShardPlan& plan = *settings.axis.link_plan;
    const int first_shard = merger.world_.rank() * row.size();
    for (int member = 0; member < row.size(); ++member) {
        auto& parts = by_group.emplace_back(merger.merge_.tasks.size());
        for (const TaskPart& part : plan.parts(first_shard + member)) parts[size_t(part.task)] = part;
    }
    own = merger.make_parts(plan, first_shard + group);
}

void Merger::Links::share_finished() {
    merger.find_finished(own);
    std::string found;
    for (const Part& part : own)
        for (int64_t block = part.where.first; block < part.where.last; ++block) {
            const int64_t place[2] = {part.where.task, block};
            if (part.has_finished(block)) found.append(reinterpret_cast<const char*>(place), sizeof place);
        }
    std::map<std::pair<int64_t, int64_t>, int> finders;
    for (const std::string& text : merger.settings_.axis.row->all_gather(found))
        for (size_t at = 0; at < text.size(); at += 2 * sizeof(int64_t)) {
            int64_t place[2];
            std::memcpy(place, text.data() + at, sizeof place);
            ++finders[{place[0], place[1]}];
        }
    for (Part& part : merger.parts_)
        for (int64_t block = part.where.first; block < part.where.last; ++block) {
            int wanted = 0;
            for (const auto& parts : by_group) {
                const TaskPart& where = parts[size_t(part.where.task)];
                wanted += block >= where.first && block < where.last;
            }
            const auto there = finders.find({part.where.task, block});
            part.finished[size_t(block - part.where.first)] = there != finders.end() && there->second == wanted;
        }
}

/// Windows that the same ranks write, and that every rank of the row has memory for.
std::vector<Merger::Links::Item> Merger::Links::cut(const std::vector<Span>& spans) const {
    std::vector<Item> items;
    for (const Span& span : spans) {
        const TensorTask& what = merger.task(*span.part);
        auto writers_of = [&](int64_t block) {
            std::vector<int> writers;
            for (size_t member = 0; member < by_group.size(); ++member) {
                const TaskPart& where = by_group[member][size_t(span.part->where.task)];
                if (block >= where.first && block < where.last) writers.push_back(int(member));
            }
            return writers;
        };
        // Planes come in, wait and go out, twice.
        const int64_t elements = std::min(block_elements, what.elements());
        const uint64_t each = merger.block_bytes(*span.part) + 4 * planes_bytes(*span.part->work, what, elements) +
                              uint64_t(span.part->work->scratch_bytes(elements));
        const uint64_t share = std::min<uint64_t>(memory / 4 / uint64_t(threads), uint64_t(32) << 20);
        const int64_t most = std::clamp<int64_t>(int64_t(share / std::max<uint64_t>(each, 1)), 1, 64);
        for (int64_t block = span.first_block; block < span.last_block;) {
            Item item;
            item.span = {span.part, block, block};
            item.stages = chain_stages(what, merger.settings_.axis.group_of_model);
            item.writers = writers_of(block);
            item.step = items.size() / size_t(threads);
            while (block < span.last_block && block - item.span.first_block < most && writers_of(block) == item.writers)
                item.span.last_block = ++block;
            items.push_back(std::move(item));
        }
    }
    return items;
}

bool Merger::Links::writes(const Item& item) const {
    return std::find(item.writers.begin(), item.writers.end(), group) != item.writers.end();
}

/// Of the planes that a stage is given; of the result after the last.
uint64_t Merger::Links::bytes_for(const Item& item, size_t stage) const {
    const TensorTask& what = merger.task(*item.span.part);
    const int64_t first = item.span.first_block * block_elements;
    const int64_t count = std::min(item.span.last_block * block_elements, what.elements()) - first;
    if (stage < item.stages.size()) return planes_bytes(*item.span.part->work, what, count);
    return uint64_t(count) * uint64_t(info(what.dtype).bits) / 8;
}

Merger::Links::Buffer& Merger::Links::buffer(const Item& item, size_t index, size_t stage) {
    Buffer& result = buffers[{index, stage}];
    if (result) return result;
    const uint64_t bytes = bytes_for(item, stage);
    const auto fits = std::find_if(spare.begin(), spare.end(), [&](const auto& entry) { return entry.first == bytes; });
    if (fits != spare.end()) {
        result = std::move(fits->second);
        spare.erase(fits);
    } else {
        if (spare.size() > 8 * size_t(threads)) spare.clear();  // tensors of other sizes are done with
        result = merger.settings_.device->allocate(std::max<uint64_t>(bytes, 1));
    }
    return result;
}

/// Gives back what was sent, or used, before this step.
void Merger::Links::retire(const std::vector<Item>& items, const std::vector<size_t>& alive, size_t step) {
    for (size_t i : alive) {
        const Item& item = items[i];
        for (size_t stage = 1; stage <= item.stages.size(); ++stage) {
            const auto entry = buffers.find({i, stage});
            if (entry == buffers.end()) continue;
            const bool result = stage == item.stages.size();
            const bool sent = item.step_of(stage) == step && item.stages[stage - 1].group == group;
            const bool used = item.step_of(stage) + 1 == step;
            if (!used && (!sent || (result && writes(item)))) continue;
            spare.emplace_back(bytes_for(item, stage), std::move(entry->second));
            buffers.erase(entry);
        }
    }
}

void Merger::Links::start(const std::vector<Item>& items, const std::vector<size_t>& alive, size_t step) {
    std::vector<Transfer> transfers;
    for (size_t i : alive) {
        const Item& item = items[i];
        for (size_t stage = 1; stage <= item.stages.size(); ++stage) {
            if (item.step_of(stage) != step + 1) continue;
            const int from = item.stages[stage - 1].group;
            const std::vector<int> to =
                stage < item.stages.size() ? std::vector<int>{item.stages[stage].group} : item.writers;
            for (int member : to) {
                if (member == from || (from != group && member != group)) continue;
                const auto direction = from == group ? Transfer::Direction::send : Transfer::Direction::receive;
                transfers.push_back(
                    {direction, from == group ? member : from, buffer(item, i, stage).get(), bytes_for(item, stage)});
            }
        }
    }
    merger.transport_->start(transfers);
}

void Merger::Links::compute(const std::vector<Item>& items, const std::vector<size_t>& alive, size_t step) {
    std::vector<std::pair<size_t, size_t>> jobs;  // item, stage
    for (size_t i : alive) {
        const Item& item = items[i];
        for (size_t stage = 0; stage < item.stages.size(); ++stage)
            if (item.step_of(stage) == step && item.stages[stage].group == group) {
                buffer(item, i, stage + 1);
                jobs.emplace_back(i, stage);
            }
        if (item.arrival() == step && writes(item)) jobs.emplace_back(i, item.stages.size());
    }
    merger.pool_.parallel_for(int64_t(jobs.size()), [&](int64_t j, int thread) {
        const auto [i, stage] = jobs[size_t(j)];
        Scratch& scratch = merger.scratch_[size_t(thread)];
        const auto start = std::chrono::steady_clock::now();
        if (stage < items[i].stages.size())
            run_stage(items[i], i, stage, scratch);
        else
            write_item(items[i], i, scratch);
        merger.work_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        if (merger.settings_.touch) merger.settings_.touch();
    });
}

void Merger::Links::apply(const std::vector<Span>& spans) {
    const std::vector<Item> items = cut(spans);
    if (items.empty()) return;
    counted.assign(items.size(), 0);
    written.clear();
    size_t steps = 0;
    for (const Item& item : items) steps = std::max(steps, item.arrival() + 1);
    size_t oldest = 0;
    for (size_t step = 0; step <= steps; ++step) {
        if (step > 0) merger.transport_->wait();
        while (oldest < items.size() && items[oldest].arrival() + 1 < step) ++oldest;
        std::vector<size_t> alive;
        for (size_t i = oldest; i < items.size() && items[i].step <= step; ++i) alive.push_back(i);
        retire(items, alive, step);
        if (step == steps) break;
        start(items, alive, step);
        compute(items, alive, step);
        if (merger.mapped_since_drop_ > memory / 8) {
            merger.inputs_.drop_all();
            merger.mapped_since_drop_ = 0;
        }
    }
    // Counts of a block are those of all stages.
    merger.settings_.axis.row->all_reduce_sum(std::span<uint64_t>(counted));
    for (const auto& [i, block] : written)
        if (counted[i] == 0) merger.journal_.block_done(block.task, block.block, block.digest);
}

void Merger::Links::run_stage(const Item& item, size_t index, size_t stage, Scratch& scratch) {
    Part& part = *item.span.part;
    const TensorTask& what = merger.task(part);
    Window window = merger.shape_window(item.span);
    // This rank's models only; which of them the stage adds.
    FoldLink link;
    size_t here = 0;
    const std::vector<const TaskInput*> inputs = merger.inputs_read(what);
    for (size_t i = 0; i < inputs.size(); ++i) {
        const auto [begin, end] = byte_range(*inputs[i], window);
        const InputFile& file = merger.inputs_.get(inputs[i]->model, inputs[i]->tensor.file);
        set_operand(window, what, i, *inputs[i], file.mapped() + begin);
        merger.bytes_read_ += end - begin;
        merger.mapped_since_drop_ += end - begin;
    }
    for (size_t i = 0; i < what.inputs.size(); ++i) {
        if (i == item.stages[stage].first) link.first_input = here;
        here += merger.settings_.work.is_here(what.inputs[i]);
        if (i + 1 == item.stages[stage].last) link.last_input = here;
    }
    const bool last = stage + 1 == item.stages.size();
    void* out = buffers.at({index, stage + 1}).get();
    if (stage > 0) link.planes_in = buffers.at({index, stage}).get();
    if (!last) link.planes_out = out;
    merger.bring(part, window, scratch, false);
    const FoldCounts counts =
        part.work->apply_link(window, scratch, last ? static_cast<std::byte*>(out) : nullptr, link);
    scratch.lane->finish();
    merger.check_inputs(what);
    // A block whose bytes straddle two rows is computed by both, and counted by one.
    const bool reported = merger.reports(part, window.first_block());
    if (counts.nonfinite_input && reported) {
        const size_t base = what.base ? 1 : 0;
        merger.count_nonfinite(part, window, *scratch.lane, base + link.first_input, base + link.last_input);
        if (base && stage == 0) merger.count_nonfinite(part, window, *scratch.lane, 0, 1);
    }
    std::lock_guard lock(merger.mutex_);
    counted[index] += uint64_t(counts.nonfinite_input || counts.nonfinite_output > 0 || counts.saturated > 0);
    if (!reported) return;
    merger.totals_.count_output(part.where.task, {counts.saturated, counts.nonfinite_output});
    if (last) merger.count_unchanged(what, counts, window.count);
}

void Merger::Links::write_item(const Item& item, size_t index, Scratch& scratch) {
    const auto part = std::find_if(own.begin(), own.end(), [&](const Part& candidate) {
        return candidate.where.task == item.span.part->where.task;
    });
    const Window window = merger.shape_window(item.span);
    auto& memory_of_thread = merger.out_buffers_[size_t(scratch.thread)];
    const uint64_t bytes = bytes_for(item, item.stages.size());
    if (memory_of_thread.size() < bytes) memory_of_thread.resize(bytes);
    merger.settings_.device->copy_out(memory_of_thread.data(), buffers.at({index, item.stages.size()}).get(), bytes);
    const auto result = std::span<const std::byte>(memory_of_thread).first(bytes);
    merger.write(*part, window, result);
    const std::vector<FinishedBlock> digests = merger.digests_of(*part, window, result);
    std::lock_guard lock(merger.mutex_);
    for (const FinishedBlock& block : digests) {
        // A resumed rank may have found its share of a block whose rest had to be made again.
        if (part->has_finished(block.block)) continue;
        written.emplace_back(index, block);
        if (merger.reports(*part, block.block)) merger.totals_.digests.push_back(block);
    }
    if (merger.settings_.progress)
        merger.settings_.progress(uint64_t(window.blocks()) * merger.block_bytes(*item.span.part));
}

}  // namespace amalgam
