// A build without CUDA.
#include "src/base/error.h"
#include "src/evaluate/scorer.h"

namespace amalgam {

std::unique_ptr<EvaluationDevice> make_cuda_evaluation(int, int) {
    fail(
        "--device cuda: this program was built without CUDA; use --device cpu, or build with the preset `cuda` where "
        "nvcc is");
}

}  // namespace amalgam
