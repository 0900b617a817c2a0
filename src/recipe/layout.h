// How a model's tensors are arranged, read from their names: towers, layers, and the few names with a role of their
// own.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/checkpoint/checkpoint.h"

namespace amalgam {

/// A stack of numbered layers: "model.layers", "vision_tower.blocks".
struct Tower {
    std::string name;
    int64_t layers = 0;  ///< highest number + 1
    uint64_t bytes = 0;
};

/// Where one tensor belongs.
struct TensorPlace {
    int tower = -1;  ///< index into ModelLayout::towers; -1: of no layer
    int64_t layer = -1;
    std::string_view rest;  ///< of a layer's tensor: what follows the number
};

/// Points into the checkpoint it was made from.
struct ModelLayout {
    const Checkpoint* checkpoint = nullptr;
    std::vector<Tower> towers;
    std::vector<TensorPlace> places;    ///< of checkpoint->tensors, by index
    std::optional<int64_t> layers;      ///< of config.json
    std::optional<int64_t> vocabulary;  ///< vocab_size of config.json
    std::optional<bool> tied;           ///< tie_word_embeddings of config.json

    /// nullptr if there is no such tower.
    const Tower* tower(std::string_view name) const;
};

ModelLayout read_layout(const Checkpoint& checkpoint);

/// The tower that layer ranges count in: the one with as many layers as config.json says, else the one with most bytes.
/// Throws Error naming the towers (and `reference`) if two are alike or there is none.
int main_tower(const ModelLayout& layout, const std::string& reference);

/// Which slice of an output with several slices a tensor comes from.
enum class Section { layers, first, last };

/// Decides for the tensors of one model. Layers of the main tower come from the slices. From the first slice come:
/// whole other towers (every name below the component where the other tower's name departs from the main one's), and
/// names with "embed", "wte", "wpe" and the like. From the last slice: everything else, that is final norms and heads.
class Sections {
  public:
    Sections(const ModelLayout& layout, int main_tower);
    Section section(size_t tensor) const;

  private:
    const ModelLayout& layout_;
    int main_;
    std::vector<std::string> branches_;  ///< prefixes of other towers, with the dot
};

/// Heads that a model with tied embeddings does without: "lm_head.weight", "embed_out.weight", ...
bool is_head(std::string_view name);

/// The input embedding of a model, which is also its head if it is tied; nullptr if no usual name is there.
const TensorInfo* find_embedding(const Checkpoint& checkpoint);

/// Buffers that some versions of a model store and others compute.
bool is_optional_buffer(std::string_view name);

/// An embedding or head whose rows are the vocabulary.
bool is_vocabulary(std::string_view name);

}  // namespace amalgam
