// Weights of a decoder on a GPU.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "kernels/dtype.h"
#include "src/device/cuda_queue.h"
#include "src/evaluate/weights.h"

namespace amalgam {

/// Rows x columns values, row after row: bfloat16 if `half`, else float32.
struct GpuMatrix {
    const void* values = nullptr;
    int64_t rows = 0, columns = 0;
    bool half = false;
};

/// As LayerWeights; nullptr where the family has none.
struct GpuLayer {
    DeviceBuffer memory;
    bool kept = false;  ///< it stays on the GPU when nobody holds it
    GpuMatrix query_key_value, output, gate_up, down;
    const float *query_key_value_bias = nullptr, *output_bias = nullptr, *gate_up_bias = nullptr, *down_bias = nullptr;
    const float *input_norm = nullptr, *query_norm = nullptr, *key_norm = nullptr, *post_attention_norm = nullptr,
                *pre_mlp_norm = nullptr, *post_mlp_norm = nullptr;
};

struct GpuEmbedding {
    DeviceBuffer memory;
    bool kept = false;
    const void* values = nullptr;
    Dtype dtype = Dtype::f32;
    float scale = 1;
};

struct GpuHead {
    DeviceBuffer memory;
    bool kept = false;
    const float* norm = nullptr;
    std::vector<GpuMatrix> tiles;
};

/// What fits of a source's weights stays on the GPU, in the order in which it is first asked for; the rest is copied each time.
/// What is not kept must be held until the work that uses it has ended. Throws Error.
class CudaWeights {
  public:
    /// Queue and source outlive it; the source makes plain matrices.
    CudaWeights(CudaQueue& queue, WeightSource& source, uint64_t most_kept)
        : queue_(queue), source_(source), most_kept_(most_kept) {}

    std::shared_ptr<const GpuLayer> layer(const PathStep& step);
    std::shared_ptr<const GpuEmbedding> embedding();
    std::shared_ptr<const GpuHead> head();

  private:
    /// Decides whether it is kept.
    template <class Weights>
    void settle(const std::shared_ptr<Weights>& made, std::shared_ptr<const Weights>& place);

    CudaQueue& queue_;
    WeightSource& source_;
    const uint64_t most_kept_;
    uint64_t kept_bytes_ = 0;
    std::map<std::tuple<int, int64_t, double>, std::shared_ptr<const GpuLayer>> layers_;
    std::shared_ptr<const GpuEmbedding> embedding_;
    std::shared_ptr<const GpuHead> head_;
};

}  // namespace amalgam
