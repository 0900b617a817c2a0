// From hidden values to logits, and what is read from them.
#pragma once
#include <cstdint>
#include <vector>

#include "src/evaluate/weights.h"

namespace amalgam {

struct TargetScore {
    double log_likelihood = 0;
    int32_t best = 0;
    bool finite = true;  ///< false: some logit is NaN or infinite, and the rest says nothing
};

/// targets[row] is the token whose likelihood is asked for; empty: none is, and log_likelihood is 0.
std::vector<TargetScore> judge_rows(const DecoderConfig& config, const HeadWeights& head, const float* hidden,
                                    int64_t rows, const std::vector<int32_t>& targets);

/// rows x vocabulary
std::vector<float> all_logits(const DecoderConfig& config, const HeadWeights& head, const float* hidden, int64_t rows);

}  // namespace amalgam
