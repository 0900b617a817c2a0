// Methods that add task vectors to a base: task_arithmetic, TIES, DARE, DELLA, breadcrumbs.
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>

#include "kernels/tree_sum.h"
#include "src/run/key_scan.h"
#include "src/run/model_trim.h"
#include "src/run/works.h"

namespace amalgam {

namespace {

constexpr double vanishing_norm = 1e-7;

class GtaWork final : public TensorWork {
  public:
    GtaWork(const TensorTask& task, const WorkSettings& settings, const ModelTrim* trim)
        : task_(task), settings_(settings), trim_(trim), wide_(computes_in_double(task)) {
        const MethodInfo& method = *settings.method;
        paper_ = settings.compat == Compat::paper;
        elect_ = method.election;
        double weights = 0;
        for (const TaskInput& input : task.inputs) {
            FoldModel model;
            model.weight = model_field(method, input, "weight", 1);
            model.scale = model.weight;
            weights += model.weight;
            if (!settings.is_here(input)) continue;
            inputs_.push_back(&input);
            models_.push_back(model);
            densities_.push_back(model_field(method, input, "density", 1));
        }
        bool normalize = global_field(method, task, "normalize", 0) != 0;
        constants_.normalize = normalize && elect_;
        constants_.factor = global_field(method, task, "lambda", 1);
        if (normalize && !elect_) constants_.factor /= std::fabs(weights) < 1e-8 ? 1 : weights;
        rescale_ = global_field(method, task, "rescale", 0) != 0;
        choose_sparsifier(method);
    }

    bool settled() const override { return (!scan_ || scan_->done()) && !needs_norms(); }

    void begin_round() override {
        if (scan_ && !scan_->done()) return scan_->begin_round();
        norms_ = std::make_unique<TreeSum>(block_count(task_.elements()), int64_t(2 * models_.size()));
    }
    bool wants(int64_t first, int64_t last) const override {
        return !scan_ || scan_->done() || scan_->wants(first, last);
    }
    bool sparse_round() const override { return scan_ && !scan_->done() && scan_->sampling(); }

    void scan(const Window& window, Scratch& scratch) override {
        if (scan_ && !scan_->done()) return scan_->scan(window, nullptr, scratch);
        const std::vector<double> totals = window_norms(window, scratch);
        std::lock_guard lock(mutex_);
        add_by_block(*norms_, window, totals);
    }
    void exchange(Communicator& ranks) override {
        if (scan_ && !scan_->done()) return scan_->exchange(ranks);
        auto all = ranks.all_gather(norms_->partials());
        norms_ = std::make_unique<TreeSum>(block_count(task_.elements()), int64_t(2 * models_.size()));
        for (const std::string& partials : all) norms_->merge(partials);
    }
    void end_round() override {
        if (scan_ && !scan_->done()) {
            scan_->end_round();
            if (scan_->done()) take_thresholds(scan_->thresholds());
            return;
        }
        const std::vector<double>& total = norms_->total();
        for (size_t m = 0; m < models_.size(); ++m) {
            double whole = total[2 * m], kept = total[2 * m + 1];
            double ratio = whole < vanishing_norm || kept < vanishing_norm || densities_[m] >= 1 ? 1 : whole / kept;
            models_[m].scale = models_[m].weight * ratio;
        }
        normed_ = true;
        norms_.reset();
    }

    bool whole_rows() const override { return settings_.method->trim == Trim::ranked; }

    FoldKind link_kind() const override { return elect_ ? FoldKind::elect : FoldKind::sum; }

