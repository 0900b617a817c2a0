// Plain folds and blends of whole tensors, and copies.
#include <algorithm>
#include <cstring>
#include <mutex>
#include <stdexcept>

#include "kernels/blends.h"
#include "kernels/cpu/passes.h"
#include "kernels/tree_sum.h"
#include "src/base/error.h"
#include "src/run/works.h"

namespace amalgam {

double global_field(const MethodInfo& method, const TensorTask& task, std::string_view name, double otherwise) {
    int place = method.field(name);
    return place < 0 ? otherwise : task.global[size_t(place)];
}

double model_field(const MethodInfo& method, const TaskInput& input, std::string_view name, double otherwise) {
    int place = method.field(name);
    return place < 0 ? otherwise : input.fields[size_t(place)];
}

namespace {

/// Folds without a sparsifier, whose coefficients are known or come from rounds.
class FoldWork : public TensorWork {
  public:
    FoldWork(const TensorTask& task, FoldKind kind) : task_(task), kind_(kind), wide_(computes_in_double(task)) {
        models_.resize(task.inputs.size());
    }

    FoldKind link_kind() const override { return kind_; }

    FoldCounts apply(const Window& window, Scratch& scratch, std::byte* out) const override {
        return apply_link(window, scratch, out, {});
    }
    FoldCounts apply_link(const Window& window, Scratch& scratch, std::byte* out, const FoldLink& link) const override {
        std::vector<Operand> inputs = window.inputs;
        FoldArguments arguments;
        arguments.constants = constants_;
        arguments.base = window.base;
        if (base_is_input_) {
            inputs.insert(inputs.begin(), arguments.base);
            arguments.base = {};
        }
        const size_t last = std::min(link.last_input, models_.size());
        arguments.inputs = inputs.data() + link.first_input;
        arguments.models = models_.data() + link.first_input;
        arguments.model_count = int(last - link.first_input);
        arguments.first = window.first;
        arguments.count = window.count;
        arguments.out = out;
        arguments.out_dtype = task_.dtype;
        arguments.planes_in = link.planes_in;
        arguments.planes_out = link.planes_out;
        arguments.plane_stride = window.count;
        return scratch.lane->fold(kind_, Sparsifier::none, wide_, arguments);
    }

    void set_scale(size_t model, double scale) { models_[model].scale = models_[model].weight = scale; }
    /// Of the models that this rank reads.
    void set_scales(const std::vector<double>& scales) {
        models_.resize(scales.size());
        for (size_t m = 0; m < scales.size(); ++m) set_scale(m, scales[m]);
    }
    FoldConstants& constants() { return constants_; }

  protected:
    /// The base becomes the first of the inputs, with a coefficient of its own.
    void make_base_an_input() {
        base_is_input_ = true;
        models_.insert(models_.begin(), FoldModel{});
    }
    void set_kind(FoldKind kind) { kind_ = kind; }

    const TensorTask& task_;
    FoldKind kind_;
    bool wide_, base_is_input_ = false;
    FoldConstants constants_;
    std::vector<FoldModel> models_;
};

/// RAM+: how much each model shares with others decides how far its own changes are amplified.
class RamPlusWork final : public FoldWork {
  public:
    RamPlusWork(const TensorTask& task, const WorkSettings& settings)
        : FoldWork(task, FoldKind::ramplus), settings_(settings), shared_(task.inputs.size()), unique_(shared_) {
        epsilon_ = constants_.factor = global_field(*settings.method, task, "epsilon", 0);
    }
    bool settled() const override { return settled_; }
    void scan(const Window& window, Scratch& scratch) override {
        std::vector<int64_t> shared(shared_.size()), unique(unique_.size());
        KeyArguments what{window.base, window.inputs.data(), int(window.inputs.size()), nullptr, window.count};
        scratch.lane->changes(wide_, what, epsilon_, shared.data(), unique.data());
        std::lock_guard lock(mutex_);
        for (size_t m = 0; m < shared.size(); ++m) {
            shared_[m] += shared[m];
            unique_[m] += unique[m];
        }
    }
    void exchange(Communicator& ranks) override {
        ranks.all_reduce_sum(std::span<int64_t>(shared_));
        ranks.all_reduce_sum(std::span<int64_t>(unique_));
    }
    void end_round() override {
        double r = global_field(*settings_.method, task_, "r", 0);
        double alpha = global_field(*settings_.method, task_, "alpha", 0);
        for (size_t m = 0; m < shared_.size(); ++m) {
            double ratio = double(shared_[m]) / std::max(double(unique_[m]), epsilon_);
            ratio = ratio < alpha ? ratio : alpha;
            models_[m].scale = 1 + r * (ratio == ratio ? ratio : 0.);
        }
        settled_ = true;
    }

