// The stand-in's launches: limits, barriers, shared memory, the order of threads, vector accesses.
#include <algorithm>
#include <numeric>

#include "tests/emulation/emulation.h"

namespace amalgam::emulation {
namespace {

__global__ void nothing() {}
__global__ void number(unsigned int* numbers) {
    const unsigned int block = blockIdx.x + gridDim.x * blockIdx.y;
    numbers[block * blockDim.x * blockDim.y + threadIdx.x + blockDim.x * threadIdx.y] = block * 100 + threadIdx.x;
}

TEST(Launch, GivesEveryThreadItsPlace) {
    const DeviceArray<unsigned int> numbers(2 * 3 * 8);
    for (bool synchronises : {false, true}) {
        EXPECT_CUDA(start(synchronises, dim3(3, 2), dim3(4, 2), nullptr, number, numbers.data()));
        const auto values = numbers.read(nullptr);
        for (unsigned int block = 0; block < 6; ++block)
            for (unsigned int thread = 0; thread < 8; ++thread)
                EXPECT_EQ(values[block * 8 + thread], block * 100 + thread % 4);
    }
}

TEST(Launch, HasLimits) {
    for (const dim3 block : {dim3(0), dim3(1025), dim3(512, 3), dim3(1, 1, 65)})
        EXPECT_EQ(start(false, 1, block, nullptr, nothing), cudaErrorInvalidConfiguration);
    for (const dim3 grid : {dim3(0), dim3(0x80000000U), dim3(1, 65536), dim3(1, 1, 65536)})
        EXPECT_EQ(start(false, grid, 1, nullptr, nothing), cudaErrorInvalidConfiguration);
    EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
    EXPECT_CUDA(start(false, dim3(7), dim3(1024), nullptr, nothing));
    EXPECT_CUDA(cudaDeviceSynchronize());
}

struct Large {
    unsigned char bytes[4090];
};
__global__ void take_large(Large, int) {}
__global__ void take_too_large(Large, int, int) {}

TEST(Launch, HasFourKibibytesOfParameters) {
    EXPECT_CUDA(start(false, 1, 1, nullptr, take_large, Large{}, 1));
    EXPECT_EQ(start(false, 1, 1, nullptr, take_too_large, Large{}, 1, 1), cudaErrorInvalidValue);
    EXPECT_CUDA(cudaDeviceSynchronize());
    cudaGetLastError();
}

/// Each block reverses its part in shared memory, then sums it by halves.
__global__ void reverse_and_sum(int* values, int* sums) {
    AMALGAM_SHARED(int, part, 64);
    AMALGAM_SHARED(int, total, 64);
    const unsigned int at = blockIdx.x * 64 + threadIdx.x;
    part[threadIdx.x] = values[at];
    total[threadIdx.x] = values[at];
    __syncthreads();
    values[at] = part[63 - threadIdx.x];
    for (unsigned int half = 32; half > 0; half /= 2) {
        if (threadIdx.x < half) total[threadIdx.x] += total[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) sums[blockIdx.x] = total[0];
}

TEST(Barriers, HoldInEveryOrderOfThreads) {
    const KeptSettings kept;
    for (const Order order : {Order::forward, Order::reverse, Order::random}) {
        settings().order = order;
        std::vector<int> expected(64 * 5);
        std::iota(expected.begin(), expected.end(), 0);
        const DeviceArray<int> values(expected, nullptr), sums(5);
        EXPECT_CUDA(start(true, 5, 64, nullptr, reverse_and_sum, values.data(), sums.data()));
        std::vector<int> expected_sums;
        for (auto block = expected.begin(); block != expected.end(); block += 64) {
            expected_sums.push_back(std::accumulate(block, block + 64, 0));
            std::reverse(block, block + 64);
        }
        EXPECT_EQ(values.read(nullptr), expected);
        EXPECT_EQ(sums.read(nullptr), expected_sums);
    }
}

__global__ void meet_nobody(int) { __syncthreads(); }
__global__ void share(int) {
    AMALGAM_SHARED(int, part, 1);
    part[0] = 1;
}
__global__ void leave_early(int leaving) {
    if (int(threadIdx.x) < leaving) return;
    __syncthreads();
}

TEST(Barriers, MustBeDeclared) {
    EXPECT_DEATH(
        {
            start(false, 1, 32, nullptr, meet_nobody, 0);
            cudaDeviceSynchronize();
        },
        "__syncthreads in a launch that does not say");
    EXPECT_DEATH(
        {
            start(false, 1, 32, nullptr, share, 0);
            cudaDeviceSynchronize();
        },
        "shared memory in a launch that does not say");
    EXPECT_CUDA(start(true, 1, 32, nullptr, meet_nobody, 0));
    EXPECT_CUDA(cudaDeviceSynchronize());
    // Fibers do not make a launch one that may synchronise.
    const KeptSettings kept;
    settings().fibers = true;
    EXPECT_DEATH(
        {
            start(false, 1, 32, nullptr, meet_nobody, 0);
            cudaDeviceSynchronize();
        },
        "__syncthreads in a launch that does not say");
}

TEST(Barriers, WaitForAllThreads) {
    EXPECT_DEATH(
        {
            start(true, 1, 32, nullptr, leave_early, 3);
            cudaDeviceSynchronize();
        },
        "3 threads of the block, thread 2 among them, left the kernel, and 29 wait");
    EXPECT_CUDA(start(true, 1, 32, nullptr, leave_early, 32));
    EXPECT_CUDA(start(true, 1, 32, nullptr, leave_early, 0));
    EXPECT_CUDA(cudaDeviceSynchronize());
}

__global__ void read_shared(int* seen, bool write) {
    AMALGAM_SHARED(int, part, 32);
    if (threadIdx.x == 0) seen[blockIdx.x] = part[5];
    __syncthreads();
    if (write) part[threadIdx.x] = 7;
}
__global__ void overrun(int at) {
    AMALGAM_SHARED(int, part, 32);
    *const_cast<volatile int*>(&part[0] + at) = 7;
}
__global__ void share_much(int) {
    AMALGAM_SHARED(char, first, 40 << 10);
    AMALGAM_SHARED(char, second, (8 << 10) + 1);
    first[0] = second[0] = 1;
}

TEST(SharedMemory, IsPoisonedForEveryBlock) {
    const DeviceArray<int> seen(4);
    EXPECT_CUDA(start(true, 4, 32, nullptr, read_shared, seen.data(), true));
    EXPECT_EQ(seen.read(nullptr), std::vector<int>(4, -1));
}

TEST(SharedMemory, HasLimits) {
    EXPECT_DEATH(
        {
            start(true, 1, 1, nullptr, share_much, 0);
            cudaDeviceSynchronize();
        },
        "static shared memory");
#if defined(__SANITIZE_ADDRESS__)
    EXPECT_DEATH(
        {
            start(true, 1, 1, nullptr, overrun, 32);
            cudaDeviceSynchronize();
        },
        "use-after-poison");
#endif
    EXPECT_CUDA(start(true, 1, 1, nullptr, overrun, 31));
    EXPECT_CUDA(cudaDeviceSynchronize());
}

__global__ void count_in(unsigned int* count, unsigned long long* sum, int* most) {
    atomicAdd(count, 1U);
    atomicAdd(sum, 1ULL << 40);
    atomicMax(most, int(blockIdx.x));
}

TEST(Atomics, CountThreads) {
    const DeviceArray<unsigned int> count(std::vector<unsigned int>{0}, nullptr);
    const DeviceArray<unsigned long long> sum(std::vector<unsigned long long>{0}, nullptr);
    const DeviceArray<int> most(std::vector<int>{-5}, nullptr);
    EXPECT_CUDA(start(false, 3, 64, nullptr, count_in, count.data(), sum.data(), most.data()));
    EXPECT_EQ(count.read(nullptr)[0], 192U);
    EXPECT_EQ(sum.read(nullptr)[0], 192ULL << 40);
    EXPECT_EQ(most.read(nullptr)[0], 2);
}

__global__ void last_writer(int* last) { *last = int(threadIdx.x); }

TEST(Order, OfThreadsShowsDependenceOnIt) {
    const KeptSettings kept;
    const DeviceArray<int> last(1);
    const auto result = [&](Order order) {
        settings().order = order;
        EXPECT_CUDA(start(false, 1, 64, nullptr, last_writer, last.data()));
        return last.read(nullptr)[0];
    };
    EXPECT_EQ(result(Order::forward), 63);
    EXPECT_EQ(result(Order::reverse), 0);
    std::vector<int> random;
    for (int i = 0; i < 5; ++i) random.push_back(result(Order::random));
    EXPECT_NE(random, std::vector<int>(5, random[0]));
}

__global__ void copy_vectors(const float* from, float* to) {
    *reinterpret_cast<float4*>(to + 4 * threadIdx.x) = *reinterpret_cast<const float4*>(from + 4 * threadIdx.x);
}

TEST(Vectors, MustBeAligned) {
    const std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8};
    const DeviceArray<float> from(values, nullptr), to(8);
    EXPECT_CUDA(start(false, 1, 2, nullptr, copy_vectors, from.data(), to.data()));
    EXPECT_EQ(to.read(nullptr), values);
    for (int shift : {1, 2, 3}) {
        EXPECT_DEATH(
            {
                start(false, 1, 1, nullptr, copy_vectors, from.data() + shift, to.data());
                cudaDeviceSynchronize();
            },
            "vector access of 16 bytes|misaligned address");
        EXPECT_DEATH(
            {
                start(false, 1, 1, nullptr, copy_vectors, from.data(), to.data() + shift);
                cudaDeviceSynchronize();
            },
            "vector access of 16 bytes|misaligned address");
    }
    const uint4 made = make_uint4(1, 2, 3, 4);
    EXPECT_EQ(made.x + made.y + made.z + made.w, 10U);
}

}  // namespace
}  // namespace amalgam::emulation
