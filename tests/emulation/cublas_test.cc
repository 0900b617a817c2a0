// The stand-in for cuBLAS against sums written out.
#include "tests/emulation/include/cublas_v2.h"

#include "tests/emulation/emulation.h"

namespace amalgam::emulation {
namespace {

constexpr int m = 2, n = 2, k = 3;
// Column-major A (2 x 3) and B (3 x 2).
const std::vector<float> a = {1, 4, 2, 5, 3, 6}, b = {7, 9, 11, 8, 10, 12}, product = {58, 139, 64, 154};

struct Handle {
    cublasHandle_t handle = nullptr;
    cudaStream_t stream = make_stream();
    Handle() {
        EXPECT_EQ(cublasCreate(&handle), CUBLAS_STATUS_SUCCESS);
        EXPECT_EQ(cublasSetStream(handle, stream), CUBLAS_STATUS_SUCCESS);
        EXPECT_EQ(cublasSetMathMode(handle, CUBLAS_PEDANTIC_MATH), CUBLAS_STATUS_SUCCESS);
    }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    ~Handle() {
        EXPECT_EQ(cublasDestroy(handle), CUBLAS_STATUS_SUCCESS);
        EXPECT_CUDA(cudaStreamDestroy(stream));
    }
};

TEST(Cublas, MultipliesInItsStream) {
    const Handle here;
    const DeviceArray<float> left(a, here.stream), right(b, here.stream), result(4);
    const float one = 1, zero = 0;
    ASSERT_EQ(cublasSgemm(here.handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, left.data(), m, right.data(), k, &zero,
                          result.data(), m),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(result.read(here.stream), product);
    // C = 2 A B - C, with A given as its transpose.
    const DeviceArray<float> turned({1, 2, 3, 4, 5, 6}, here.stream);
    const float two = 2, minus = -1;
    ASSERT_EQ(cublasSgemm(here.handle, CUBLAS_OP_T, CUBLAS_OP_N, m, n, k, &two, turned.data(), k, right.data(), k,
                          &minus, result.data(), m),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(result.read(here.stream), product);
    EXPECT_EQ(cublasSgemm(here.handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, left.data(), 1, right.data(), k, &zero,
                          result.data(), m),
              CUBLAS_STATUS_INVALID_VALUE);
}

TEST(Cublas, MultipliesBatches) {
    const Handle here;
    std::vector<float> twice = a;
    for (float value : a) twice.push_back(2 * value);
    const DeviceArray<float> left(twice, here.stream), right(b, here.stream), result(8);
    const float one = 1, zero = 0;
    ASSERT_EQ(cublasSgemmStridedBatched(here.handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, left.data(), m, 6,
                                        right.data(), k, 0, &zero, result.data(), m, 4, 2),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(result.read(here.stream), std::vector<float>({58, 139, 64, 154, 116, 278, 128, 308}));
}

TEST(Cublas, TakesBfloat16) {
    const Handle here;
    const auto narrow = [](const std::vector<float>& values) {
        std::vector<uint16_t> result;
        for (float value : values) {
            uint32_t bits;
            std::memcpy(&bits, &value, 4);
            result.push_back(uint16_t(bits >> 16));
        }
        return result;
    };
    const DeviceArray<uint16_t> left(narrow(a), here.stream), right(narrow(b), here.stream), short_result(4);
    const DeviceArray<float> result(4);
    const float one = 1, zero = 0;
    ASSERT_EQ(
        cublasGemmEx(here.handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, left.data(), CUDA_R_16BF, m, right.data(),
                     CUDA_R_16BF, k, &zero, result.data(), CUDA_R_32F, m, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(result.read(here.stream), product);
    ASSERT_EQ(cublasGemmEx(here.handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, left.data(), CUDA_R_16BF, m,
                           right.data(), CUDA_R_16BF, k, &zero, short_result.data(), CUDA_R_16BF, m, CUBLAS_COMPUTE_32F,
                           CUBLAS_GEMM_DEFAULT),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(short_result.read(here.stream), narrow(product));
}

}  // namespace
}  // namespace amalgam::emulation
