#include "src/run/merger.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <set>

#include "src/base/error.h"
#include "src/run/merger_links.h"

namespace amalgam {

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

constexpr int64_t trim_statistics = -1;  ///< place of the whole-model thresholds in the journal

}  // namespace

void ThreadSeconds::add(const ThreadSeconds& other) {
    read += other.read;
    wait += other.wait;
    compute += other.compute;
    write += other.write;
}

bool compares_with_base(const MethodInfo& method, const TensorTask& task) {
    if (task.kind != TaskKind::merge || !task.base || method.base == BaseUse::member) return false;
    return method.shape == Shape::fold || method.trim != Trim::none;
}

void MergeTotals::count_output(int64_t task, const OutputCounts& counts) {
    if (counts.saturated == 0 && counts.nonfinite == 0) return;
    OutputCounts& sum = outputs[task];
    sum.saturated += counts.saturated;
    sum.nonfinite += counts.nonfinite;
}

bool Merger::Part::all_finished() const {
    return std::all_of(finished.begin(), finished.end(), [](bool done) { return done; });
}
bool Merger::Part::untouched() const { return where.first == where.last; }

Merger::Merger(Communicator& world, const Merge& merge, const OutputLayout& layout, const ShardPlan& plan,
               InputFiles& inputs, OutputSink& outputs, Journal& journal, const JournalContents& finished,
               MergerSettings settings)
    : world_(world),
      merge_(merge),
      layout_(layout),
      plan_(plan),
      inputs_(inputs),
      outputs_(outputs),
      journal_(journal),
      finished_(finished),
      settings_(std::move(settings)),
      pool_(settings_.work.threads),
      scratch_(size_t(pool_.threads())),
      out_buffers_(size_t(pool_.threads())) {
    settings_.work.threads = pool_.threads();
    const std::unique_ptr<Device> cpu = make_cpu_device();
    for (size_t i = 0; i < scratch_.size(); ++i) {
        scratch_[i].thread = int(i);
        lanes_.push_back(settings_.device->make_lane({settings_.block}));
        host_lanes_.push_back(lanes_[i]->on_host() ? nullptr : cpu->make_lane({settings_.block}));
    }
    parts_ = make_parts(plan, world.rank());
    open_axis();
}

std::vector<Merger::Part> Merger::make_parts(const ShardPlan& plan, int rank) const {
    std::vector<Part> parts;
    for (const TaskPart& where : plan.parts(rank)) {
        const bool merged = merge_.tasks[size_t(where.task)].kind == TaskKind::merge;
        if (settings_.filter != TaskFilter::all && merged != (settings_.filter == TaskFilter::merges)) continue;
        Part part;
        part.where = where;
        part.finished.resize(size_t(where.last - where.first));
        parts.push_back(std::move(part));
    }
    return parts;
}

/// Groups that read different models gather different statistics of a tensor.
int64_t Merger::statistics_key(int64_t task) const {
    uint64_t models = 0;
    for (size_t model = 0; model < settings_.work.here.size(); ++model)
        models = models * 1000003 + (settings_.work.here[model] ? model + 1 : 0);
    return task + int64_t(models % (uint64_t(1) << 30)) * (int64_t(1) << 32);
}

/// What windows hold: the base, and the inputs that this rank reads or is sent.
std::vector<const TaskInput*> Merger::inputs_read(const TensorTask& task) const {
    std::vector<const TaskInput*> inputs = inputs_here(task, settings_.work);
    if (task.base) inputs.insert(inputs.begin(), &*task.base);
    return inputs;
}

MergeTotals Merger::run() {
    auto start = Clock::now();
    if (links_)
        links_->share_finished();
    else
        find_finished(parts_);
    totals_.resume_seconds = seconds_since(start);

    start = Clock::now();
    trim_models();
    if (!trim_ || trim_->done()) settle_shared();
    totals_.statistics_seconds = seconds_since(start);
    totals_.statistics_bytes = bytes_read_;

    for (size_t first = 0; first < parts_.size();) {
        if (stops_before_unit()) break;
        size_t last = unit_end(first);
        run_unit(first, last);
        first = last;
    }
    if (settings_.axis.row && !links_)
        while (!for_exchanged({}, {}, true)) continue;
    journal_.flush();
    totals_.stopped = stopping_;
    totals_.bytes_read = bytes_read_;
    totals_.bytes_written = bytes_written_;
    totals_.threads = {read_seconds_, wait_seconds_, work_seconds_ - write_seconds_, write_seconds_};
    return std::move(totals_);
}

