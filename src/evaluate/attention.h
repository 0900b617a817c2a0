// Causal attention of rows of queries over the keys and values of their sequence.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "src/evaluate/decoder_config.h"

namespace amalgam {

/// Keys and values of one sequence in one layer, for all key-value heads, in the layout that attention reads.
class KeyValues {
  public:
    /// Bytes that reset() takes for so many positions.
    static uint64_t bytes(const DecoderConfig& config, int64_t capacity);

    /// Makes room for `capacity` positions. What was held before is gone; memory is kept for reuse. Positions take memory when
    /// they are stored, not before.
    void reset(const DecoderConfig& config, int64_t capacity);
    int64_t capacity() const { return capacity_; }

    /// Puts `count` rows at positions `first` and on. `keys` and `values` point at the first head of the first row; rows
    /// are `stride` apart.
    void store(const float* keys, const float* values, int64_t stride, int64_t first, int64_t count);

    /// Blocks of 32 keys: element c of key j is at ((j / 32) * head_dim + c) * 32 + j % 32.
    const float* keys(int64_t head) const { return keys_.get() + head * head_dim_ * capacity_; }
    /// Rows of padded() values.
    const float* values(int64_t head) const { return values_.get() + head * padded_ * capacity_; }
    int64_t padded() const { return padded_; }

  private:
    int64_t heads_ = 0, head_dim_ = 0, padded_ = 0, capacity_ = 0;
    int64_t key_room_ = 0, value_room_ = 0;
    std::unique_ptr<float[]> keys_, values_;
};

/// Memory that attention works in; one a thread.
struct AttentionScratch {
    std::vector<float> scores, results;
};

/// Queries of positions [first, first + count) of a sequence whose keys and values up to there are stored; all heads.
/// Rows of `queries` are `query_stride` apart, rows of `to` config.query_width(). `window`: as in DecoderConfig.
void attend(const DecoderConfig& config, const KeyValues& stored, int64_t window, const float* queries,
            int64_t query_stride, int64_t first, int64_t count, float* to, AttentionScratch& scratch);

}  // namespace amalgam
