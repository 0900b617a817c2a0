// Blends with coefficients of their own for every row or column.
#include <algorithm>
#include <mutex>
#include <utility>

#include "kernels/blends.h"
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
        const int64_t columns = task_.columns(), vectors = int64_t(window.inputs.size()), pairs = pair_count(vectors);
        const int64_t rows = window.input_count / columns;
        std::vector<double> products(size_t(rows * pairs)), scales;
        GramArguments whole{window.base, window.inputs.data(), int(vectors), window.input_first, window.input_count};
        scratch.lane->gram_rows(wide_, whole, columns, products.data());
        for (int64_t row = 0; row < rows; ++row)
            for (double scale : solve(std::span<const double>(products).subspan(size_t(row * pairs), size_t(pairs))))
                scales.push_back(scale);

        std::vector<Operand> inputs;
        FoldArguments arguments;
        arguments.base = base_from(window, window.first);
        if (stock_) inputs.push_back(std::exchange(arguments.base, {}));
        for (const Operand& input : window.inputs)
            inputs.push_back(at_element(input, window.first - window.input_first));
        arguments.inputs = inputs.data();
        arguments.model_count = int(inputs.size());
        arguments.first = window.first;
        arguments.count = window.count;
        arguments.out = out;
        arguments.out_dtype = task_.dtype;
        return scratch.lane->fold_rows(arguments.base.data ? FoldKind::sum : FoldKind::average, wide_, arguments,
                                       scales, columns);
    }

  private:
    std::vector<double> solve(std::span<const double> products) const {
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
    void scan(const Window& window, Scratch& scratch) override {
        GramArguments arguments{window.base, window.inputs.data(), 2, window.first, window.count};
        std::vector<double> products(size_t(window.blocks() * 3 * columns_));
        scratch.lane->column_products(wide_, arguments, columns_, products.data());
        std::lock_guard lock(mutex_);
        add_by_block(*sums_, window, products);
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
    FoldCounts apply(const Window& window, Scratch& scratch, std::byte* out) const override {
        FoldArguments arguments;
        arguments.base = window.base;
        arguments.inputs = window.inputs.data();
        arguments.model_count = 2;
        arguments.first = window.first;
        arguments.count = window.count;
        arguments.out = out;
        arguments.out_dtype = task_.dtype;
        return scratch.lane->fold_columns(wide_, arguments, coefficients_, columns_, window.first % columns_);
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
