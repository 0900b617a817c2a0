// Products of matrices on a GPU; the only door to the library that does them.
#pragma once
#include <cstdint>

#include "src/device/cuda_queue.h"

namespace amalgam {

class CudaProducts {
  public:
    /// Products are queued among the kernels of `queue`, which outlives this.
    explicit CudaProducts(CudaQueue& queue);
    CudaProducts(const CudaProducts&) = delete;
    CudaProducts& operator=(const CudaProducts&) = delete;
    ~CudaProducts();

    /// y = x W^T, all on the GPU, row after row: `count` rows of `columns` values to `count` rows of `rows` values of
    /// float32. x and W are bfloat16 if `half`, else float32 and multiplied as such; sums are float32. Throws Error.
    void multiply(bool half, const void* x, int64_t count, const void* weights, int64_t rows, int64_t columns,
                  float* y);

  private:
    CudaQueue& queue_;
    void* handle_ = nullptr;
};

}  // namespace amalgam
