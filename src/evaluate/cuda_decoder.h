// Scores of models on a GPU.
#pragma once
#include <cstdint>
#include <memory>

#include "src/evaluate/scorer.h"

namespace amalgam {

/// How the memory of a GPU is shared out.
struct CudaLimits {
    int64_t batch_tokens = 2048;  ///< that are computed together, unless a text alone has more
    uint64_t most_kept = 0;       ///< bytes of weights that stay on the GPU; 0: half of its memory
};

/// As in scorer.h.
std::unique_ptr<EvaluationDevice> make_cuda_evaluation(int node_rank, int node_size, const CudaLimits& limits);

}  // namespace amalgam
