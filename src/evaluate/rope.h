// Frequencies of rotary position embeddings, and the scalings of them for long contexts.
#pragma once
#include <cstdint>

#include "src/evaluate/decoder_config.h"

namespace amalgam {

enum class RopeKind { plain, linear, llama3, yarn };

/// Numbers of `rope_scaling` or `rope_parameters`, checked: all are finite and above 0 where they are used.
struct RopeScaling {
    RopeKind kind = RopeKind::plain;
    double theta = 10000;
    double factor = 1;
    double low_frequency_factor = 1, high_frequency_factor = 4;  ///< llama3
    double original_context = 0;                                 ///< llama3, yarn
    double beta_fast = 32, beta_slow = 1;                        ///< yarn
    double attention_factor = 0;                                 ///< yarn; 0: from `factor`
    double mscale = 0, mscale_all_dim = 0;                       ///< yarn; 0: not given
    bool truncate = true;                                        ///< yarn
};

Rope make_rope(const RopeScaling& scaling, int64_t head_dim);

}  // namespace amalgam