    FoldCounts apply(const Window& window, Scratch& scratch, std::byte* out) const override {
        return apply_link(window, scratch, out, {});
    }
    FoldCounts apply_link(const Window& window, Scratch& scratch, std::byte* out, const FoldLink& link) const override {
        FoldCounts counts;
        const std::vector<const double*> factors = ranked_factors(window, scratch);
        const size_t last_input = std::min(link.last_input, models_.size()), bytes = wide_ ? 8 : 4;
        // Where the last kept tie of a model lies, its threshold changes.
        for (int64_t first = window.first, last = window.first + window.count; first < last;) {
            int64_t piece = last - first;
            for (size_t m = link.first_input; m < std::min(last_input, last_equal_.size()); ++m)
                for (int64_t equal : {last_equal_[m].low, last_equal_[m].high})
                    if (equal >= first && equal - first < piece - 1) piece = equal - first + 1;
            const size_t offset = size_t(first - window.first);
            FoldArguments arguments = piece_arguments(window, first, piece, scratch);
            std::vector<FoldModel> models = models_at(first);
            for (size_t m = 0; m < factors.size(); ++m) models[m].factors = factors[m] ? factors[m] + offset : nullptr;
            arguments.models = models.data() + link.first_input;
            arguments.inputs += link.first_input;
            arguments.model_count = int(last_input - link.first_input);
            arguments.out = out + offset * size_t(bytes_of(task_.dtype));
            arguments.out_dtype = task_.dtype;
            if (link.planes_in) arguments.planes_in = static_cast<const std::byte*>(link.planes_in) + offset * bytes;
            if (link.planes_out) arguments.planes_out = static_cast<std::byte*>(link.planes_out) + offset * bytes;
            arguments.plane_stride = window.count;
            add_counts(counts, scratch.lane->fold(link_kind(), sparsifier_, wide_, arguments));
            first += piece;
        }
        return counts;
    }

    std::vector<KeyOrder> wanted_thresholds() const override {
        return scan_ && !scan_->done() ? orders_ : std::vector<KeyOrder>();
    }
    void take_wanted(const std::vector<Threshold>& thresholds) override {
        take_thresholds(thresholds);
        scan_.reset();
    }

    std::string save() const override {
        if (!scan_ && !normed_) return "";
        std::string bytes;
        for (size_t m = 0; m < models_.size(); ++m) {
            bytes.append(reinterpret_cast<const char*>(&models_[m].scale), sizeof(double));
            if (scan_) {
                bytes.append(reinterpret_cast<const char*>(&low_[m]), sizeof(Threshold));
                bytes.append(reinterpret_cast<const char*>(&high_[m]), sizeof(Threshold));
            }
        }
        return bytes;
    }
    void load(const std::string& bytes) override {
        size_t record = sizeof(double) + (scan_ ? 2 * sizeof(Threshold) : 0);
        if (bytes.size() != record * models_.size()) return;
        const char* at = bytes.data();
        std::vector<Threshold> low(models_.size()), high(models_.size());
        for (size_t m = 0; m < models_.size(); ++m) {
            std::memcpy(&models_[m].scale, at, sizeof(double));
            at += sizeof(double);
            if (!scan_) continue;
            std::memcpy(&low[m], at, sizeof(Threshold));
            std::memcpy(&high[m], at + sizeof(Threshold), sizeof(Threshold));
            at += 2 * sizeof(Threshold);
        }
        if (scan_) set_bands(std::move(low), std::move(high));
        scan_.reset();
        normed_ = true;
    }

    int emptied_inputs() const override {
        int emptied = 0;
        if (settings_.method->trim == Trim::magnitude || settings_.method->trim == Trim::band)
            for (size_t m = 0; m < densities_.size(); ++m)
                emptied += !trim_ && densities_[m] < 1 && int64_t(densities_[m] * double(task_.elements())) == 0;
        return emptied;
    }
    int64_t scratch_bytes(int64_t elements) const override {
        return sparsifier_ == Sparsifier::factors ? elements * int64_t(sizeof(double) * models_.size()) : 0;
    }

  private:
    struct Cut {
        int64_t low = -1, high = -1;
    };

    bool needs_norms() const {
        if (!rescale_ || normed_ || sparsifier_ == Sparsifier::none) return false;
        bool random = settings_.method->trim == Trim::random || settings_.method->trim == Trim::ranked;
        return !(random && paper_);
    }

