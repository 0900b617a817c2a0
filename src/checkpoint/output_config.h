// The config.json of a merged checkpoint: the donor's, corrected where the merge changed what it says. Pure.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/dtype.h"

namespace amalgam {

/// Which tensors hold the vocabulary, found by name (embed_tokens, wte, word_embeddings, ...; lm_head, embed_out, ...) and,
/// for heads of other names, by having the embedding's shape. Tensors of layers do not count.
class VocabularyTensors {
  public:
    void add(std::string_view name, std::span<const int64_t> shape);
    bool has_embedding() const { return !embeddings_.empty(); }
    bool has_head() const { return head_rows().has_value(); }
    /// Nothing if there is no embedding, or if several have different numbers of rows.
    std::optional<int64_t> rows() const;
    std::optional<int64_t> head_rows() const;

  private:
    using Shape = std::pair<int64_t, int64_t>;
    std::vector<Shape> embeddings_, others_;
    std::optional<int64_t> named_head_rows_;
};

/// Of anything whose elements have a name and a shape: TensorInfo, OutputTensor, TensorTask.
template <class Tensors>
VocabularyTensors vocabulary_tensors(const Tensors& tensors) {
    VocabularyTensors result;
    for (const auto& tensor : tensors) result.add(tensor.name, tensor.shape);
    return result;
}

/// The one tower of numbered layers that all tensors of layers belong to, and its depth: highest number + 1; no layers if
/// there are several towers, or none. Of anything whose elements have a name.
class OnlyTower {
  public:
    void add(std::string_view name);
    std::string name() const { return towers_ == 1 ? name_ : ""; }
    int64_t layers() const { return towers_ == 1 ? layers_ : 0; }

  private:
    std::string name_;
    int64_t layers_ = 0;
    int towers_ = 0;
};

template <class Tensors>
OnlyTower only_tower(const Tensors& tensors) {
    OnlyTower result;
    for (const auto& tensor : tensors) result.add(tensor.name);
    return result;
}

/// What a merge changed.
struct ConfigChanges {
    std::optional<Dtype> dtype;  ///< of all floating-point tensors written; nothing: what the donor says stays
    /// For recipes with slices: (index into the configs, layer) of each output layer; else empty.
    std::vector<std::pair<int, int64_t>> layer_sources;
    /// Of recipes without slices: the only tower of layers that is written, and its depth; 0: none or several.
    std::string tower;
    int64_t layers = 0;
    VocabularyTensors donor;    ///< tensors of the donor's checkpoint
    VocabularyTensors written;  ///< tensors of the output
};

struct OutputConfig {
    std::string text;                   ///< "" if the donor has no config
    std::vector<std::string> warnings;  ///< what a person should look at
};

/// `configs` are the texts of config.json of all models ("" if one has none), `donor` the index of the one to correct.
/// Keys keep their order, and numbers their value; what is not listed here stays as it is. "Text settings" are those of
/// text_config (or llm_config, language_config) in a vision-language model, and of the root in others.
///
/// - torch_dtype or dtype, whichever is there, also in nested *_config; if neither is: `dtype` for transformers 5, else
///   torch_dtype.
/// - With layer_sources, in the text settings: num_hidden_layers (or n_layer, num_layers, n_layers); lists with one entry a
///   layer (layer_types, no_rope_layers, per-layer sizes, ..., recognised by their length; never token ids), each entry
///   taken from the model and layer the output's layer comes from; lists of layer numbers (mlp_only_layers, moe_layers,
///   attn_layer_indices, full_attn_idxs, cross_attention_layers, ...) renumbered the same way. Settings that count layers
///   in another way (first_k_dense_replace, ...) cannot follow: a warning.
/// - Without layer_sources: a layer count that is not the number of layers written, in models of one tower.
/// - vocab_size: rows of the embedding written. Where the donor's embedding has other rows than its head (some
///   vision-language models), vocab_size changes by as much as the rows did.
/// - tie_word_embeddings: false if a head is written, true if a language model is written without one. The key is added
///   only where the donor's default would now be wrong.
///
/// Throws Error if a config that is needed is not valid JSON, is no object, or lacks the layers that are asked for.
OutputConfig output_config(std::span<const std::string> configs, int donor, const ConfigChanges& changes);

}  // namespace amalgam
