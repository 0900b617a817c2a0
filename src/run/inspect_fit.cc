#include "src/run/inspect_fit.h"

#include <algorithm>
#include <set>

#include "src/base/error.h"
#include "src/recipe/layout.h"
#include "src/run/inspect_checkpoint.h"

namespace amalgam {
namespace {

using Weight = Difference::Weight;

constexpr uint64_t max_tokenizer_bytes = 256 << 20;

struct Setting {
    const char* name;
    std::initializer_list<const char*> keys;
    Weight weight;
};

/// Tensors of one shape mean different things if these differ; the sizes are told by the shapes as well.
const Setting settings[] = {
    {"model_type", {"model_type"}, Weight::warning},
    {"hidden_size", {"hidden_size", "n_embd", "d_model"}, Weight::problem},
    {"num_hidden_layers", {"num_hidden_layers", "n_layer", "num_layers", "n_layers"}, Weight::problem},
    {"intermediate_size", {"intermediate_size", "n_inner", "d_ff"}, Weight::problem},
    {"num_attention_heads", {"num_attention_heads", "n_head", "num_heads"}, Weight::problem},
    {"num_key_value_heads", {"num_key_value_heads"}, Weight::problem},
    {"head_dim", {"head_dim"}, Weight::problem},
    {"num_experts", {"num_local_experts", "num_experts", "n_routed_experts"}, Weight::problem},
    {"num_experts_per_tok", {"num_experts_per_tok"}, Weight::warning},
    {"vocab_size", {"vocab_size"}, Weight::warning},
    {"hidden_act", {"hidden_act", "hidden_activation", "activation_function"}, Weight::warning},
    {"rope_theta", {"rope_theta"}, Weight::warning},
    {"rope_scaling", {"rope_scaling"}, Weight::warning},
    {"rope_parameters", {"rope_parameters"}, Weight::warning},
    {"partial_rotary_factor", {"partial_rotary_factor"}, Weight::warning},
    {"rms_norm_eps", {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"}, Weight::warning},
    {"sliding_window", {"sliding_window"}, Weight::warning},
    {"max_position_embeddings", {"max_position_embeddings", "n_positions"}, Weight::note},
    {"tie_word_embeddings", {"tie_word_embeddings"}, Weight::note},
    {"bos_token_id", {"bos_token_id"}, Weight::warning},
    {"eos_token_id", {"eos_token_id"}, Weight::warning},
};

class Comparison {
  public:
    Comparison(Files& files, const Checkpoint& first, const Checkpoint& other, Fit& fit)
        : files_(files), first_(first), other_(other), fit_(fit) {}

    void run() {
        compare_tensors();
        compare_settings();
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

    void compare_settings() {
        if (first_.config.empty() || other_.config.empty()) return;
        const ConfigSettings a(first_.config), b(other_.config);
        for (const Setting& setting : settings) {
            const std::string left = a.value(setting.keys), right = b.value(setting.keys);
            // A default left out is no difference that can be judged.
            const bool unknown = left.empty() || right.empty();
            if (left != right && !(unknown && setting.weight == Weight::problem))
                add(unknown ? Weight::note : setting.weight, "config", setting.name, left, right);
        }
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