    void choose_sparsifier(const MethodInfo& method) {
        bool sparse = std::any_of(densities_.begin(), densities_.end(), [](double density) { return density < 1; });
        if (method.trim == Trim::none || !sparse) return;
        if (method.trim == Trim::random) {
            sparsifier_ = Sparsifier::random;
            for (size_t m = 0; m < models_.size(); ++m) {
                models_[m].address = address(m);
                models_[m].threshold = keep_threshold(densities_[m]);
                models_[m].all = densities_[m] >= 1;
                if (rescale_ && paper_ && densities_[m] > 0 && densities_[m] < 1) models_[m].scale /= densities_[m];
            }
        } else if (method.trim == Trim::ranked) {
            sparsifier_ = Sparsifier::factors;
        } else {
            sparsifier_ = Sparsifier::magnitude;
            trim_ ? take_model_trim() : plan_scan(method);
        }
    }

    MaskAddress address(size_t m) const {
        return {settings_.seed, XXH64(task_.name.data(), task_.name.size(), 0), uint64_t(inputs_[m]->position)};
    }

    void take_model_trim() {
        for (size_t m = 0; m < models_.size(); ++m) {
            ModelTrim::Band band = trim_->band(*inputs_[m]);
            models_[m].low = band.low;
            models_[m].high = band.high;
        }
    }

    /// Orders of the scan: for each model with density below 1 the elements kept, and before them those above the band.
    void plan_scan(const MethodInfo& method) {
        const int64_t n = task_.elements();
        std::vector<KeyOrder> orders;
        for (size_t m = 0; m < models_.size(); ++m) {
            if (densities_[m] >= 1) continue;
            Counts counts = band_counts(n, densities_[m],
                                        method.trim == Trim::band ? model_field(method, *inputs_[m], "gamma", 0) : 0);
            orders.push_back({int(m), counts.top + counts.keep, true});
            if (counts.top > 0) orders.push_back({int(m), counts.top, true});
        }
        orders_ = orders;
        scan_ = std::make_unique<KeyScan>(KeyKind::distance, wide_, n, std::move(orders), settings_.threads,
                                          settings_.sample_keys, settings_.sample_piece);
        if (scan_->done()) take_thresholds(scan_->thresholds());
    }

    void take_thresholds(const std::vector<Threshold>& thresholds) {
        std::vector<Threshold> low(models_.size(), Threshold::keep_all()), high(models_.size(), Threshold::keep_none());
        std::vector<bool> seen(models_.size());
        for (size_t i = 0; i < orders_.size(); ++i) {
            size_t m = size_t(orders_[i].input);
            (seen[m] ? high : low)[m] = thresholds[i];
            seen[m] = true;
        }
        set_bands(std::move(low), std::move(high));
    }
    void set_bands(std::vector<Threshold> low, std::vector<Threshold> high) {
        low_ = std::move(low);
        high_ = std::move(high);
        last_equal_.resize(models_.size());
        for (size_t m = 0; m < models_.size(); ++m) last_equal_[m] = {low_[m].last_equal, high_[m].last_equal};
    }

    /// The models of a piece in which no threshold changes.
    std::vector<FoldModel> models_at(int64_t first) const {
        std::vector<FoldModel> models = models_;
        for (size_t m = 0; m < low_.size(); ++m) {
            models[m].low = low_[m].low_at(first);
            models[m].high = high_[m].low_at(first);
        }
        return models;
    }

    FoldArguments piece_arguments(const Window& window, int64_t first, int64_t count, Scratch& scratch) const {
        FoldArguments arguments;
        arguments.constants = constants_;
        arguments.base = base_from(window, first);
        arguments.inputs = scratch.inputs_from(window, first);
        arguments.model_count = int(window.inputs.size());
        arguments.first = first;
        arguments.count = count;
        return arguments;
    }