  private:
    WorkSettings settings_;
    double epsilon_;
    bool settled_ = false;
    std::mutex mutex_;
    std::vector<int64_t> shared_, unique_;
};

/// Blends: one pass for the Gram matrix, coefficients, one fold.
class BlendWork final : public FoldWork {
  public:
    BlendWork(const TensorTask& task, const WorkSettings& settings)
        : FoldWork(task, FoldKind::average), settings_(settings) {
        name_ = settings.method->name;
        relative_ = task.base && settings.method->base != BaseUse::member;
        vectors_ = int64_t(task.inputs.size());
        if (settings.method->base == BaseUse::member || name_ == "model_stock") make_base_an_input();
        if (settings.method->base == BaseUse::member) ++vectors_;
        if (relative_ && name_ != "model_stock") set_kind(FoldKind::sum);
        sums_ = std::make_unique<TreeSum>(block_count(task.elements()), pair_count(vectors_));
    }
    bool settled() const override { return settled_; }

    void scan(const Window& window, Scratch& scratch) override {
        std::vector<Operand> inputs = window.inputs;
        if (settings_.method->base == BaseUse::member) inputs.insert(inputs.begin(), window.base);
        GramArguments arguments;
        if (relative_) arguments.base = window.base;
        arguments.inputs = inputs.data();
        arguments.input_count = int(inputs.size());
        arguments.first = window.first;
        arguments.count = window.count;
        std::vector<double> products(size_t(window.blocks() * pair_count(vectors_)));
        scratch.lane->gram(wide_, arguments, products.data());
        std::lock_guard lock(mutex_);
        add_by_block(*sums_, window, products);
    }
    void exchange(Communicator& ranks) override {
        auto all = ranks.all_gather(sums_->partials());
        sums_ = std::make_unique<TreeSum>(block_count(task_.elements()), pair_count(vectors_));
        for (const std::string& partials : all) sums_->merge(partials);
    }
    void end_round() override {
        Gram gram(sums_->total(), vectors_);
        std::vector<double> scales = solve(gram);
        for (size_t m = 0; m < scales.size(); ++m) set_scale(m, scales[m]);
        sums_.reset();
        settled_ = true;
    }

    std::string save() const override {
        std::string bytes;
        for (const FoldModel& model : models_)
            bytes.append(reinterpret_cast<const char*>(&model.scale), sizeof(double));
        return bytes;
    }
    void load(const std::string& bytes) override {
        if (bytes.size() != models_.size() * sizeof(double)) return;
        for (size_t m = 0; m < models_.size(); ++m) {
            double scale;
            std::memcpy(&scale, bytes.data() + m * sizeof(double), sizeof scale);
            set_scale(m, scale);
        }
        settled_ = true;
    }

  private:
    std::vector<double> solve(const Gram& gram) const {
        const MethodInfo& method = *settings_.method;
        std::vector<double> weights;
        for (const TaskInput& input : task_.inputs) weights.push_back(model_field(method, input, "weight", 1));
        if (name_ == "slerp") return blends::slerp(gram, global_field(method, task_, "t", 0));
        if (name_ == "nuslerp") return blends::nuslerp(gram, weights[0], weights[1]);
        if (name_ == "karcher")
            return blends::karcher(gram, int(global_field(method, task_, "max_iter", 10)),
                                   global_field(method, task_, "tol", 1e-5));
        if (name_ == "model_stock") {
            double t = blends::model_stock(gram);
            std::vector<double> scales(models_.size(), t / double(vectors_));
            scales[0] = 1 - t;
            return scales;
        }
        try {
            return blends::multislerp(gram, weights, global_field(method, task_, "normalize_weights", 1) != 0,
                                      global_field(method, task_, "eps", 1e-8));
        } catch (const std::domain_error& error) {
            fail("{}: {} has no answer ({}); change the weights or leave a model out", task_.name, method.name,
                 error.what());
        }
    }

