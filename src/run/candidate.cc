#include "src/run/candidate.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/passes.h"
#include "src/base/error.h"
#include "src/run/resources.h"

namespace amalgam {

namespace {

class RememberingFiles final : public Files {
  public:
    explicit RememberingFiles(Files& source) : source_(source) {}
    FileStatus status(const std::string& path) override {
        return ask(statuses_, path, [&] { return source_.status(path); });
    }
    std::string read(const std::string& path, uint64_t first, uint64_t count) override {
        return ask(texts_, std::tuple(path, first, count), [&] { return source_.read(path, first, count); });
    }
    std::vector<std::string> list(const std::string& path) override {
        return ask(lists_, path, [&] { return source_.list(path); });
    }
    std::optional<std::string> environment(const std::string& name) override {
        return ask(variables_, name, [&] { return source_.environment(name); });
    }

  private:
    template <class Answers, class Key, class Ask>
    static typename Answers::mapped_type ask(Answers& answers, const Key& key, const Ask& question) {
        const auto known = answers.find(key);
        return known != answers.end() ? known->second : answers.emplace(key, question()).first->second;
    }

    Files& source_;
    std::map<std::string, FileStatus> statuses_;
    std::map<std::tuple<std::string, uint64_t, uint64_t>, std::string> texts_;
    std::map<std::string, std::vector<std::string>> lists_;
    std::map<std::string, std::optional<std::string>> variables_;
};

}  // namespace

std::unique_ptr<Files> remembering_files(Files& source) { return std::make_unique<RememberingFiles>(source); }

OutputConfig merged_config(const Merge& merge) {
    std::vector<std::string> configs;
    for (const MergeModel& model : merge.models) configs.push_back(model.checkpoint.config);
    ConfigChanges changes;
    changes.dtype = merge.config_dtype;
    changes.layer_sources = merge.layer_sources;
    changes.donor = vocabulary_tensors(merge.models[size_t(merge.config_donor)].checkpoint.tensors);
    changes.written = vocabulary_tensors(merge.tasks);
    return output_config(configs, merge.config_donor, changes);
}

CandidateMaker::CandidateMaker(ThreadPool& pool, uint64_t memory)
    : pool_(pool), memory_(memory), device_(make_cpu_device()), scratch_(size_t(pool.threads())) {
    for (size_t thread = 0; thread < scratch_.size(); ++thread) {
        lanes_.push_back(device_->make_lane({}));
        scratch_[thread].thread = int(thread);
        scratch_[thread].lane = lanes_.back().get();
    }
}

CandidateMaker::~CandidateMaker() = default;

/// As large as the memory allows on every thread, without pointers to inputs.
std::vector<Window> CandidateMaker::cut(const TensorTask& task, const TensorWork& work) const {
    uint64_t block_bytes = uint64_t(work.scratch_bytes(block_elements)) + uint64_t(block_elements) * 8;
    for (const TaskInput* input : all_inputs(task)) block_bytes += input_bytes(*input, block_elements);
    const uint64_t share = std::min<uint64_t>(memory_ / 4 / uint64_t(pool_.threads()), uint64_t(4) << 20);
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

void CandidateMaker::for_windows(const TensorTask& task, const TensorWork& work, InputFiles& inputs, int thread,
                                 const Body& body) {
    std::vector<Window> windows = cut(task, work);
    auto run = [&](Window& window, int on) {
        const auto sources = all_inputs(task);
        for (size_t i = 0; i < sources.size(); ++i) {
            const InputFile& file = inputs.get(sources[i]->model, sources[i]->tensor.file);
            set_operand(window, task, i, *sources[i], file.mapped() + byte_range(*sources[i], window).first);
        }
        Scratch& scratch = scratch_[size_t(on)];
        scratch.lane->begin_window();
        body(window, scratch);
        for (const TaskInput* source : sources) inputs.get(source->model, source->tensor.file).check_whole();
    };
    if (thread >= 0)
        for (Window& window : windows) run(window, thread);
    else
        pool_.parallel_for(int64_t(windows.size()), [&](int64_t w, int on) { run(windows[size_t(w)], on); });
}

std::vector<std::byte> CandidateMaker::fold(const TensorTask& task, TensorWork& work, InputFiles& inputs, int thread) {
    while (!work.settled()) {
        work.begin_round();
        for_windows(task, work, inputs, thread, [&](const Window& window, Scratch& scratch) {
            if (work.wants(window.first_block(), window.first_block() + window.blocks())) work.scan(window, scratch);
        });
        work.end_round();
    }
    std::vector<std::byte> bytes(size_t(task.bytes()));
    for_windows(task, work, inputs, thread, [&](const Window& window, Scratch& scratch) {
        const auto at = size_t(uint64_t(window.first) * uint64_t(info(task.dtype).bits) / 8);
        work.apply(window, scratch, bytes.data() + at);
    });
    return bytes;
}

Candidate::Candidate(CandidateMaker& maker, const Merge& merge)
    : maker_(maker), merge_(merge), inputs_(merge, ReadMode::mmap) {
    settings_.method = merge.method;
    settings_.compat = merge.compat;
    settings_.seed = merge.seed;
    settings_.threads = maker.pool().threads();
    settings_.merge = &merge;
    for (size_t task = 0; task < merge.tasks.size(); ++task) places_[merge.tasks[task].name] = task;

    const Trim kind = merge.method->trim;
    if (merge.compat != Compat::paper || (kind != Trim::magnitude && kind != Trim::band)) return;
    trim_ = std::make_unique<ModelTrim>(merge, settings_);
    while (!trim_->done()) {
        trim_->begin_round();
        for (size_t t = 0; t < merge.tasks.size(); ++t) {
            if (merge.tasks[t].kind != TaskKind::merge) continue;
            const auto work = make_work(merge.tasks[t], settings_, nullptr);
            maker.for_windows(merge.tasks[t], *work, inputs_, -1, [&](const Window& window, Scratch& scratch) {
                trim_->scan(int64_t(t), window, scratch);
            });
        }
        const std::unique_ptr<Communicator> alone = self_communicator();
        trim_->exchange(*alone);
        trim_->end_round();
    }
}

Candidate::~Candidate() = default;

uint64_t Candidate::bytes() const {
    uint64_t bytes = 0;
    for (const TensorTask& each : merge_.tasks) bytes += each.bytes();
    return bytes;
}

const TensorTask& Candidate::task(const std::string& name) const {
    const auto place = places_.find(name);
    check(place != places_.end(), "the merge has no tensor {}, which its config asks for", printable(name));
    return merge_.tasks[place->second];
}

std::vector<std::byte> Candidate::fold(const TensorTask& what, int thread) {
    const auto work = make_work(what, settings_, trim_.get());
    return maker_.fold(what, *work, inputs_, thread);
}

void Candidate::fold_all() {
    // Small tensors side by side, large ones with all threads each.
    std::vector<const TensorTask*> small;
    for (const TensorTask& each : merge_.tasks) {
        folded_[each.name];
        if (each.elements() <= 16 * block_elements)
            small.push_back(&each);
        else
            folded_[each.name] = fold(each, -1);
    }
    maker_.pool().parallel_for(int64_t(small.size()), [&](int64_t i, int thread) {
        folded_.at(small[size_t(i)]->name) = fold(*small[size_t(i)], thread);
    });
}

std::vector<std::byte> Candidate::tensor(const std::string& name) {
    const auto there = folded_.find(name);
    return there != folded_.end() ? there->second : fold(task(name), -1);
}

class Candidate::Reader final : public TensorReader {
  public:
    explicit Reader(Candidate& candidate) : candidate_(candidate) {}
    void read(const std::string& name, const std::vector<int64_t>& shape, float* to) override {
        const TensorTask& what = candidate_.task(name);
        check(what.shape == shape, "{} of the merge is {}, its config asks for {}", printable(name),
              shape_text(what.shape), shape_text(shape));
        check(info(what.dtype).computed, "{} of the merge is {}, which cannot be computed with", printable(name),
              info(what.dtype).name);
        const auto there = candidate_.folded_.find(name);
        const std::vector<std::byte> fresh =
            there == candidate_.folded_.end() ? candidate_.fold(what, -1) : std::vector<std::byte>();
        const std::vector<std::byte>& bytes = there == candidate_.folded_.end() ? fresh : there->second;
        cpu::convert({bytes.data(), what.dtype}, to, Dtype::f32, what.elements());
    }
    bool is_bfloat16(const std::string& name) override { return candidate_.task(name).dtype == Dtype::bf16; }

  private:
    Candidate& candidate_;
};

std::unique_ptr<TensorReader> Candidate::reader() { return std::make_unique<Reader>(*this); }

}  // namespace amalgam
