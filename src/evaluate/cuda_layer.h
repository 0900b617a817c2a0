// The forward pass of some rows on a GPU: everything is queued, nothing is waited for.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/decoder.h"
#include "src/device/cuda_products.h"
#include "src/device/cuda_queue.h"
#include "src/evaluate/cuda_weights.h"
#include "src/evaluate/decoder_config.h"
#include "src/evaluate/layer.h"

namespace amalgam {

/// Tokens that are computed together, as the host lists them.
struct FedRows {
    std::vector<int32_t> ids, positions;
    std::vector<int32_t> places;  ///< rows of stored keys and values
    std::vector<cuda::QueryTile> tiles;

    /// Consecutive tokens of one text, whose position 0 has its keys in row `first_key` of those that are stored.
    void add(const DecoderConfig& config, std::span<const int32_t> tokens, int64_t first_position, int64_t first_key);
    int64_t count() const { return int64_t(ids.size()); }
};

/// The same on the GPU.
struct GpuRows {
    DeviceBuffer memory;
    int64_t count = 0, tile_count = 0;
    const int32_t *ids = nullptr, *positions = nullptr, *places = nullptr;
    const cuda::QueryTile* tiles = nullptr;

    /// Once no queued work uses the rows of before.
    void send(CudaQueue& queue, const FedRows& rows);
};

/// Memory that rows are computed in; one after the other use it.
class CudaScratch {
  public:
    /// For up to so many rows at a time.
    CudaScratch(CudaQueue& queue, const DecoderConfig& config, int64_t rows);

    void* normed() const { return normed_; }
    float* added() const { return added_; }
    float* wide() const { return wide_; }
    void* mixed() const { return mixed_; }
    float* logits() const { return logits_; }
    cuda::LogitState* states() const { return states_; }
    /// Rows to which numbers, and targets, of rows may be sent.
    int32_t* numbers() const { return numbers_; }

    /// Rows that go through the wide matrices together.
    static constexpr int64_t most_wide_rows = 2048;

  private:
    DeviceBuffer memory_;
    void *normed_ = nullptr, *mixed_ = nullptr;
    float *added_ = nullptr, *wide_ = nullptr, *logits_ = nullptr;
    cuda::LogitState* states_ = nullptr;
    int32_t* numbers_ = nullptr;
};

/// Cosines and sines of all positions that are asked for.
struct GpuRope {
    GpuRope(CudaQueue& queue, const Rope& rope, int64_t positions);
    DeviceBuffer memory;
    const float *cosines = nullptr, *sines = nullptr;
};

class CudaForward {
  public:
    /// All outlive it. Throws Error for what the kernels cannot compute.
    CudaForward(CudaQueue& queue, CudaProducts& products, const DecoderConfig& config);

    void embed(const GpuEmbedding& embedding, const GpuRows& rows, float* hidden);
    /// hidden: rows.count x config.hidden, changed in place. `stored`: keys and values of one layer, rows of 2 x kv_width,
    /// where those of the new tokens go too; nullptr: all of a text is in these rows.
    void run_layer(const GpuLayer& layer, int64_t window, const GpuRope& rope, const GpuRows& rows, float* stored,
                   float* hidden, const CudaScratch& scratch);
    /// Calls visit(first row of `numbers`, rows, first id, ids) for each tile of logits that lies in scratch.logits(), row after
    /// row, of those rows of `hidden`; states of all rows are then in scratch.states(). `targets` may be empty. What a call queued has
    /// ended before the next one.
    template <class Visit>
    void judge(const GpuHead& head, const float* hidden, std::span<const int32_t> numbers,
               std::span<const int32_t> targets, const CudaScratch& scratch, const Visit& visit);

  private:
    /// As factors of products if `half`.
    void norm(const float* weights, const float* from, int64_t rows, bool half, void* to);
    void product(const GpuMatrix& matrix, const float* bias, const void* from, int64_t rows, float* to);
    void head_norms(const GpuLayer& layer, int64_t rows, float* query_key_value);
    void attend(const GpuLayer& layer, int64_t window, const GpuRope& rope, const GpuRows& rows, float* stored,
                const CudaScratch& scratch);
    void feed_forward(const GpuLayer& layer, int64_t rows, float* hidden, const CudaScratch& scratch);
    void add_to(float* hidden, float* added, int64_t rows, const float* post_norm);
    void judge_tile(const GpuMatrix& tile, int64_t rows, int64_t first_id, const int32_t* targets,
                    cuda::LogitState* states, const CudaScratch& scratch);
    /// The rows' hidden values, normed for the head.
    void pick(const GpuHead& head, const float* hidden, const int32_t* numbers, int64_t rows,
              const CudaScratch& scratch);

    CudaQueue& queue_;
    CudaProducts& products_;
    const DecoderConfig& config_;
};

template <class Visit>
void CudaForward::judge(const GpuHead& head, const float* hidden, std::span<const int32_t> numbers,
                        std::span<const int32_t> targets, const CudaScratch& scratch, const Visit& visit) {
    const auto count = int64_t(numbers.size());
    int32_t* wanted = targets.empty() ? nullptr : scratch.numbers() + count;
    queue_.copy_in(scratch.numbers(), numbers.data(), numbers.size_bytes());
    if (wanted) queue_.copy_in(wanted, targets.data(), targets.size_bytes());
    for (int64_t first = 0; first < count; first += CudaScratch::most_wide_rows) {
        const int64_t rows = std::min(CudaScratch::most_wide_rows, count - first);
        pick(head, hidden, scratch.numbers() + first, rows, scratch);
        int64_t id = 0;
        for (const GpuMatrix& tile : head.tiles) {
            judge_tile(tile, rows, id, wanted ? wanted + first : nullptr, scratch.states() + first, scratch);
            visit(first, rows, id, tile.rows);
            id += tile.rows;
        }
    }
}

}  // namespace amalgam