    WorkSettings settings_;
    std::string_view name_;
    bool relative_ = false, settled_ = false;
    int64_t vectors_;
    std::mutex mutex_;
    std::unique_ptr<TreeSum> sums_;
};

/// Bytes of one input, converted if the dtype differs.
class CopyWork final : public TensorWork {
  public:
    CopyWork(const TensorTask& task, const Merge* merge) : task_(task), merge_(merge) {}
    bool on_host() const override { return true; }

    FoldCounts apply(const Window& window, Scratch&, std::byte* out) const override {
        FoldCounts counts;
        const Operand& from = window.inputs[0];
        const size_t bytes = size_t(uint64_t(window.count) * uint64_t(info(task_.dtype).bits) / 8);
        if (task_.kind == TaskKind::equal)
            for (size_t m = 1; m < window.inputs.size(); ++m) compare(window, m, bytes);
        if (from.dtype == task_.dtype) {
            std::memcpy(out, from.data, bytes);
        } else {
            counts.saturated = cpu::convert(from, out, task_.dtype, window.count);
        }
        if (info(from.dtype).computed) {
            int64_t bad = cpu::count_nonfinite(from, window.count);
            counts.nonfinite_input = bad > 0;
            // A narrower dtype has no place for some of what is finite.
            if (from.dtype != task_.dtype) bad = cpu::count_nonfinite({out, task_.dtype}, window.count);
            counts.nonfinite_output = bad;
        }
        return counts;
    }

  private:
    void compare(const Window& window, size_t m, size_t bytes) const {
        const auto *first = static_cast<const std::byte*>(window.inputs[0].data), *last = first + bytes;
        const auto* different = std::mismatch(first, last, static_cast<const std::byte*>(window.inputs[m].data)).first;
        if (different == last) return;
        const int64_t element = window.first + (different - first) * 8 / int64_t(info(task_.dtype).bits);
        fail(
            "{}: {} and {} disagree on this {} tensor, which is never averaged (element {}); take the base's with "
            "--integers base",
            task_.name, name_of(task_.inputs[0]), name_of(task_.inputs[m]), info(task_.dtype).name, element);
    }
    std::string name_of(const TaskInput& input) const {
        if (!merge_) return fmt::format("model {} of the recipe", input.position);
        return merge_->models[size_t(input.model)].reference;
    }
    const TensorTask& task_;
    const Merge* merge_;
};

}  // namespace

std::unique_ptr<TensorWork> make_copy_work(const TensorTask& task, const WorkSettings& settings) {
    return std::make_unique<CopyWork>(task, settings.merge);
}

std::unique_ptr<TensorWork> make_blend_work(const TensorTask& task, const WorkSettings& settings) {
    return std::make_unique<BlendWork>(task, settings);
}

std::unique_ptr<TensorWork> make_fold_work(const TensorTask& task, const WorkSettings& settings) {
    const MethodInfo& method = *settings.method;
    if (method.name == "ramplus_tl") return std::make_unique<RamPlusWork>(task, settings);
    const bool average = method.name == "linear" || method.name == "passthrough";
    auto work = std::make_unique<FoldWork>(task, average                     ? FoldKind::average
                                                 : method.name == "nearswap" ? FoldKind::nearswap
                                                                             : FoldKind::ram);
    std::vector<double> scales;
    double total = 0;
    for (const TaskInput& input : task.inputs) {
        const double weight = model_field(method, input, method.name == "linear" ? "weight" : "scale", 1);
        if (settings.is_here(input)) scales.push_back(average ? weight : 1);
        total += weight;
    }
    work->set_scales(scales);
    if (average) {
        if (global_field(method, task, "normalize", 0) != 0) work->constants().divisor = total;
    } else {
        work->constants().factor = global_field(method, task, method.name == "nearswap" ? "t" : "epsilon", 0);
    }
    return work;
}

}  // namespace amalgam
