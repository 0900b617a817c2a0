#include "src/run/candidate_maker.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "src/base/error.h"

namespace amalgam {

namespace {

const std::byte* data_of(const InputFile& file, const TaskInput& input) { return file.mapped() + input.tensor.begin; }

/// Whether a value is one that adding zeros may change, or that is carried into the result in its own way: -0, NaN, infinity.
template <class Bits>
bool has_awkward(const std::byte* data, int64_t count, Bits infinity) {
    constexpr Bits sign = Bits(Bits(1) << (8 * sizeof(Bits) - 1));
    bool found = false;
    for (int64_t i = 0; i < count; ++i) {
        Bits bits;
        std::memcpy(&bits, data + i * int64_t(sizeof bits), sizeof bits);
        found |= bits == sign || Bits(bits & Bits(~sign)) >= infinity;
    }
    return found;
}

bool is_plain(Dtype dtype, const std::byte* data, int64_t count) {
    switch (dtype) {
        case Dtype::bf16: return !has_awkward<uint16_t>(data, count, 0x7f80);
        case Dtype::f16: return !has_awkward<uint16_t>(data, count, 0x7c00);
        case Dtype::f32: return !has_awkward<uint32_t>(data, count, 0x7f800000);
        default: return false;
    }
}

}  // namespace

CandidateMaker::CandidateMaker(ThreadPool& pool, uint64_t memory)
    : pool_(pool), memory_(memory), device_(make_cpu_device()), scratch_(size_t(pool.threads())) {
    for (size_t thread = 0; thread < scratch_.size(); ++thread) {
        lanes_.push_back(device_->make_lane({}));
        scratch_[thread].thread = int(thread);
        scratch_[thread].lane = lanes_.back().get();
    }
}

CandidateMaker::~CandidateMaker() = default;

CandidateMaker::Counts CandidateMaker::counts() const {
    std::lock_guard lock(mutex_);
    return counts_;
}

/// Models stay open from candidate to candidate: what of them is in memory stays mapped.
const InputFile& CandidateMaker::file(const Merge& merge, const TaskInput& input) {
    const CheckpointFile& what = merge.models[size_t(input.model)].checkpoint.files[size_t(input.tensor.file)];
    std::lock_guard lock(mutex_);
    auto& open = files_[what.path];
    if (!open) open = std::make_unique<InputFile>(what.path, what.bytes, ReadMode::mmap);
    return *open;
}

std::string CandidateMaker::identity(const Merge& merge, const TaskInput& input) const {
    const CheckpointFile& what = merge.models[size_t(input.model)].checkpoint.files[size_t(input.tensor.file)];
    return fmt::format("{}\n{}\n{}\n", what.path, input.tensor.begin, info(input.tensor.dtype).name);
}

/// As large as the memory allows on every thread, without pointers to inputs.
std::vector<Window> CandidateMaker::cut(const TensorTask& task, const TensorWork& work) const {
    uint64_t block_bytes = uint64_t(work.scratch_bytes(block_elements)) + uint64_t(block_elements) * 8;
    for (const TaskInput* input : all_inputs(task)) block_bytes += input_bytes(*input, block_elements);
    const uint64_t share = std::min<uint64_t>(memory_ / 2 / uint64_t(pool_.threads()), uint64_t(4) << 20);
    const int64_t step = std::clamp<int64_t>(int64_t(share / block_bytes), 1, 16) * block_elements;
    std::vector<Window> windows;
    for (int64_t first = 0; first < task.elements(); first += step) {
        Window window;
        window.task = &task;
        window.first = window.input_first = first;
        window.count = window.input_count = std::min(step, task.elements() - first);
        if (work.whole_rows()) {
            const int64_t columns = task.columns();
            window.input_first = first / columns * columns;
            window.input_count = (first + window.count + columns - 1) / columns * columns - window.input_first;
        }
        windows.push_back(std::move(window));
    }
    return windows;
}

void CandidateMaker::place(Window& window, const Merge& merge, const TensorTask& task) {
    const auto sources = all_inputs(task);
    for (size_t i = 0; i < sources.size(); ++i)
        set_operand(window, task, i, *sources[i],
                    file(merge, *sources[i]).mapped() + byte_range(*sources[i], window).first);
}

void CandidateMaker::for_windows(const Merge& merge, const TensorTask& task, const TensorWork& work, int thread,
                                 const Body& body) {
    std::vector<Window> windows = cut(task, work);
    auto run = [&](Window& window, int on) {
        place(window, merge, task);
        Scratch& scratch = scratch_[size_t(on)];
        scratch.lane->begin_window();
        body(window, scratch);
        for (const TaskInput* source : all_inputs(task)) file(merge, *source).check_whole();
    };
    if (thread >= 0)
        for (Window& window : windows) run(window, thread);
    else
        pool_.parallel_for(int64_t(windows.size()), [&](int64_t w, int on) { run(windows[size_t(w)], on); });
}

/// Task vectors that are zeros throughout: what is added to the base does not depend on any number of the recipe.
bool CandidateMaker::same_in_all(const Merge& merge, const TensorTask& task) {
    if (task.kind != TaskKind::merge || !task.base || merge.method->field("lambda") < 0) return false;
    const std::byte* base = data_of(file(merge, *task.base), *task.base);
    const uint64_t bytes = input_bytes(*task.base, task.elements());
    for (const TaskInput& input : task.inputs) {
        if (input.tensor.dtype != task.base->tensor.dtype) return false;
        const std::string key = identity(merge, *task.base) + identity(merge, input) + std::to_string(bytes);
        {
            std::lock_guard lock(mutex_);
            const auto known = same_.find(key);
            if (known != same_.end() && !known->second) return false;
            if (known != same_.end()) continue;
        }
        const bool same = std::memcmp(base, data_of(file(merge, input), input), size_t(bytes)) == 0 &&
                          is_plain(task.base->tensor.dtype, base, task.elements());
        std::lock_guard lock(mutex_);
        same_[key] = same;
        if (!same) return false;
    }
    return true;
}

std::shared_ptr<const MagnitudeOrder> CandidateMaker::order(const Merge& merge, const TensorTask& task, int input,
                                                            int thread) {
    const TaskInput& what = task.inputs[size_t(input)];
    const std::string key = identity(merge, *task.base) + identity(merge, what) + fmt::format("{}", task.elements());
    const uint64_t bytes = MagnitudeOrder::bytes(task.elements());
    {
        std::lock_guard lock(mutex_);
        if (const auto known = orders_.find(key); known != orders_.end()) return known->second;
        if (learnt_bytes_ + bytes > memory_ / 2) return nullptr;
        learnt_bytes_ += bytes;
    }
    Window whole;
    whole.task = &task;
    whole.count = whole.input_count = task.elements();
    place(whole, merge, task);
    const bool wide = computes_in_double(task);
    const auto keys = [&](int64_t block, std::vector<uint64_t>& out, int on) {
        const int64_t first = block * block_elements, count = std::min(block_elements, task.elements() - first);
        const Operand from = at_element(whole.inputs[size_t(input)], first);
        out.resize(size_t(count));
        scratch_[size_t(on)].lane->extract_keys(KeyKind::distance, wide,
                                                {base_from(whole, first), &from, 1, nullptr, count}, 0, out.data());
    };
    auto made = std::make_shared<const MagnitudeOrder>(
        task.elements(), keys, [&](int64_t count, const std::function<void(int64_t, int)>& body) {
            if (thread >= 0)
                for (int64_t block = 0; block < count; ++block) body(block, thread);
            else
                pool_.parallel_for(count, body);
        });
    for (const TaskInput* source : {&*task.base, &what}) file(merge, *source).check_whole();
    std::lock_guard lock(mutex_);
    return orders_[key] = std::move(made);
}

void CandidateMaker::look_up_thresholds(const Merge& merge, const TensorTask& task, TensorWork& work, int thread) {
    const std::vector<KeyOrder> wanted = work.wanted_thresholds();
    if (wanted.empty()) return;
    const bool wide = computes_in_double(task);
    Scratch& scratch = scratch_[size_t(std::max(thread, 0))];
    Window whole;
    whole.task = &task;
    whole.count = whole.input_count = task.elements();
    place(whole, merge, task);
    std::vector<Threshold> thresholds;
    for (const KeyOrder& each : wanted) {
        const auto known = order(merge, task, each.input, thread);
        if (!known) {
            std::lock_guard lock(mutex_);
            counts_.thresholds_counted += int64_t(wanted.size());
            return;
        }
        const auto key = [&](int64_t element) {
            const Operand from = at_element(whole.inputs[size_t(each.input)], element);
            uint64_t value = 0;
            scratch.lane->extract_keys(KeyKind::distance, wide, {base_from(whole, element), &from, 1, nullptr, 1}, 0,
                                       &value);
            return value;
        };
        thresholds.push_back(known->keep(each.k, key));
    }
    work.take_wanted(thresholds);
    std::lock_guard lock(mutex_);
    counts_.thresholds_looked_up += int64_t(wanted.size());
}

TensorBytes CandidateMaker::compute(const Merge& merge, const TensorTask& task, TensorWork& work, int thread) {
    look_up_thresholds(merge, task, work, thread);
    while (!work.settled()) {
        work.begin_round();
        for_windows(merge, task, work, thread, [&](const Window& window, Scratch& scratch) {
            if (work.wants(window.first_block(), window.first_block() + window.blocks())) work.scan(window, scratch);
        });
        work.end_round();
    }
    auto bytes = std::make_shared<std::vector<std::byte>>(size_t(task.bytes()));
    for_windows(merge, task, work, thread, [&](const Window& window, Scratch& scratch) {
        const auto at = size_t(uint64_t(window.first) * uint64_t(info(task.dtype).bits) / 8);
        work.apply(window, scratch, bytes->data() + at);
    });
    return bytes;
}

TensorBytes CandidateMaker::fold(const Merge& merge, const TensorTask& task, TensorWork& work, int thread) {
    std::string key;
    if (same_in_all(merge, task)) {
        key = identity(merge, *task.base) + std::string(info(task.dtype).name) + std::to_string(task.elements());
        std::lock_guard lock(mutex_);
        if (const auto known = unchanged_.find(key); known != unchanged_.end()) {
            ++counts_.known;
            return known->second;
        }
    }
    TensorBytes bytes = compute(merge, task, work, thread);
    std::lock_guard lock(mutex_);
    ++counts_.folded;
    if (!key.empty() && learnt_bytes_ + bytes->size() <= memory_ / 2) {
        learnt_bytes_ += bytes->size();
        unchanged_[key] = bytes;
    }
    return bytes;
}

}  // namespace amalgam
