// Methods whose mask needs all models of an element (SCE) or a value per row (arcee_fusion).
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <mutex>

#include "kernels/tree_sum.h"
#include "src/run/key_scan.h"
#include "src/run/works.h"

namespace amalgam {

namespace {

class SceWork final : public TensorWork {
  public:
    SceWork(const TensorTask& task, const WorkSettings& settings)
        : task_(task), settings_(settings), wide_(computes_in_double(task)) {
        share_ = global_field(*settings.method, task, "select_topk", 1);
        phase_ = share_ < 1 ? Phase::count : Phase::energies;
        kept_ = share_ < 1 ? Threshold::keep_none() : Threshold::keep_all();
        reset_sums();
    }
    bool settled() const override { return phase_ == Phase::settled; }
    bool sparse_round() const override { return phase_ == Phase::select && scan_->sampling(); }
    void begin_round() override {
        if (phase_ == Phase::select) scan_->begin_round();
    }
    bool wants(int64_t first, int64_t last) const override {
        return phase_ != Phase::select || scan_->wants(first, last);
    }

    void scan(const Window& window, Scratch& scratch) override {
        if (phase_ == Phase::select) return scan_->scan(window, nullptr, scratch);
        SelectArguments arguments = piece(window, window.first, window.count, scratch);
        if (phase_ == Phase::count) {
            const KeyStream stream{0, {1, uint64_t(1) << 31, 0}, nullptr};
            std::vector<KeyCounts> counts(size_t(window.blocks()));
            scratch.lane->count_keys(KeyKind::variance, wide_, arguments.key, {&stream, 1}, counts.data());
            for (const KeyCounts& block : counts) nonzero_ += block.from_low;
            return;
        }
        arguments.low = kept_.low_at(window.first);
        if (kept_.low_at(window.first + window.count - 1) != arguments.low) {
            arguments.tie_key = kept_.threshold;
            arguments.tie_count = kept_.last_equal + 1 - window.first;
        }
        std::vector<double> totals(size_t(window.blocks()) * task_.inputs.size());
        scratch.lane->energies(wide_, arguments, totals.data());
        std::lock_guard lock(mutex_);
        add_by_block(*sums_, window, totals);
    }
    void exchange(Communicator& ranks) override {
        if (phase_ == Phase::select) return scan_->exchange(ranks);
        if (phase_ == Phase::count) {
            nonzero_ = int64_t(ranks.all_reduce_sum(uint64_t(nonzero_.load())));
            return;
        }
        auto all = ranks.all_gather(sums_->partials());
        reset_sums();
        for (const std::string& partials : all) sums_->merge(partials);
    }
    void end_round() override {
        if (phase_ == Phase::count) {
            int64_t k = int64_t(double(nonzero_.load()) * share_);
            scan_ = std::make_unique<KeyScan>(KeyKind::variance, wide_, task_.elements(),
                                              std::vector<KeyOrder>{{0, k, true}}, settings_.threads,
                                              settings_.sample_keys, settings_.sample_piece);
            phase_ = Phase::select;
        } else if (phase_ == Phase::select) {
            scan_->end_round();
        } else {
            weigh();
            phase_ = Phase::settled;
            return;
        }
        if (phase_ == Phase::select && scan_->done()) {
            kept_ = scan_->thresholds()[0];
            scan_.reset();
            phase_ = Phase::energies;
        }
    }

    FoldCounts apply(const Window& window, Scratch& scratch, std::byte* out) const override {
        FoldCounts counts;
        each_side(window.first, window.count, [&](int64_t from, int64_t elements) {
            SelectArguments arguments = piece(window, from, elements, scratch);
            arguments.low = kept_.low_at(from);
            arguments.weights = weights_.data();
            arguments.out = out + (from - window.first) * bytes_of(task_.dtype);
            arguments.out_dtype = task_.dtype;
            add_counts(counts, scratch.lane->sce(wide_, arguments));
        });
        return counts;
    }

    std::string save() const override {
        std::string bytes(reinterpret_cast<const char*>(&kept_), sizeof kept_);
        bytes.append(reinterpret_cast<const char*>(weights_.data()), weights_.size() * sizeof(double));
        return bytes;
    }
    void load(const std::string& bytes) override {
        if (bytes.size() != sizeof kept_ + task_.inputs.size() * sizeof(double)) return;
        weights_.resize(task_.inputs.size());
        std::memcpy(&kept_, bytes.data(), sizeof kept_);
        std::memcpy(weights_.data(), bytes.data() + sizeof kept_, weights_.size() * sizeof(double));
        phase_ = Phase::settled;
    }

  private:
    enum class Phase { count, select, energies, settled };

    void reset_sums() {
        sums_ = std::make_unique<TreeSum>(block_count(task_.elements()), int64_t(task_.inputs.size()));
    }
    /// Cuts a piece where the last kept tie lies.
    template <class Body>
    void each_side(int64_t first, int64_t count, const Body& body) const {
        bool inside = kept_.last_equal >= first && kept_.last_equal < first + count - 1;
        int64_t cut = inside ? kept_.last_equal - first + 1 : count;
        body(first, cut);
        if (cut < count) body(first + cut, count - cut);
    }
    SelectArguments piece(const Window& window, int64_t first, int64_t count, Scratch& scratch) const {
        SelectArguments arguments;
        arguments.key = {base_from(window, first), scratch.inputs_from(window, first), int(window.inputs.size()),
                         nullptr, count};
        return arguments;
    }
    void weigh() {
        const std::vector<double>& energy = sums_->total();
        double total = 0;
        weights_.clear();
        for (double sum : energy) {
            weights_.push_back(sum / double(task_.elements()));
            total += weights_.back();
        }
        for (double& weight : weights_) weight = total < 1e-6 ? 1. / double(weights_.size()) : weight / total;
        sums_.reset();
    }

