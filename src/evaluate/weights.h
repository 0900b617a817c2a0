// Where a decoder's weights come from: one layer at a time, so that a candidate can be folded while it is scored.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "src/base/thread_pool.h"
#include "src/evaluate/decoder_config.h"
#include "src/evaluate/gemm.h"

namespace amalgam {

/// One layer of the path through a model. A path is data: a plain checkpoint's runs through all of its layers; layer
/// stacks and data-flow merges repeat, leave out and mix layers of several models.
struct PathStep {
    int model = 0;      ///< which of the source's models
    int64_t layer = 0;  ///< of that model
    /// Cumulative input scale of a data-flow merge. It is the source's affair: o_proj and down_proj are divided by it before they are
    /// rounded, as in a written checkpoint; the decoder multiplies nothing.
    double scale = 1;
};

/// A layer, ready to compute with. Vectors are empty where the family has none.
struct LayerWeights {
    Matrix query_key_value;  ///< rows of q_proj, k_proj, v_proj
    Matrix output, gate_up, down;
    std::vector<float> query_key_value_bias, output_bias, gate_up_bias, down_bias;
    std::vector<float> input_norm, query_norm, key_norm, post_attention_norm, pre_mlp_norm, post_mlp_norm;

    uint64_t bytes() const;
};

/// Final norm and the matrix to logits, in tiles of rows that fit a cache.
struct HeadWeights {
    static constexpr int64_t tile_rows = 4096;
    std::vector<float> norm;
    std::vector<Matrix> tiles;
};

/// Rows of the embedding, in the type they came in if that is bfloat16, times DecoderConfig::embedding_scale when read.
class Embedding {
  public:
    Embedding() = default;
    Embedding(int64_t width, float scale, std::vector<float> values, bool as_bfloat16);
    void read(int32_t id, float* to) const;

    int64_t width() const { return width_; }
    float scale() const { return scale_; }
    /// All rows, without the scale: bfloat16 if stored_as_bfloat16(), else float32.
    bool stored_as_bfloat16() const { return full_.empty(); }
    const void* values() const {
        return full_.empty() ? static_cast<const void*>(half_.data()) : static_cast<const void*>(full_.data());
    }
    uint64_t bytes() const { return full_.size() * sizeof(float) + half_.size() * sizeof(uint16_t); }

  private:
    int64_t width_ = 0;
    float scale_ = 1;
    std::vector<float> full_;
    std::vector<uint16_t> half_;
};

/// Everything that a forward pass asks for. Members are called by one thread at a time; what they return lives on as
/// long as it is held. They may throw Error.
class WeightSource {
  public:
    virtual ~WeightSource() = default;
    virtual const DecoderConfig& config() const = 0;
    virtual const std::vector<PathStep>& path() const = 0;
    virtual std::shared_ptr<const LayerWeights> layer(const PathStep& step) = 0;
    virtual std::shared_ptr<const Embedding> embedding() = 0;
    virtual std::shared_ptr<const HeadWeights> head() = 0;
    /// Whether asking again costs nothing.
    virtual bool keeps() const = 0;
    /// What its matrices are for.
    virtual Compute compute() const = 0;
};

/// Gives tensors by their names in a checkpoint. The one thing to write for a new kind of model in memory.
class TensorReader {
  public:
    virtual ~TensorReader() = default;
    /// Values in row-major order; throws Error if there is no such tensor of this shape.
    virtual void read(const std::string& name, const std::vector<int64_t>& shape, float* to) = 0;
    /// Whether values of this tensor are exact in bfloat16.
    virtual bool is_bfloat16(const std::string& name) = 0;
    /// These are read next, each once.
    virtual void expect(const std::vector<std::string>& /*names*/) {}
    /// Whether several threads may read at a time.
    virtual bool is_shared() const { return false; }
};

/// The names and shapes of all tensors that a decoder of this config has, in the order they are used.
std::vector<std::pair<std::string, std::vector<int64_t>>> tensor_list(const DecoderConfig& config);

std::shared_ptr<const LayerWeights> make_layer(const DecoderConfig& config, TensorReader& reader, int64_t layer,
                                               Compute compute, MatrixLayout layout = MatrixLayout::packed);
std::shared_ptr<const HeadWeights> make_head(const DecoderConfig& config, TensorReader& reader, Compute compute,
                                             MatrixLayout layout = MatrixLayout::packed);
std::shared_ptr<const Embedding> make_embedding(const DecoderConfig& config, TensorReader& reader);

/// Weights of one model, from a reader, along the path of all its layers. They are made when they are first asked for;
/// with `keep`, they stay in memory, else each lives as long as it is held.
class ReaderWeights final : public WeightSource {
  public:
    ReaderWeights(DecoderConfig config, std::unique_ptr<TensorReader> reader, Compute compute, bool keep = true,
                  MatrixLayout layout = MatrixLayout::packed);

    const DecoderConfig& config() const override { return config_; }
    const std::vector<PathStep>& path() const override { return path_; }
    std::shared_ptr<const LayerWeights> layer(const PathStep& step) override;
    std::shared_ptr<const Embedding> embedding() override;
    std::shared_ptr<const HeadWeights> head() override;
    bool keeps() const override { return keep_; }
    Compute compute() const override { return compute_; }

    /// Makes all of them now, on several threads. Only with `keep`, and if the reader is_shared().
    void make_all(ThreadPool& pool);

  private:
    DecoderConfig config_;
    std::unique_ptr<TensorReader> reader_;
    Compute compute_;
    bool keep_;
    MatrixLayout layout_;
    std::vector<PathStep> path_;
    std::map<int64_t, std::shared_ptr<const LayerWeights>> layers_;
    std::shared_ptr<const Embedding> embedding_;
    std::shared_ptr<const HeadWeights> head_;
};

}  // namespace amalgam
