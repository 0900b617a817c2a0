#include "src/run/inspect_fit.h"

#include <algorithm>
#include <set>

#include "src/base/error.h"
#include "src/recipe/layout.h"

namespace amalgam {
namespace {

using Weight = Difference::Weight;

constexpr uint64_t max_tokenizer_bytes = 256 << 20;

class Comparison {
  public:
    Comparison(Files& files, const Checkpoint& first, const Checkpoint& other, Fit& fit)
        : files_(files), first_(first), other_(other), fit_(fit) {}

    void run() {
        compare_tensors();
        compare_configs();
        compare_tokenizers();
    }

  private:
    void add(Weight weight, const char* what, const std::string& name, const std::string& first,
             const std::string& other) {
        fit_.differences.push_back({weight, what, name, first, other});
    }

    void compare_tensors() {
        std::vector<const TensorInfo*> tensors;
        for (const TensorInfo& tensor : first_.tensors) tensors.push_back(&tensor);
        for (const TensorInfo& tensor : other_.tensors)
            if (!first_.find(tensor.name)) tensors.push_back(&tensor);
        std::sort(tensors.begin(), tensors.end(),
                  [](const TensorInfo* a, const TensorInfo* b) { return natural_less(a->name, b->name); });
        for (const TensorInfo* tensor : tensors) {
            const TensorInfo *a = first_.find(tensor->name), *b = other_.find(tensor->name);
            if (a && b)
                compare_tensor(*a, *b);
            else
                add(missing_weight(tensor->name, a ? other_ : first_), "tensor", tensor->name,
                    a ? shape_text(a->shape) : "", b ? shape_text(b->shape) : "");
        }
    }

    /// A tied head is the embedding, a buffer is computed.
    static Weight missing_weight(const std::string& name, const Checkpoint& lacking) {
        if (is_optional_buffer(name)) return Weight::note;
        return is_head(name) && find_embedding(lacking) ? Weight::note : Weight::problem;
    }

    void compare_tensor(const TensorInfo& a, const TensorInfo& b) {
        if (a.shape != b.shape)
            add(differs_in_rows(a, b) && is_vocabulary(a.name) ? Weight::warning : Weight::problem, "shape", a.name,
                shape_text(a.shape), shape_text(b.shape));
        if (a.dtype == b.dtype) return;
        const bool computed = info(a.dtype).computed && info(b.dtype).computed;
        add(computed ? Weight::note : Weight::problem, "dtype", a.name, std::string(info(a.dtype).name),
            std::string(info(b.dtype).name));
    }

    static bool differs_in_rows(const TensorInfo& a, const TensorInfo& b) {
        return a.shape.size() == 2 && b.shape.size() == 2 && a.shape[1] == b.shape[1];
    }

    void compare_configs() {
        for (SettingDifference& each : compare_settings(first_.config, other_.config))
            add(each.weight, "config", each.name, each.first, each.other);
    }

    std::string tokenizer(const Checkpoint& checkpoint) {
        const std::string path = checkpoint.path + "/tokenizer.json";
        return files_.status(path).kind == FileKind::file ? files_.read_all(path, max_tokenizer_bytes) : "";
    }

    void compare_tokenizers() {
        if (files_.status(first_.path).kind != FileKind::folder || files_.status(other_.path).kind != FileKind::folder)
            return;
        const std::string a = tokenizer(first_), b = tokenizer(other_);
        if (!a.empty() && !b.empty() && a != b)
            add(Weight::warning, "tokenizer", "tokenizer.json", fmt::format("{} bytes", a.size()),
                fmt::format("{} other bytes", b.size()));
    }

    Files& files_;
    const Checkpoint& first_;
    const Checkpoint& other_;
    Fit& fit_;
};

}  // namespace

Weight Fit::worst() const {
    Weight result = Weight::note;
    for (const Difference& difference : differences) result = std::max(result, difference.weight);
    return result;
}

Fit compare_models(Files& files, const Checkpoint& first, const Checkpoint& other, const std::string& name) {
    Fit fit;
    fit.model = name;
    Comparison(files, first, other, fit).run();
    return fit;
}

}  // namespace amalgam