    /// By block of the window.
    std::vector<double> window_norms(const Window& window, Scratch& scratch) const {
        std::vector<double> totals(size_t(window.blocks()) * 2 * models_.size());
        FoldArguments arguments = piece_arguments(window, window.first, window.count, scratch);
        std::vector<FoldModel> models = models_at(window.first);
        std::vector<const double*> factors = ranked_factors(window, scratch);
        for (size_t m = 0; m < factors.size(); ++m) models[m].factors = factors[m];
        arguments.models = models.data();
        if (sparsifier_ != Sparsifier::magnitude) {
            scratch.lane->norms(sparsifier_, wide_, arguments, totals.data());
            return totals;
        }
        // One model at a time: where its last tie is kept within the window, it needs a mask.
        std::vector<double> norms(size_t(window.blocks()) * 2);
        for (size_t m = 0; m < models_.size(); ++m) {
            FoldArguments one = arguments;
            one.inputs = &arguments.inputs[m];
            one.models = &models[m];
            one.model_count = 1;
            bool mixed = (last_equal_.size() > m) && (cuts(last_equal_[m].low, window.first, window.count) ||
                                                      cuts(last_equal_[m].high, window.first, window.count));
            if (mixed) models[m].factors = tie_factors(one, m, scratch);
            scratch.lane->norms(mixed ? Sparsifier::factors : Sparsifier::magnitude, wide_, one, norms.data());
            for (size_t block = 0; block < size_t(window.blocks()); ++block)
                for (size_t i : {0u, 1u}) totals[(block * models_.size() + m) * 2 + i] = norms[2 * block + i];
        }
        return totals;
    }
    static bool cuts(int64_t last, int64_t first, int64_t count) { return last >= first && last < first + count - 1; }

    const double* tie_factors(const FoldArguments& one, size_t m, Scratch& scratch) const {
        scratch.keys.resize(size_t(one.count));
        scratch.numbers.resize(size_t(one.count));
        KeyArguments keys{one.base, one.inputs, 1, nullptr, one.count};
        scratch.lane->extract_keys(KeyKind::distance, wide_, keys, 0, scratch.keys.data());
        for (int64_t e = 0; e < one.count; ++e) {
            uint64_t key = scratch.keys[size_t(e)];
            bool keep = key >= low_[m].low_at(one.first + e) && key < high_[m].low_at(one.first + e);
            scratch.numbers[size_t(e)] = keep ? 1. : 0.;
        }
        return scratch.lane->bring_numbers(scratch.numbers);
    }

    /// By model; none if the method does not rank.
    std::vector<const double*> ranked_factors(const Window& window, Scratch& scratch) const {
        std::vector<const double*> factors;
        if (sparsifier_ != Sparsifier::factors) return factors;
        for (size_t m = 0; m < models_.size(); ++m) {
            factors.push_back(nullptr);
            if (densities_[m] >= 1) continue;
            RankedArguments arguments;
            arguments.base = window.base;
            arguments.input = window.inputs[m];
            arguments.columns = task_.columns();
            arguments.first = window.first;
            arguments.count = window.count;
            arguments.density = densities_[m];
            arguments.epsilon = model_field(*settings_.method, *inputs_[m], "epsilon", 0);
            arguments.inverse = rescale_ && paper_;
            arguments.address = address(m);
            factors.back() = scratch.lane->ranked_factors(wide_, arguments);
        }
        return factors;
    }

    const TensorTask& task_;
    WorkSettings settings_;
    const ModelTrim* trim_;
    bool wide_, paper_ = false, elect_ = false, rescale_ = false, normed_ = false;
    Sparsifier sparsifier_ = Sparsifier::none;
    FoldConstants constants_;
    std::vector<const TaskInput*> inputs_;  ///< that this rank reads, as are the models
    std::vector<FoldModel> models_;
    std::vector<double> densities_;
    std::vector<KeyOrder> orders_;
    std::unique_ptr<KeyScan> scan_;
    std::vector<Threshold> low_, high_;  ///< by model: kept are keys from low to below high
    std::vector<Cut> last_equal_;
    std::mutex mutex_;
    std::unique_ptr<TreeSum> norms_;
};

}  // namespace

Counts band_counts(int64_t n, double density, double gamma) {
    Counts counts;
    counts.keep = int64_t(density * double(n));
    counts.top = int64_t(gamma * double(n));
    int64_t bottom = n - counts.keep - counts.top;
    if (bottom < 0) counts.top += bottom;
    return counts;
}

std::unique_ptr<TensorWork> make_gta_work(const TensorTask& task, const WorkSettings& settings, const ModelTrim* trim) {
    return std::make_unique<GtaWork>(task, settings, trim);
}

}  // namespace amalgam
