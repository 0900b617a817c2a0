#include "src/device/cuda_products.h"

#include <cublas_v2.h>

#include <limits>

#include "src/base/error.h"

namespace amalgam {

namespace {

void check_cublas(cublasStatus_t status, const char* doing) {
    check(status == CUBLAS_STATUS_SUCCESS,
          "cuBLAS failed at {} (status {}); the GPU's memory may be full, or the cause may be work queued before; "
          "--device cpu does without it",
          doing, int(status));
}

int library_size(int64_t size) {
    check(size <= std::numeric_limits<int>::max(), "a matrix with a side of {}: cuBLAS takes at most {}", size,
          std::numeric_limits<int>::max());
    return int(size);
}

}  // namespace

CudaProducts::CudaProducts(CudaQueue& queue) : queue_(queue) {
    cublasHandle_t handle = nullptr;
    use_cuda_device(queue.context().device);
    check_cublas(cublasCreate(&handle), "its start");
    handle_ = handle;
}

CudaProducts::~CudaProducts() { cublasDestroy(static_cast<cublasHandle_t>(handle_)); }

void CudaProducts::multiply(bool half, const void* x, int64_t count, const void* weights, int64_t rows, int64_t columns,
                            float* y) {
    const auto handle = static_cast<cublasHandle_t>(handle_);
    const cuda::Queue queue = queue_.kernels();
    check_cublas(cublasSetStream(handle, static_cast<cudaStream_t>(queue.stream)), "choosing a stream");
    const cudaDataType type = half ? CUDA_R_16BF : CUDA_R_32F;
    // Float32 is not to be rounded to shorter factors.
    const cublasComputeType_t compute = half ? CUBLAS_COMPUTE_32F : CUBLAS_COMPUTE_32F_PEDANTIC;
    const float one = 1, zero = 0;
    const int inner = library_size(columns), outer = library_size(rows);
    // Columns of the library are rows here.
    check_cublas(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, outer, library_size(count), inner, &one, weights, type,
                              inner, x, type, inner, &zero, y, CUDA_R_32F, outer, compute, CUBLAS_GEMM_DEFAULT),
                 "a product");
}

}  // namespace amalgam