    const TensorTask& task_;
    WorkSettings settings_;
    bool wide_;
    double share_;
    Phase phase_;
    std::atomic<int64_t> nonzero_{0};
    std::unique_ptr<KeyScan> scan_;
    Threshold kept_;
    std::mutex mutex_;
    std::unique_ptr<TreeSum> sums_;
    std::vector<double> weights_;
};

class FusionWork final : public TensorWork {
  public:
    FusionWork(const TensorTask& task, const WorkSettings& settings)
        : task_(task), wide_(computes_in_double(task)), rows_(task.elements() / task.columns()) {
        const int64_t n = task.elements();
        std::vector<KeyOrder> orders;
        // Median, lower and upper quartile: element floor(q (n - 1)) in ascending order.
        for (double q : {0.5, 0.25, 0.75}) orders.push_back({0, n - int64_t(q * double(n - 1)), false});
        scan_ = std::make_unique<KeyScan>(KeyKind::importance, wide_, n, std::move(orders), settings.threads,
                                          settings.sample_keys, settings.sample_piece);
        divergences_.resize(size_t(rows_));
    }
    bool whole_rows() const override { return true; }
    bool wants_computed_blocks() const override { return !diverged_; }
    bool settled() const override { return settled_; }
    bool sparse_round() const override { return diverged_ && scan_->sampling(); }
    void begin_round() override {
        if (diverged_) scan_->begin_round();
    }
    bool wants(int64_t first, int64_t last) const override { return !diverged_ || scan_->wants(first, last); }

    void scan(const Window& window, Scratch& scratch) override {
        if (!diverged_) return measure_rows(window, scratch);
        scan_->scan(window, factors(window, scratch), scratch);
    }
    void exchange(Communicator& ranks) override {
        if (diverged_) scan_->exchange(ranks);
    }
    void end_round() override {
        if (!diverged_) {
            diverged_ = true;
            return;
        }
        scan_->end_round();
        if (!scan_->done()) return;
        auto value = [&](int order) { return float_of(uint32_t(scan_->thresholds()[size_t(order)].threshold)); };
        float threshold = value(0) + 1.5f * (value(2) - value(1));
        // A NaN in the quartiles selects nothing but what is a NaN, too.
        low_ = threshold != threshold ? infinity_bits<float> + 1 : threshold <= 0 ? 0 : bits_of(threshold);
        scan_.reset();
        settled_ = true;
    }

    FoldCounts apply(const Window& window, Scratch& scratch, std::byte* out) const override {
        SelectArguments arguments;
        arguments.key = {base_from(window, window.first), scratch.inputs_from(window, window.first), 1,
                         factors(window, scratch), window.count};
        arguments.low = low_;
        arguments.out = out;
        arguments.out_dtype = task_.dtype;
        return scratch.lane->fusion(wide_, arguments);
    }
    int64_t scratch_bytes(int64_t elements) const override {
        return elements * int64_t(sizeof(float)) + 2 * task_.columns() * int64_t(sizeof(double));
    }

  private:
    void measure_rows(const Window& window, Scratch& scratch) {
        const int64_t columns = task_.columns(), first_row = window.input_first / columns;
        scratch.numbers.resize(size_t(window.input_count / columns));
        scratch.lane->divergences(wide_, window.base, window.inputs[0], window.input_first,
                                  int64_t(scratch.numbers.size()), columns, scratch.numbers.data());
        // A row on the border of two windows is measured by both, with the same result.
        for (size_t row = 0; row < scratch.numbers.size(); ++row)
            std::atomic_ref(divergences_[size_t(first_row) + row])
                .store(static_cast<float>(scratch.numbers[row]), std::memory_order_relaxed);
    }
    const float* factors(const Window& window, Scratch& scratch) const {
        const int64_t columns = task_.columns(), first_row = window.first / columns;
        const int64_t rows = (window.first + window.count - 1) / columns - first_row + 1;
        return scratch.lane->spread_rows(std::span(divergences_).subspan(size_t(first_row), size_t(rows)), columns,
                                         window.first, window.count);
    }

    const TensorTask& task_;
    bool wide_, diverged_ = false, settled_ = false;
    int64_t rows_;
    std::vector<float> divergences_;
    std::unique_ptr<KeyScan> scan_;
    uint64_t low_ = 0;
};

}  // namespace

std::unique_ptr<TensorWork> make_sce_work(const TensorTask& task, const WorkSettings& settings) {
    return std::make_unique<SceWork>(task, settings);
}

std::unique_ptr<TensorWork> make_fusion_work(const TensorTask& task, const WorkSettings& settings) {
    return std::make_unique<FusionWork>(task, settings);
}

}  // namespace amalgam
