#include "src/run/inspect_vectors.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <mutex>

#include "kernels/cpu/passes.h"
#include "kernels/gram_pass.h"
#include "kernels/tree_sum.h"
#include "src/base/error.h"
#include "src/base/thread_pool.h"
#include "src/recipe/layout.h"
#include "src/run/sign_bits.h"

namespace amalgam {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// The file of one model that was read last.
class ModelReader {
  public:
    explicit ModelReader(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}
    ~ModelReader() {
        if (file_ >= 0) ::close(file_);
    }
    ModelReader(const ModelReader&) = delete;
    ModelReader& operator=(const ModelReader&) = delete;

    /// Makes `tensor` readable; not while others read.
    void select(const TensorInfo& tensor) {
        tensor_ = &tensor;
        if (opened_ == tensor.file) return;
        if (file_ >= 0) ::close(file_);
        opened_ = -1;
        file_ = ::open(path().c_str(), O_RDONLY | O_CLOEXEC);
        check(file_ >= 0, "{}: cannot be opened: {}", printable(path()), errno_text(errno));
        opened_ = tensor.file;
    }

    /// Elements [first, first + count) of the tensor; any thread.
    Operand read(int64_t first, int64_t count, std::vector<std::byte>& buffer) const {
        const uint64_t width = uint64_t(bytes_of(tensor_->dtype));
        buffer.resize(size_t(count) * width);
        uint64_t at = tensor_->begin + uint64_t(first) * width;
        for (size_t done = 0; done < buffer.size();) {
            const ssize_t got = ::pread(file_, buffer.data() + done, buffer.size() - done, off_t(at + done));
            if (got < 0 && errno == EINTR) continue;
            check(got >= 0, "{}: cannot be read: {}", printable(path()), errno_text(errno));
            check(got > 0, "{}: became shorter while it was read", printable(path()));
            done += size_t(got);
        }
        return {buffer.data(), tensor_->dtype};
    }
    Dtype dtype() const { return tensor_->dtype; }

  private:
    const std::string& path() const { return checkpoint_.files[size_t(tensor_->file)].path; }

    const Checkpoint& checkpoint_;
    const TensorInfo* tensor_ = nullptr;
    int opened_ = -1;
    int file_ = -1;
};

/// Tensors of base and models under one name.
struct Row {
    std::vector<const TensorInfo*> tensors;  ///< base first
    int64_t elements = 0;                    ///< that all of them have
};

class Inspector {
  public:
    Inspector(const NamedCheckpoint& base, const std::vector<NamedCheckpoint>& models, int threads)
        : pool_(threads),
          base_(base),
          models_(models),
          count_(int(models.size())),
          report_{VectorStatistics(count_), {}, 0, {}} {
        readers_.push_back(std::make_unique<ModelReader>(base.checkpoint));
        for (const NamedCheckpoint& model : models) readers_.push_back(std::make_unique<ModelReader>(model.checkpoint));
        for (int i = 0; i < pool_.threads(); ++i) threads_.push_back(std::make_unique<Thread>(count_));
    }

    VectorReport run() {
        std::vector<const TensorInfo*> tensors;
        for (const TensorInfo& tensor : base_.checkpoint.tensors) tensors.push_back(&tensor);
        // In the order of layers, so that a layer's sums do not depend on how names sort.
        std::sort(tensors.begin(), tensors.end(),
                  [](const TensorInfo* a, const TensorInfo* b) { return natural_less(a->name, b->name); });
        std::map<std::pair<std::string, int64_t>, VectorStatistics> layers;
        for (const TensorInfo* tensor : tensors) {
            const Row row = find_row(*tensor);
            if (row.elements == 0) continue;
            const VectorStatistics statistics = measure(row);
            const LayerName name = layer_name(tensor->name);
            layers.try_emplace({name.layer < 0 ? "" : name.tower, name.layer}, count_).first->second.add(statistics);
            report_.whole.add(statistics);
            ++report_.tensors;
        }
        note_extra_tensors();
        for (auto& [place, statistics] : layers)
            if (place.second >= 0) report_.layers.push_back({place.first, place.second, std::move(statistics)});
        if (const auto outside = layers.find({"", -1}); outside != layers.end())
            report_.layers.push_back({"", -1, std::move(outside->second)});
        return std::move(report_);
    }

  private:
    struct Thread {
        explicit Thread(int models) : buffers(size_t(models) + 1), signs(size_t(models)), counts(models) {}
        std::vector<std::vector<std::byte>> buffers;
        std::vector<SignBits> signs;
        VectorStatistics counts;
        GramScratch scratch;
    };

    Row left_out(const std::string& tensor, std::string_view why) {
        report_.left_out.push_back(fmt::format("{}: {}", printable(tensor), why));
        return {};
    }

    Row find_row(const TensorInfo& base) {
        Row row{{&base}, base.elements()};
        if (!info(base.dtype).computed) return left_out(base.name, fmt::format("is {}", info(base.dtype).name));
        for (const NamedCheckpoint& model : models_) {
            const TensorInfo* tensor = model.checkpoint.find(base.name);
            if (!tensor) return left_out(base.name, fmt::format("not in {}", printable(model.name)));
            if (!info(tensor->dtype).computed)
                return left_out(base.name, fmt::format("is {} in {}", info(tensor->dtype).name, printable(model.name)));
            if (tensor->shape != base.shape && !differ_in_vocabulary(base, *tensor))
                return left_out(base.name,
                                fmt::format("is {} in {} and {} in {}", shape_text(base.shape), printable(base_.name),
                                            shape_text(tensor->shape), printable(model.name)));
            row.elements = std::min(row.elements, tensor->elements());
            row.tensors.push_back(tensor);
        }
        return row;
    }

