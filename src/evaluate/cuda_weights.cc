#include "src/evaluate/cuda_weights.h"

#include <functional>

namespace amalgam {
namespace {

/// Arrays that go to the GPU together.
class Parcel {
  public:
    /// send() sets `place`; nothing goes there if there are no values.
    template <class T>
    void add(const void* values, uint64_t bytes, const T*& place) {
        if (bytes == 0) return;
        pieces_.push_back({values, bytes, [&place](const void* at) { place = static_cast<const T*>(at); }});
    }
    void add(const std::vector<float>& values, const float*& place) {
        add(values.data(), values.size() * sizeof(float), place);
    }
    void add(const Matrix& matrix, GpuMatrix& to) {
        to.rows = matrix.rows();
        to.columns = matrix.columns();
        to.half = matrix.compute() == Compute::bfloat16;
        add(matrix.values(), matrix.bytes(), to.values);
    }
    DeviceBuffer send(CudaQueue& queue) const {
        constexpr uint64_t alignment = 256;  // so that a warp's accesses lie in whole segments
        const auto rounded = [](uint64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; };
        uint64_t total = 0;
        for (const Piece& piece : pieces_) total += rounded(piece.bytes);
        DeviceBuffer memory = queue.context().pool->take(total);
        auto* at = static_cast<std::byte*>(memory.data());
        for (const Piece& piece : pieces_) {
            queue.copy_in(at, piece.values, piece.bytes);
            piece.set(at);
            at += rounded(piece.bytes);
        }
        return memory;
    }

  private:
    struct Piece {
        const void* values;
        uint64_t bytes;
        std::function<void(const void*)> set;
    };
    std::vector<Piece> pieces_;
};

}  // namespace

template <class Weights>
void CudaWeights::settle(const std::shared_ptr<Weights>& made, std::shared_ptr<const Weights>& place) {
    if (kept_bytes_ + made->memory.bytes() > most_kept_) return;
    kept_bytes_ += made->memory.bytes();
    made->kept = true;
    place = made;
}

std::shared_ptr<const GpuLayer> CudaWeights::layer(const PathStep& step) {
    const auto key = std::tuple(step.model, step.layer, step.scale);
    if (const auto found = layers_.find(key); found != layers_.end()) return found->second;
    const std::shared_ptr<const LayerWeights> weights = source_.layer(step);
    auto made = std::make_shared<GpuLayer>();
    Parcel parcel;
    parcel.add(weights->query_key_value, made->query_key_value);
    parcel.add(weights->output, made->output);
    parcel.add(weights->gate_up, made->gate_up);
    parcel.add(weights->down, made->down);
    parcel.add(weights->query_key_value_bias, made->query_key_value_bias);
    parcel.add(weights->output_bias, made->output_bias);
    parcel.add(weights->gate_up_bias, made->gate_up_bias);
    parcel.add(weights->down_bias, made->down_bias);
    parcel.add(weights->input_norm, made->input_norm);
    parcel.add(weights->query_norm, made->query_norm);
    parcel.add(weights->key_norm, made->key_norm);
    parcel.add(weights->post_attention_norm, made->post_attention_norm);
    parcel.add(weights->pre_mlp_norm, made->pre_mlp_norm);
    parcel.add(weights->post_mlp_norm, made->post_mlp_norm);
    made->memory = parcel.send(queue_);
    std::shared_ptr<const GpuLayer> place;
    settle(made, place);
    if (place) layers_[key] = place;
    return made;
}

std::shared_ptr<const GpuEmbedding> CudaWeights::embedding() {
    if (embedding_) return embedding_;
    const std::shared_ptr<const Embedding> weights = source_.embedding();
    auto made = std::make_shared<GpuEmbedding>();
    made->dtype = weights->stored_as_bfloat16() ? Dtype::bf16 : Dtype::f32;
    made->scale = weights->scale();
    Parcel parcel;
    parcel.add(weights->values(), weights->bytes(), made->values);
    made->memory = parcel.send(queue_);
    settle(made, embedding_);
    return made;
}

std::shared_ptr<const GpuHead> CudaWeights::head() {
    if (head_) return head_;
    const std::shared_ptr<const HeadWeights> weights = source_.head();
    auto made = std::make_shared<GpuHead>();
    made->tiles.resize(weights->tiles.size());
    Parcel parcel;
    parcel.add(weights->norm, made->norm);
    for (size_t tile = 0; tile < weights->tiles.size(); ++tile) parcel.add(weights->tiles[tile], made->tiles[tile]);
    made->memory = parcel.send(queue_);
    settle(made, head_);
    return made;
}

}  // namespace amalgam
