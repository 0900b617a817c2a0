// One layer of a decoder over the tokens of several sequences that lie one behind the other.
#pragma once
#include <cstdint>
#include <vector>

#include "src/evaluate/attention.h"
#include "src/evaluate/decoder_config.h"
#include "src/evaluate/weights.h"

namespace amalgam {

/// Some consecutive tokens of one sequence.
struct Run {
    int64_t first_row = 0;  ///< of the matrix of hidden values
    int64_t count = 0;
    int64_t first_position = 0;   ///< within the sequence
    KeyValues* stored = nullptr;  ///< what came before, and where these tokens go; nullptr: all of it is in this run
};

/// Cosines and sines of all positions that were asked for.
class RopeTable {
  public:
    RopeTable(const Rope& rope, int64_t positions);
    const float* cosines(int64_t position) const { return cosines_.data() + position * half_; }
    const float* sines(int64_t position) const { return sines_.data() + position * half_; }

  private:
    int64_t half_;
    std::vector<float> cosines_, sines_;
};

/// Memory that a layer works in; one a thread.
struct LayerScratch {
    std::vector<float> normed, wide, mixed;
    KeyValues stored;
    AttentionScratch attention;
};

/// hidden: rows x config.hidden, changed in place. `window`: as in DecoderConfig, of this layer.
void run_layer(const DecoderConfig& config, const LayerWeights& weights, int64_t window, const RopeTable& rope,
               const std::vector<Run>& runs, int64_t rows, float* hidden, LayerScratch& scratch);

}  // namespace amalgam