/// Whether this rank stops. Ranks in links go through a unit together, and stop before one only.
bool Merger::stops() {
    if (!stopping_ && settings_.stop && settings_.stop()) stopping_ = true;
    return stopping_;
}

bool Merger::stops_before_unit() {
    if (!settings_.stop) return stopping_;
    const bool stop = stops();
    if (links_ && settings_.axis.row->all_reduce_max(uint64_t(stop ? 1 : 0)) != 0) stopping_ = true;
    return stopping_;
}

void Merger::make_work_of(Part& part) {
    if (!part.work) part.work = make_work(task(part), settings_.work, trim_.get());
    auto saved = finished_.statistics.find(statistics_key(part.where.task));
    if (saved != finished_.statistics.end() && !part.work->settled()) part.work->load(saved->second);
}

/// Blocks whose bytes are in the output and match their digest need no second computation.
void Merger::find_finished(std::vector<Part>& parts) {
    if (finished_.blocks.empty()) return;
    pool_.parallel_for(int64_t(parts.size()), [&](int64_t p, int) {
        Part& part = parts[size_t(p)];
        const auto& place = layout_.places[size_t(part.where.task)];
        const uint64_t block_size = uint64_t(block_elements) * uint64_t(info(task(part).dtype).bits) / 8;
        std::vector<std::byte> bytes;
        for (int64_t block = part.where.first; block < part.where.last; ++block) {
            std::optional<uint64_t> digest = finished_.digest(part.where.task, block);
            if (!digest) continue;
            const uint64_t begin = place.begin + uint64_t(block) * block_size;
            const uint64_t end = std::min(begin + block_size, place.begin + place.bytes);
            bytes.resize(end - begin);
            outputs_.read(place.file, begin, bytes);
            if (block_digest(bytes) != *digest) continue;
            std::lock_guard lock(mutex_);
            part.finished[size_t(block - part.where.first)] = true;
            const uint64_t from = std::max(begin, part.where.write_begin), to = std::min(end, part.where.write_end);
            if (from < to) totals_.bytes_resumed += to - from;
            if (reports(part, block)) totals_.digests.push_back({part.where.task, block, *digest});
        }
    });
    if (settings_.progress) {
        uint64_t done = 0;
        for (const Part& part : parts)
            for (bool finished : part.finished)
                if (finished) done += block_bytes(part);
        settings_.progress(done);
    }
}

/// Two ranks compute a block whose bytes straddle theirs; the one that writes the first of them counts and reports.
bool Merger::reports(const Part& part, int64_t block) const {
    const TensorTask& what = task(part);
    const uint64_t begin = layout_.places[size_t(part.where.task)].begin +
                           uint64_t(block) * (uint64_t(block_elements) * uint64_t(info(what.dtype).bits) / 8);
    return begin >= part.where.write_begin && begin < part.where.write_end;
}

/// Bytes that a full block of all inputs and of the output takes.
uint64_t Merger::block_bytes(const Part& part) const {
    const TensorTask& what = task(part);
    const int64_t elements = std::min(block_elements, what.elements());
    uint64_t bytes = uint64_t(elements) * uint64_t(info(what.dtype).bits) / 8;
    for (const TaskInput* input : all_inputs(what)) bytes += input_bytes(*input, elements);
    return bytes;
}

/// Windows are as large as a quarter of the budget allows on every thread, and small enough to share out well.
int64_t Merger::window_blocks(const Part& part) const {
    const uint64_t scratch = part.work ? uint64_t(part.work->scratch_bytes(block_elements)) : 0;
    const uint64_t bytes = block_bytes(part) + scratch;
    const uint64_t share = settings_.memory / 4 / uint64_t(pool_.threads());
    // A launch on a GPU costs as long as some megabytes take.
    const bool gpu = settings_.device->memory() > 0;
    const uint64_t most =
        gpu ? std::min(settings_.device->memory() / 2 / uint64_t(pool_.threads()), uint64_t(128) << 20)
            : uint64_t(4) << 20;
    return std::clamp<int64_t>(int64_t(std::min<uint64_t>(share, most) / std::max<uint64_t>(bytes, 1)), 1,
                               gpu ? 256 : 16);
}