    static bool differ_in_vocabulary(const TensorInfo& a, const TensorInfo& b) {
        return is_vocabulary(a.name) && a.shape.size() == 2 && b.shape.size() == 2 && a.shape[1] == b.shape[1];
    }

    void note_extra_tensors() {
        for (const NamedCheckpoint& model : models_)
            for (const TensorInfo& tensor : model.checkpoint.tensors)
                if (!base_.checkpoint.find(tensor.name))
                    left_out(tensor.name,
                             fmt::format("in {} but not in {}", printable(model.name), printable(base_.name)));
    }

    VectorStatistics measure(const Row& row) {
        bool wide = false;
        for (size_t i = 0; i < row.tensors.size(); ++i) {
            readers_[i]->select(*row.tensors[i]);
            wide |= row.tensors[i]->dtype == Dtype::f64;
        }
        const int64_t blocks = (row.elements + sum_block - 1) / sum_block;
        TreeSum sums(blocks, pair_count(count_) + 1);
        std::mutex mutex;
        pool_.parallel_for(blocks, [&](int64_t block, int thread) {
            const int64_t first = block * sum_block;
            std::vector<double> terms =
                measure_block(first, std::min(sum_block, row.elements - first), wide, *threads_[size_t(thread)]);
            const std::lock_guard lock(mutex);
            sums.add(block, std::move(terms));
        });
        VectorStatistics result(count_);
        result.elements = row.elements;
        result.base_squares = sums.total()[0];
        std::copy(sums.total().begin() + 1, sums.total().end(), result.products.begin());
        for (auto& thread : threads_) {
            result.add(thread->counts);
            thread->counts = VectorStatistics(count_);
        }
        return result;
    }

    /// The base's sum of squares, then the products; counts go to the thread.
    std::vector<double> measure_block(int64_t first, int64_t count, bool wide, Thread& thread) {
        const Operand base = readers_[0]->read(first, count, thread.buffers[0]);
        std::vector<Operand> inputs;
        for (size_t i = 1; i < readers_.size(); ++i)
            inputs.push_back(readers_[i]->read(first, count, thread.buffers[i]));
        std::vector<double> terms(size_t(pair_count(count_)) + 1);
        cpu::gram(wide, {{}, &base, 1, first, count}, thread.scratch, terms.data());
        cpu::gram(wide, {base, inputs.data(), count_, first, count}, thread.scratch, terms.data() + 1);
        for (int i = 0; i < count_; ++i) thread.signs[size_t(i)].fill(base, inputs[size_t(i)], count, wide);
        count_signs(thread);
        return terms;
    }

    void count_signs(Thread& thread) const {
        VectorStatistics& counts = thread.counts;
        for (int i = 0; i < count_; ++i) {
            const SignBits& signs = thread.signs[size_t(i)];
            counts.changed[size_t(i)] += signs.changed();
            counts.nonfinite[size_t(i)] += signs.nonfinite;
            for (int j = i + 1; j < count_; ++j) {
                const PairCounts pair = compare_signs(signs, thread.signs[size_t(j)]);
                counts.both[counts.pair(i, j)] += pair.both;
                counts.opposite[counts.pair(i, j)] += pair.opposite;
            }
        }
        counts.conflicts += count_conflicts(thread.signs);
    }

    ThreadPool pool_;
    const NamedCheckpoint& base_;
    const std::vector<NamedCheckpoint>& models_;
    const int count_;
    VectorReport report_;
    std::vector<std::unique_ptr<ModelReader>> readers_;  ///< base first
    std::vector<std::unique_ptr<Thread>> threads_;
};

template <class T>
void add_each(std::vector<T>& sums, const std::vector<T>& terms) {
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += terms[i];
}

}  // namespace

VectorStatistics::VectorStatistics(int model_count)
    : models(model_count),
      products(size_t(pair_count(model_count))),
      changed(size_t(model_count)),
      nonfinite(size_t(model_count)),
      both(products.size()),
      opposite(products.size()) {}

void VectorStatistics::add(const VectorStatistics& other) {
    elements += other.elements;
    base_squares += other.base_squares;
    conflicts += other.conflicts;
    add_each(products, other.products);
    add_each(changed, other.changed);
    add_each(nonfinite, other.nonfinite);
    add_each(both, other.both);
    add_each(opposite, other.opposite);
}

size_t VectorStatistics::pair(int i, int j) const { return size_t(pair_index(std::min(i, j), std::max(i, j), models)); }

double VectorStatistics::norm(int model) const { return std::sqrt(products[pair(model, model)]); }

double VectorStatistics::relative_norm(int model) const {
    return base_squares > 0 ? norm(model) / std::sqrt(base_squares) : nan;
}

double VectorStatistics::cosine(int i, int j) const {
    const double length = norm(i) * norm(j);
    return length > 0 ? products[pair(i, j)] / length : nan;
}

double VectorStatistics::opposite_share(int i, int j) const {
    const int64_t shared = both[pair(i, j)];
    return shared > 0 ? double(opposite[pair(i, j)]) / double(shared) : nan;
}

VectorReport inspect_vectors(const NamedCheckpoint& base, const std::vector<NamedCheckpoint>& models, int threads) {
    return Inspector(base, models, threads).run();
}

}  // namespace amalgam
