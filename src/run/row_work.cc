// Blends with coefficients of their own for every row or column.
#include <algorithm>
#include <mutex>

#include "kernels/blends.h"
#include "kernels/cpu/passes.h"
#include "kernels/tree_sum.h"
#include "src/run/works.h"

namespace amalgam {

namespace {

/// model_stock with filter_wise, nuslerp along the last dimension: a row's coefficients need only the row.
class RowBlendWork final : public TensorWork {
  public:
    RowBlendWork(const TensorTask& task, const WorkSettings& settings)
        : task_(task), settings_(settings), wide_(computes_in_double(task)) {
        stock_ = settings.method->name == "model_stock";
    }
    bool whole_rows() const override { return true; }

    FoldCounts apply(const Window& window, Scratch& scratch, std::byte* out) const override {
        FoldCounts counts;
        if (!scratch.gram) scratch.gram = std::make_unique<GramScratch>();
        const int64_t columns = task_.columns(), last = window.first + window.count;
        for (int64_t row = window.first / columns; row * columns < last; ++row) {
            const int64_t begin = row * columns;
            std::vector<double> scales = solve(row_gram(window, begin, columns, scratch));
            const int64_t first = std::max(begin, window.first), end = std::min(begin + columns, last);
            add_counts(counts, fold_row(window, first, end - first, scales, scratch, out));
        }
        return counts;
    }

  private:
    /// Products of the row, pieces of row x block in order.
    std::vector<double> row_gram(const Window& window, int64_t begin, int64_t columns, Scratch& scratch) const {
        const int64_t vectors = int64_t(window.inputs.size());
        std::vector<double> total(size_t(pair_count(vectors))), piece(total.size());
        each_piece(begin, columns, block_elements, [&](int64_t first, int64_t count) {
            scratch.operands.clear();
            for (const Operand& input : window.inputs)
                scratch.operands.push_back(at_element(input, first - window.input_first));
            GramArguments arguments;
            arguments.base = at_element(window.base, first - window.input_first);
            arguments.inputs = scratch.operands.data();
            arguments.input_count = int(vectors);
            arguments.first = first;
            arguments.count = count;
            cpu::gram(wide_, arguments, *scratch.gram, piece.data());
            for (size_t i = 0; i < total.size(); ++i) total[i] += piece[i];
        });
        return total;
    }
    std::vector<double> solve(const std::vector<double>& products) const {
        const int64_t vectors = int64_t(task_.inputs.size());
        Gram gram(products, vectors);
        if (!stock_)
            return blends::nuslerp(gram, model_field(*settings_.method, task_.inputs[0], "weight", 1),
                                   model_field(*settings_.method, task_.inputs[1], "weight", 1));
        double t = blends::model_stock(gram);
        std::vector<double> scales(size_t(vectors) + 1, t / double(vectors));
        scales[0] = 1 - t;
        return scales;
    }
    FoldCounts fold_row(const Window& window, int64_t first, int64_t count, const std::vector<double>& scales,
                        Scratch& scratch, std::byte* out) const {
        FoldArguments arguments;
        arguments.base = at_element(window.base, first - window.input_first);
        scratch.operands.clear();
        if (stock_) {
            scratch.operands.push_back(arguments.base);
            arguments.base = {};
        }
        for (const Operand& input : window.inputs)
            scratch.operands.push_back(at_element(input, first - window.input_first));
        std::vector<FoldModel> models(scales.size());
        for (size_t m = 0; m < scales.size(); ++m) models[m].scale = scales[m];
        arguments.inputs = scratch.operands.data();
        arguments.models = models.data();
        arguments.model_count = int(models.size());
        arguments.first = first;
        arguments.count = count;
        arguments.out = out + (first - window.first) * bytes_of(task_.dtype);
        arguments.out_dtype = task_.dtype;
        return cpu::fold(arguments.base.data ? cpu::FoldKind::sum : cpu::FoldKind::average, Sparsifier::none, wide_,
                         arguments);
    }

    const TensorTask& task_;
    WorkSettings settings_;
    bool wide_, stock_;
};

/// nuslerp along the first dimension.
class ColumnBlendWork final : public TensorWork {
  public:
    ColumnBlendWork(const TensorTask& task, const WorkSettings& settings)
        : task_(task),
          settings_(settings),
          wide_(computes_in_double(task)),
          columns_(task.elements() / task.shape[0]),
          sums_(std::make_unique<TreeSum>(block_count(task.elements()), 3 * columns_)) {}

    bool settled() const override { return !coefficients_.empty(); }
    void scan(const Window& window, Scratch&) override {
        each_block(window, [&](int64_t first, int64_t count) {
            Operand inputs[2];
            for (size_t m = 0; m < 2; ++m) inputs[m] = at_element(window.inputs[m], first - window.input_first);
            GramArguments arguments{at_element(window.base, first - window.input_first), inputs, 2, first, count};
            std::vector<double> products(size_t(3 * columns_));
            cpu::column_products(wide_, arguments, columns_, first % columns_, products.data());
            std::lock_guard lock(mutex_);
            sums_->add(first / block_elements, std::move(products));
        });
    }
    void exchange(Communicator& ranks) override {
        auto all = ranks.all_gather(sums_->partials());
        sums_ = std::make_unique<TreeSum>(block_count(task_.elements()), 3 * columns_);
        for (const std::string& partials : all) sums_->merge(partials);
    }
    void end_round() override {
        const std::vector<double>& total = sums_->total();
        coefficients_.resize(size_t(2 * columns_));
        for (int64_t c = 0; c < columns_; ++c) {
            Gram gram(std::span<const double>(total).subspan(size_t(3 * c), 3), 2);
            std::vector<double> scales =
                blends::nuslerp(gram, model_field(*settings_.method, task_.inputs[0], "weight", 1),
                                model_field(*settings_.method, task_.inputs[1], "weight", 1));
            coefficients_[size_t(c)] = scales[0];
            coefficients_[size_t(columns_ + c)] = scales[1];
        }
        sums_.reset();
    }
    FoldCounts apply(const Window& window, Scratch&, std::byte* out) const override {
        FoldArguments arguments;
        arguments.base = window.base;
        arguments.inputs = window.inputs.data();
        arguments.model_count = 2;
        arguments.first = window.first;
        arguments.count = window.count;
        arguments.out = out;
        arguments.out_dtype = task_.dtype;
        return cpu::fold_columns(wide_, arguments, coefficients_.data(), columns_, window.first % columns_);
    }

  private:
    const TensorTask& task_;
    WorkSettings settings_;
    bool wide_;
    int64_t columns_;
    std::mutex mutex_;
    std::unique_ptr<TreeSum> sums_;
    std::vector<double> coefficients_;
};

}  // namespace

std::unique_ptr<TensorWork> make_row_blend_work(const TensorTask& task, const WorkSettings& settings) {
    return std::make_unique<RowBlendWork>(task, settings);
}

std::unique_ptr<TensorWork> make_column_blend_work(const TensorTask& task, const WorkSettings& settings) {
    return std::make_unique<ColumnBlendWork>(task, settings);
}

}  // namespace amalgam