/// Parts that are settled together: many small tensors, or one large.
size_t Merger::unit_end(size_t first) const {
    const uint64_t limit = std::min<uint64_t>(unit_memory(settings_.memory), uint64_t(256) << 20);
    uint64_t bytes = 0, samples = 0;
    size_t last = first;
    while (last < parts_.size()) {
        const Part& part = parts_[last];
        const TensorTask& what = task(part);
        const int64_t blocks = std::max(part.where.last - part.where.first, part.where.own_last - part.where.own_first);
        bytes += uint64_t(blocks) * block_bytes(part);
        samples += uint64_t(std::min(settings_.work.sample_keys, what.elements())) * 8 * 2 * what.inputs.size();
        if (last > first && (bytes > limit || samples > settings_.memory / 8 || last - first >= 4096)) break;
        ++last;
    }
    return last;
}

void Merger::scan_spans(Part& part, std::vector<Span>& spans) const {
    int64_t first = part.where.own_first, last = part.where.own_last;
    if (part.work->wants_computed_blocks() && part.where.first < part.where.last) {
        if (first == last) first = part.where.first, last = part.where.last;
        first = std::min(first, part.where.first);
        last = std::max(last, part.where.last);
    }
    if (first < last) spans.push_back({&part, first, last});
}

/// Thresholds over whole models come before everything else.
void Merger::trim_models() {
    const Trim kind = merge_.method->trim;
    if (settings_.filter == TaskFilter::copies || merge_.compat != Compat::paper ||
        (kind != Trim::magnitude && kind != Trim::band))
        return;
    trim_ = std::make_unique<ModelTrim>(merge_, settings_.work);
    auto saved = finished_.statistics.find(statistics_key(trim_statistics));
    if (saved != finished_.statistics.end()) trim_->load(saved->second);
    if (trim_->done()) {
        totals_.emptied_inputs += world_.rank() == 0 ? trim_->emptied() : 0;
        return;
    }
    while (!trim_->done()) {
        trim_->begin_round();
        std::vector<Span> spans;
        for (Part& part : parts_)
            if (part.where.own_first < part.where.own_last && task(part).kind == TaskKind::merge)
                spans.push_back({&part, part.where.own_first, part.where.own_last});
        for_windows(spans, false, [&](Part& part, const Window& window, Scratch& scratch) {
            trim_->scan(part.where.task, window, scratch);
        });
        // All end here, or none: what a rank left out must not be counted.
        if (settings_.stop && world_.all_reduce_max(uint64_t(stops() ? 1 : 0)) != 0) {
            stopping_ = true;
            return;
        }
        trim_->exchange(world_);
        trim_->end_round();
    }
    if (world_.rank() == 0) {
        journal_.statistics_done(statistics_key(trim_statistics), trim_->save());
        totals_.emptied_inputs += trim_->emptied();
    }
}

