#include "src/run/candidate.h"

#include <algorithm>
#include <chrono>

#include "kernels/cpu/passes.h"
#include "src/base/error.h"

namespace amalgam {

namespace {

/// Adds its lifetime to a sum.
class Stopwatch {
  public:
    explicit Stopwatch(double& sum) : sum_(sum) {}
    ~Stopwatch() { sum_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;

  private:
    double& sum_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

OutputConfig merged_config(const Merge& merge) {
    std::vector<std::string> configs;
    for (const MergeModel& model : merge.models) configs.push_back(model.checkpoint.config);
    ConfigChanges changes;
    changes.dtype = merge.config_dtype;
    changes.layer_sources = merge.layer_sources;
    const OnlyTower tower = only_tower(merge.tasks);
    changes.tower = tower.name();
    changes.layers = tower.layers();
    changes.donor = vocabulary_tensors(merge.models[size_t(merge.config_donor)].checkpoint.tensors);
    changes.written = vocabulary_tensors(merge.tasks);
    return output_config(configs, merge.config_donor, changes);
}

CandidateModel::CandidateModel(CandidateMaker& maker, Communicator& ranks, const Merge& merge)
    : maker_(maker), ranks_(ranks), merge_(merge) {
    settings_.method = merge.method;
    settings_.compat = merge.compat;
    settings_.seed = merge.seed;
    settings_.threads = maker.pool().threads();
    settings_.merge = &merge;
    // Tasks are in the order of layers, so that every stretch of layers is shared out evenly.
    std::vector<uint64_t> load(static_cast<size_t>(ranks.size()));
    for (const TensorTask& each : merge.tasks) {
        places_[each.name] = owners_.size();
        const auto least = std::min_element(load.begin(), load.end());
        *least += each.bytes();
        owners_.push_back(int(least - load.begin()));
    }
    const Trim kind = merge.method->trim;
    if (merge.compat == Compat::paper && (kind == Trim::magnitude || kind == Trim::band)) find_trim();
}

CandidateModel::~CandidateModel() = default;

/// Thresholds over the whole model, of which each rank looks at its own tensors.
void CandidateModel::find_trim() {
    const Stopwatch watch(seconds_);
    trim_ = std::make_unique<ModelTrim>(merge_, settings_);
    while (!trim_->done()) {
        trim_->begin_round();
        for (size_t t = 0; t < merge_.tasks.size(); ++t) {
            if (merge_.tasks[t].kind != TaskKind::merge || owners_[t] != ranks_.rank()) continue;
            const auto work = make_work(merge_.tasks[t], settings_, nullptr);
            maker_.for_windows(merge_, merge_.tasks[t], *work, -1, [&](const Window& window, Scratch& scratch) {
                trim_->scan(int64_t(t), window, scratch);
            });
        }
        trim_->exchange(ranks_);
        trim_->end_round();
    }
}

const TensorTask& CandidateModel::task(const std::string& name) const {
    const auto place = places_.find(name);
    check(place != places_.end(), "the merge has no tensor {}, which its config asks for", printable(name));
    return merge_.tasks[place->second];
}

/// Those of them that are this rank's: small tensors side by side, large ones with all threads each.
void CandidateModel::fold(const std::vector<const TensorTask*>& tasks) {
    std::string error;
    try {
        std::vector<const TensorTask*> small;
        for (const TensorTask* each : tasks) {
            if (owner(*each) != ranks_.rank() || folded_.contains(each)) continue;
            if (each->elements() <= 16 * block_elements) {
                small.push_back(each);
                folded_[each];
            } else {
                folded_[each] = maker_.fold(merge_, *each, *make_work(*each, settings_, trim_.get()), -1);
            }
        }
        maker_.pool().parallel_for(int64_t(small.size()), [&](int64_t i, int thread) {
            const TensorTask& each = *small[size_t(i)];
            folded_.at(&each) = maker_.fold(merge_, each, *make_work(each, settings_, trim_.get()), thread);
        });
    } catch (const std::exception& caught) {
        error = caught.what();
    }
    ranks_.agree(error);
}

void CandidateModel::fold_all() {
    const Stopwatch watch(seconds_);
    keep_ = true;
    std::vector<const TensorTask*> all;
    for (const TensorTask& each : merge_.tasks) all.push_back(&each);
    fold(all);
}

/// The tensor on every rank; gone from its owner, unless all are kept.
TensorBytes CandidateModel::take(const TensorTask& what) {
    const Stopwatch watch(seconds_);
    const auto there = folded_.find(&what);
    TensorBytes bytes;
    if (owner(what) == ranks_.rank()) {
        check(there != folded_.end(), "{} was not folded (a bug in the program)", printable(what.name));
        bytes = there->second;
        if (!keep_) folded_.erase(there);
    }
    if (ranks_.size() == 1) return bytes;
    if (bytes) {
        // The sender's copy is only read.
        ranks_.broadcast({const_cast<std::byte*>(bytes->data()), bytes->size()}, ranks_.rank());
        return bytes;
    }
    auto received = std::make_shared<std::vector<std::byte>>(size_t(what.bytes()));
    ranks_.broadcast(*received, owner(what));
    return received;
}

class CandidateModel::Reader final : public TensorReader {
  public:
    explicit Reader(CandidateModel& candidate) : candidate_(candidate) {}

    void expect(const std::vector<std::string>& names) override {
        if (candidate_.keep_) return;
        const Stopwatch watch(candidate_.seconds_);
        std::vector<const TensorTask*> tasks;
        for (const std::string& name : names) tasks.push_back(&candidate_.task(name));
        candidate_.fold(tasks);
    }
    void read(const std::string& name, const std::vector<int64_t>& shape, float* to) override {
        const TensorTask& what = candidate_.task(name);
        check(what.shape == shape, "{} of the merge is {}, its config asks for {}", printable(name),
              shape_text(what.shape), shape_text(shape));
        check(info(what.dtype).computed, "{} of the merge is {}, which cannot be computed with", printable(name),
              info(what.dtype).name);
        const TensorBytes bytes = is_shared() ? candidate_.folded_.at(&what) : candidate_.take(what);
        cpu::convert({bytes->data(), what.dtype}, to, Dtype::f32, what.elements());
    }
    bool is_bfloat16(const std::string& name) override { return candidate_.task(name).dtype == Dtype::bf16; }
    bool is_shared() const override { return candidate_.keep_ && candidate_.ranks_.size() == 1; }

  private:
    CandidateModel& candidate_;
};

std::unique_ptr<TensorReader> CandidateModel::reader() { return std::make_unique<Reader>(*this); }

}  // namespace amalgam
