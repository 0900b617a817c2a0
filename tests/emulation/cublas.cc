// Matrix products of cuBLAS on the host, in column-major order, with one float accumulator per element.
#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/emulation/include/cublas_v2.h"
#include "tests/emulation/runtime.h"

struct cublasContext {
    cudaStream_t stream = nullptr;
};

namespace amalgam::emulation {
namespace {

float read(const void* memory, cudaDataType type, int64_t at) {
    if (type == CUDA_R_32F) return static_cast<const float*>(memory)[at];
    const uint32_t bits = uint32_t{static_cast<const uint16_t*>(memory)[at]} << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

void write(void* memory, cudaDataType type, int64_t at, float value) {
    if (type == CUDA_R_32F) {
        static_cast<float*>(memory)[at] = value;
        return;
    }
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    bits = value != value ? 0x7fff0000 : bits + 0x7fff + (bits >> 16 & 1);
    static_cast<uint16_t*>(memory)[at] = uint16_t(bits >> 16);
}

struct Matrix {
    void* memory;
    cudaDataType type;
    int leading;
    bool transposed;
    long long stride;

    int64_t at(int row, int column) const {
        return transposed ? int64_t{row} * leading + column : int64_t{column} * leading + row;
    }
    /// Bytes from the first element to the last.
    size_t extent(int rows, int columns, int batches) const {
        return size_t((stride * (batches - 1)) + at(rows - 1, columns - 1) + 1) * (type == CUDA_R_32F ? 4 : 2);
    }
};

/// Rows of a column side by side, so that compilers vectorise; every element is summed up in order.
void multiply(int m, int n, int k, float alpha, const Matrix& a, const Matrix& b, float beta, const Matrix& c,
              int batch) {
    std::vector<float> left(size_t(m) * size_t(k)), sums(static_cast<size_t>(m));
    for (int i = 0; i < k; ++i)
        for (int row = 0; row < m; ++row)
            left[size_t(i) * size_t(m) + size_t(row)] = read(a.memory, a.type, batch * a.stride + a.at(row, i));
    for (int column = 0; column < n; ++column) {
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int i = 0; i < k; ++i) {
            const float factor = read(b.memory, b.type, batch * b.stride + b.at(i, column));
            const float* from = left.data() + size_t(i) * size_t(m);
            float* to = sums.data();
#pragma omp simd
            for (int row = 0; row < m; ++row) to[row] += from[row] * factor;
        }
        for (int row = 0; row < m; ++row) {
            const int64_t at = batch * c.stride + c.at(row, column);
            const float before = beta == 0 ? 0 : beta * read(c.memory, c.type, at);
            write(c.memory, c.type, at, alpha * sums[size_t(row)] + before);
        }
    }
}

cublasStatus_t queue_product(cublasHandle_t handle, int m, int n, int k, float alpha, const Matrix& a, const Matrix& b,
                             float beta, const Matrix& c, int batches) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (must_fail("cublas")) return CUBLAS_STATUS_EXECUTION_FAILED;
    const bool short_a = a.leading < (a.transposed ? k : m), short_b = b.leading < (b.transposed ? n : k);
    if (m < 0 || n < 0 || k < 0 || short_a || short_b || c.leading < m) return CUBLAS_STATUS_INVALID_VALUE;
    const Stream stream = find_stream(handle->stream);
    if (!stream) return CUBLAS_STATUS_EXECUTION_FAILED;
    if (m == 0 || n == 0 || batches == 0) return CUBLAS_STATUS_SUCCESS;
    queue(stream, [=](bool) {
        if (k > 0) check_device_range(a.memory, a.extent(m, k, batches), "cuBLAS reads A");
        if (k > 0) check_device_range(b.memory, b.extent(k, n, batches), "cuBLAS reads B");
        check_device_range(c.memory, c.extent(m, n, batches), "cuBLAS writes C");
        for (int batch = 0; batch < batches; ++batch) multiply(m, n, k, alpha, a, b, beta, c, batch);
        return true;
    });
    return CUBLAS_STATUS_SUCCESS;
}

}  // namespace
}  // namespace amalgam::emulation

using namespace amalgam::emulation;

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
    if (must_fail("cublasCreate")) return CUBLAS_STATUS_ALLOC_FAILED;
    *handle = std::make_unique<cublasContext>().release();
    const std::lock_guard lock(runtime().mutex);
    runtime().others.emplace(*handle, "cuBLAS handle");
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
    const std::lock_guard lock(runtime().mutex);
    if (runtime().others.erase(handle) == 0) return CUBLAS_STATUS_NOT_INITIALIZED;
    const std::unique_ptr<cublasContext> last(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t) {
    return handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t transpose_a,
                                         cublasOperation_t transpose_b, int m, int n, int k, const float* alpha,
                                         const float* a, int lda, long long stride_a, const float* b, int ldb,
                                         long long stride_b, const float* beta, float* c, int ldc, long long stride_c,
                                         int batches) {
    return queue_product(handle, m, n, k, *alpha,
                         {const_cast<float*>(a), CUDA_R_32F, lda, transpose_a != CUBLAS_OP_N, stride_a},
                         {const_cast<float*>(b), CUDA_R_32F, ldb, transpose_b != CUBLAS_OP_N, stride_b}, *beta,
                         {c, CUDA_R_32F, ldc, false, stride_c}, batches);
}

cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t transpose_a, cublasOperation_t transpose_b,
                              int m, int n, int k, const float* alpha, const float* a, int lda, const float* b, int ldb,
                              const float* beta, float* c, int ldc) {
    return cublasSgemmStridedBatched(handle, transpose_a, transpose_b, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c,
                                     ldc, 0, 1);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transpose_a, cublasOperation_t transpose_b, int m,
                            int n, int k, const void* alpha, const void* a, cudaDataType type_a, int lda, const void* b,
                            cudaDataType type_b, int ldb, const void* beta, void* c, cudaDataType type_c, int ldc,
                            cublasComputeType_t, cublasGemmAlgo_t) {
    return queue_product(handle, m, n, k, *static_cast<const float*>(alpha),
                         {const_cast<void*>(a), type_a, lda, transpose_a != CUBLAS_OP_N, 0},
                         {const_cast<void*>(b), type_b, ldb, transpose_b != CUBLAS_OP_N, 0},
                         *static_cast<const float*>(beta), {c, type_c, ldc, false, 0}, 1);
}