/// Tensors that several ranks have a part of: all count together, round by round, in the order of the tensors.
void Merger::settle_shared() {
    std::vector<Part*> shared;
    std::vector<Communicator*> groups;
    std::map<std::pair<int, int>, std::unique_ptr<Communicator>> made;
    for (Part& part : parts_) {
        if (!part.where.shared()) continue;
        make_work_of(part);
        auto& group = made[{part.where.first_rank, part.where.last_rank}];
        if (!group) group = world_.range(part.where.first_rank, part.where.last_rank);
        // All of the group go in, or none: what one rank found finished or settled may be missing on another.
        if (group->all_reduce_max(uint64_t(part.all_finished() ? 0 : 1)) == 0) continue;
        if (group->all_reduce_min(uint64_t(part.work->settled() ? 1 : 0)) == 0)
            part.work = make_work(task(part), settings_.work, trim_.get());
        shared.push_back(&part);
        groups.push_back(group.get());
    }
    const bool sparsely = !holds(shared);
    std::set<const Part*> left;  // by their whole group, because one of it stops
    auto is_unsettled = [&left](const Part* part) { return !part->work->settled() && !left.contains(part); };
    for (;;) {
        bool unsettled = std::any_of(shared.begin(), shared.end(), is_unsettled);
        // Ranks that exchange inputs go from round to round together: who waits for a sum serves nobody.
        if (settings_.axis.row && !links_) unsettled = world_.all_reduce_max(uint64_t(unsettled)) != 0;
        if (!unsettled) break;
        std::vector<Span> dense, sparse;
        for (Part* part : shared) {
            if (!is_unsettled(part)) continue;
            part->work->begin_round();
            scan_spans(*part, part->work->sparse_round() ? sparse : dense);
        }
        auto body = [](Part& part, const Window& window, Scratch& scratch) { part.work->scan(window, scratch); };
        for_windows(sparse, sparsely, body);
        for_windows(dense, false, body);
        for (size_t i = 0; i < shared.size(); ++i) {
            if (!is_unsettled(shared[i])) continue;
            if (settings_.stop && groups[i]->all_reduce_max(uint64_t(stops() ? 1 : 0)) != 0) {
                stopping_ = true;
                left.insert(shared[i]);
                continue;
            }
            shared[i]->work->exchange(*groups[i]);
            shared[i]->work->end_round();
            if (!shared[i]->work->settled() || shared[i]->where.first_rank != world_.rank()) continue;
            if (std::string bytes = shared[i]->work->save(); !bytes.empty())
                journal_.statistics_done(statistics_key(shared[i]->where.task), bytes);
        }
    }
}

void Merger::settle(std::vector<Part*> unsettled) {
    auto start = Clock::now();
    const uint64_t before = bytes_read_;
    const bool sparsely = !holds(unsettled);
    while (!unsettled.empty()) {
        std::vector<Span> dense, sparse;
        for (Part* part : unsettled) {
            part->work->begin_round();
            scan_spans(*part, part->work->sparse_round() ? sparse : dense);
        }
        auto body = [](Part& part, const Window& window, Scratch& scratch) { part.work->scan(window, scratch); };
        for_windows(sparse, sparsely, body);
        for_windows(dense, false, body);
        if (stopping_) return;
        pool_.parallel_for(int64_t(unsettled.size()), [&](int64_t i, int) { unsettled[size_t(i)]->work->end_round(); });
        for (Part* part : unsettled) {
            if (!part->work->settled()) continue;
            if (std::string bytes = part->work->save(); !bytes.empty())
                journal_.statistics_done(statistics_key(part->where.task), bytes);
        }
        std::erase_if(unsettled, [](Part* part) { return part->work->settled(); });
    }
    totals_.statistics_seconds += seconds_since(start);
    totals_.statistics_bytes += bytes_read_ - before;
}

void Merger::run_unit(size_t first, size_t last) {
    std::vector<Part*> unsettled;
    std::vector<Span> spans;
    for (size_t p = first; p < last; ++p) {
        Part& part = parts_[p];
        if (part.untouched() || part.all_finished()) continue;
        make_work_of(part);
        if (!part.work->settled()) unsettled.push_back(&part);
        for (int64_t block = part.where.first; block < part.where.last;) {
            // Runs of blocks that are not finished yet.
            int64_t end = block;
            while (end < part.where.last && !part.finished[size_t(end - part.where.first)] &&
                   (end == block || reports(part, end) == reports(part, block)))
                ++end;
            if (end > block) spans.push_back({&part, block, end});
            block = std::max(end, block + 1);
        }
    }
    settle(std::move(unsettled));
    auto start = Clock::now();
    if (stopping_ && !links_) spans.clear();
    if (links_)
        links_->apply(spans);
    else
        for_windows(spans, false,
                    [&](Part& part, const Window& window, Scratch& scratch) { apply(part, window, scratch); });
    for (size_t p = first; p < last; ++p) {
        Part& part = parts_[p];
        if (part.work && part.where.first_rank == world_.rank()) totals_.emptied_inputs += part.work->emptied_inputs();
        part.work.reset();
        held_.forget(part.where.task);
    }
    totals_.fold_seconds += seconds_since(start);
}

void Merger::apply(Part& part, const Window& window, Scratch& scratch) {
    const uint64_t bytes = uint64_t(window.count) * uint64_t(info(window.task->dtype).bits) / 8;
    auto& buffer = out_buffers_[size_t(scratch.thread)];
    if (buffer.size() < bytes) buffer.resize(bytes);
    Lane& lane = *scratch.lane;
    auto* out = lane.on_host() ? buffer.data() : static_cast<std::byte*>(lane.reserve(bytes));
    FoldCounts counts = part.work->apply(window, scratch, out);
    if (!lane.on_host()) lane.take(out, buffer.data(), bytes);
    const bool reported = reports(part, window.first_block());
    if (counts.nonfinite_input && reported) count_nonfinite(part, window, lane);
    check_inputs(*window.task);

    const auto result = std::span<const std::byte>(buffer).first(bytes);
    write(part, window, result);
    // A block with something to count is computed again by a resume, so that its counts are complete.
    const bool counted = counts.nonfinite_input || counts.nonfinite_output > 0 || counts.saturated > 0;
    const std::vector<FinishedBlock> digests = digests_of(part, window, result);
    if (!counted)
        for (const FinishedBlock& block : digests) journal_.block_done(block.task, block.block, block.digest);
    std::lock_guard lock(mutex_);
    if (reported) {
        totals_.digests.insert(totals_.digests.end(), digests.begin(), digests.end());
        totals_.count_output(part.where.task, {counts.saturated, counts.nonfinite_output});
        count_unchanged(*window.task, counts, window.count);
    }
    if (settings_.progress) settings_.progress(uint64_t(window.blocks()) * block_bytes(part));
}

void Merger::count_unchanged(const TensorTask& what, const FoldCounts& counts, int64_t elements) {
    if (!compares_with_base(*merge_.method, what)) return;
    totals_.unchanged += counts.unchanged;
    totals_.folded += elements;
}

/// What was read of a file that shrank meanwhile must not be written.
void Merger::check_inputs(const TensorTask& task) {
    for (const TaskInput* input : inputs_read(task))
        if (is_local(*input)) inputs_.get(input->model, input->tensor.file).check_whole();
}

/// The bytes of a window's result that this rank writes.
void Merger::write(const Part& part, const Window& window, std::span<const std::byte> bytes) {
    const auto& place = layout_.places[size_t(part.where.task)];
    const uint64_t begin = place.begin + uint64_t(window.first) * uint64_t(info(window.task->dtype).bits) / 8;
    const uint64_t from = std::max(begin, part.where.write_begin);
    const uint64_t to = std::min(begin + bytes.size(), part.where.write_end);
    if (from >= to) return;
    const auto start = Clock::now();
    outputs_.write(place.file, from, bytes.subspan(from - begin, to - from));
    write_seconds_ += seconds_since(start);
    bytes_written_ += to - from;
}

std::vector<FinishedBlock> Merger::digests_of(const Part& part, const Window& window,
                                              std::span<const std::byte> bytes) const {
    const uint64_t block_size = uint64_t(block_elements) * uint64_t(info(window.task->dtype).bits) / 8;
    std::vector<FinishedBlock> digests;
    for (uint64_t at = 0; at < bytes.size(); at += block_size)
        digests.push_back({part.where.task, window.first_block() + int64_t(at / block_size),
                           block_digest(bytes.subspan(at, std::min(block_size, bytes.size() - at)))});
    return digests;
}

void Merger::count_nonfinite(const Part& part, const Window& window, Lane& lane, size_t first, size_t last) {
    const TensorTask& what = *window.task;
    auto inputs = inputs_read(what);
    for (size_t i = first; i < std::min(last, inputs.size()); ++i) {
        const Operand& operand = what.base ? (i == 0 ? window.base : window.inputs[i - 1]) : window.inputs[i];
        int64_t bad = lane.count_nonfinite(at_element(operand, window.first - window.input_first), window.count);
        if (bad == 0) continue;
        std::lock_guard lock(mutex_);
        totals_.nonfinite_inputs[{part.where.task, inputs[i]->model}] += bad;
    }
}

}  // namespace amalgam
