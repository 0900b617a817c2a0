// The stand-in for the CUDA runtime: memory, streams, events, errors, devices.
#include <cmath>
#include <cstdlib>
#include <thread>

#include "tests/emulation/emulation.h"

namespace amalgam::emulation {
namespace {

__global__ void add_one(int* values, int count) {
    const int at = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (at < count) values[at] += 1;
}
__global__ void copy_values(const int* from, int* to, int count) {
    const int at = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (at < count) to[at] = from[at];
}

TEST(Memory, IsPoisonedWhenAllocated) {
    cudaStream_t stream = make_stream();
    const DeviceArray<float> fresh(100);
    for (float value : fresh.read(stream)) EXPECT_TRUE(std::isnan(value));
    EXPECT_CUDA(cudaStreamDestroy(stream));
}

TEST(Memory, IsPoisonedWhenFreed) {
    cudaStream_t stream = make_stream();
    DeviceArray<int> freed(std::vector<int>{1, 2, 3}, stream);
    EXPECT_CUDA(cudaStreamSynchronize(stream));
    const int* old = freed.data();
    freed.release();
    // A kernel that finds the address elsewhere than in its parameters, which are checked.
    EXPECT_DEATH(
        {
            const volatile int* stale = old;
            if (*stale == -1) die("reads poison");
        },
        "reads poison|use-after-poison");
    EXPECT_CUDA(cudaStreamDestroy(stream));
}

TEST(Memory, WritesAfterFreeEndTheProgram) {
    EXPECT_DEATH(
        {
            DeviceArray<int> freed(3);
            volatile int* old = freed.data();
            freed.release();
            old[1] = 5;
            std::exit(0);
        },
        "written after it was freed|use-after-poison");
}

TEST(Memory, WritesOutsideEndTheProgram) {
    for (int at : {-1, 3, 40})
        EXPECT_DEATH(
            {
                DeviceArray<int> short_one(3);
                volatile int* values = short_one.data();
                values[at] = 5;
                short_one.release();
            },
            "outside of the allocation|use-after-poison");
}

TEST(Memory, CopiesStayWithinAllocations) {
    cudaStream_t stream = make_stream();
    const DeviceArray<int> memory(10);
    std::vector<int> host(12);
    EXPECT_EQ(cudaMemcpyAsync(memory.data(), host.data(), 44, cudaMemcpyHostToDevice, stream), cudaErrorInvalidValue);
    EXPECT_EQ(cudaMemcpyAsync(memory.data() + 1, host.data(), 40, cudaMemcpyHostToDevice, stream),
              cudaErrorInvalidValue);
    EXPECT_EQ(cudaMemcpyAsync(host.data(), memory.data(), 44, cudaMemcpyDeviceToHost, stream), cudaErrorInvalidValue);
    EXPECT_EQ(cudaMemsetAsync(memory.data(), 0, 41, stream), cudaErrorInvalidValue);
    EXPECT_EQ(cudaMemcpyAsync(memory.data(), host.data(), 40, cudaMemcpyDeviceToHost, stream), cudaErrorInvalidValue);
    EXPECT_EQ(cudaMemcpyAsync(host.data(), memory.data(), 40, cudaMemcpyHostToDevice, stream), cudaErrorInvalidValue);
    EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    EXPECT_CUDA(cudaMemcpyAsync(memory.data(), host.data(), 40, cudaMemcpyDefault, stream));
    EXPECT_CUDA(cudaStreamDestroy(stream));
}

TEST(Memory, FreedTwiceIsAnError) {
    void* memory = nullptr;
    ASSERT_CUDA(cudaMalloc(&memory, 8));
    EXPECT_EQ(cudaFreeHost(memory), cudaErrorInvalidValue);
    EXPECT_CUDA(cudaFree(memory));
    EXPECT_EQ(cudaFree(memory), cudaErrorInvalidValue);
    EXPECT_CUDA(cudaFree(nullptr));
}

TEST(Memory, EndsAtTheLimit) {
    const KeptSettings kept;
    settings().memory = 1 << 20;
    size_t free = 0, total = 0;
    ASSERT_CUDA(cudaMemGetInfo(&free, &total));
    EXPECT_EQ(free, total);
    EXPECT_EQ(total, size_t{1} << 20);
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, (1 << 20) + 1), cudaErrorMemoryAllocation);
    EXPECT_EQ(memory, nullptr);
    ASSERT_CUDA(cudaMalloc(&memory, 1 << 19));
    ASSERT_CUDA(cudaMemGetInfo(&free, &total));
    EXPECT_EQ(free, size_t{1} << 19);
    void* more = nullptr;
    EXPECT_EQ(cudaMalloc(&more, (1 << 19) + 256), cudaErrorMemoryAllocation);
    // The other device has its own.
    ASSERT_CUDA(cudaSetDevice(1));
    EXPECT_CUDA(cudaMalloc(&more, 1 << 20));
    EXPECT_CUDA(cudaFree(more));
    ASSERT_CUDA(cudaSetDevice(0));
    EXPECT_CUDA(cudaFree(memory));
}

TEST(Streams, AreLazy) {
    cudaStream_t stream = make_stream(), other = make_stream();
    const DeviceArray<int> values(std::vector<int>{1, 2, 3}, stream);
    EXPECT_CUDA(start(false, 1, 32, stream, add_one, values.data(), 3));
    EXPECT_EQ(values.read(other), std::vector<int>({-1, -1, -1}));
    EXPECT_EQ(values.read(stream), std::vector<int>({2, 3, 4}));
    EXPECT_CUDA(cudaStreamDestroy(stream));
    EXPECT_CUDA(cudaStreamDestroy(other));
}

TEST(Streams, RunWhatOthersWaitFor) {
    cudaStream_t first = make_stream(), second = make_stream(), third = make_stream();
    cudaEvent_t copied = make_event(), added = make_event();
    const DeviceArray<int> values(std::vector<int>{1, 2, 3}, first);
    EXPECT_CUDA(cudaEventRecord(copied, first));
    EXPECT_CUDA(cudaStreamWaitEvent(second, copied));
    EXPECT_CUDA(start(false, 1, 32, second, add_one, values.data(), 3));
    EXPECT_CUDA(cudaEventRecord(added, second));
    // Behind the event, so not part of what the third waits for.
    EXPECT_CUDA(start(false, 1, 32, second, add_one, values.data(), 3));
    EXPECT_CUDA(cudaStreamWaitEvent(third, added));
    EXPECT_EQ(values.read(third), std::vector<int>({2, 3, 4}));
    EXPECT_CUDA(cudaDeviceSynchronize());
    EXPECT_EQ(values.read(third), std::vector<int>({3, 4, 5}));
    for (cudaStream_t stream : {first, second, third}) EXPECT_CUDA(cudaStreamDestroy(stream));
    for (cudaEvent_t event : {copied, added}) EXPECT_CUDA(cudaEventDestroy(event));
}

TEST(Streams, QueriesLetThemGoOn) {
    cudaStream_t stream = make_stream();
    cudaEvent_t event = make_event();
    EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
    const DeviceArray<int> values(std::vector<int>{1}, stream);
    EXPECT_CUDA(cudaEventRecord(event, stream));
    EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    int queries = 1;
    while (cudaEventQuery(event) == cudaErrorNotReady) ASSERT_LT(++queries, 10);
    EXPECT_EQ(cudaStreamQuery(stream), cudaSuccess);
    EXPECT_CUDA(cudaEventDestroy(event));
    EXPECT_CUDA(cudaStreamDestroy(stream));
}

TEST(Streams, ReadPageableMemoryAtOnceAndPinnedMemoryLater) {
    cudaStream_t stream = make_stream();
    const DeviceArray<int> from_pageable(2), from_pinned(2);
    std::vector<int> pageable = {1, 1};
    const PinnedArray<int> pinned(2);
    pinned.fill(1);
    EXPECT_CUDA(cudaMemcpyAsync(from_pageable.data(), pageable.data(), 8, cudaMemcpyHostToDevice, stream));
    EXPECT_CUDA(cudaMemcpyAsync(from_pinned.data(), pinned.data(), 8, cudaMemcpyHostToDevice, stream));
    pageable = {2, 2};
    pinned.fill(2);
    EXPECT_EQ(from_pageable.read(stream), std::vector<int>({1, 1}));
    EXPECT_EQ(from_pinned.read(stream), std::vector<int>({2, 2}));
    EXPECT_CUDA(cudaStreamDestroy(stream));
}

TEST(Streams, TheDefaultOneTakesTurnsWithBlockingOnes) {
    cudaStream_t blocking = nullptr;
    ASSERT_CUDA(cudaStreamCreateWithFlags(&blocking, cudaStreamDefault));
    const DeviceArray<int> values(std::vector<int>{1}, blocking);
    EXPECT_CUDA(start(false, 1, 1, nullptr, add_one, values.data(), 1));
    EXPECT_CUDA(start(false, 1, 1, blocking, add_one, values.data(), 1));
    int value = 0;
    EXPECT_CUDA(cudaMemcpy(&value, values.data(), 4, cudaMemcpyDeviceToHost));
    EXPECT_EQ(value, 3);
    EXPECT_CUDA(cudaStreamDestroy(blocking));
}

TEST(Streams, OfOneDeviceTakeNoLaunchFromThreadsOfAnother) {
    cudaStream_t stream = make_stream();
    const DeviceArray<int> values(std::vector<int>{1}, stream);
    std::thread([&] {
        EXPECT_CUDA(cudaSetDevice(1));
        EXPECT_EQ(start(false, 1, 1, stream, add_one, values.data(), 1), cudaErrorInvalidResourceHandle);
    }).join();
    std::thread([&] { EXPECT_CUDA(start(false, 1, 1, stream, add_one, values.data(), 1)); }).join();
    EXPECT_EQ(values.read(stream), std::vector<int>({2}));
    EXPECT_CUDA(cudaStreamDestroy(stream));
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
    EXPECT_EQ(cudaEventRecord(nullptr, nullptr), cudaErrorInvalidResourceHandle);
}

TEST(Streams, OfSeveralThreadsWorkSideBySide) {
    constexpr int threads = 4, rounds = 20;
    std::vector<std::thread> running;
    std::vector<int> results(threads);
    for (int t = 0; t < threads; ++t)
        running.emplace_back([&results, t] {
            cudaStream_t copies = make_stream(), kernels = make_stream();
            cudaEvent_t copied = make_event(), done = make_event();
            const PinnedArray<int> slot(64);
            const DeviceArray<int> values(64);
            for (int round = 0; round < rounds; ++round) {
                EXPECT_CUDA(cudaEventSynchronize(done));
                slot.fill(round);
                EXPECT_CUDA(cudaMemcpyAsync(values.data(), slot.data(), slot.bytes(), cudaMemcpyHostToDevice, copies));
                EXPECT_CUDA(cudaEventRecord(copied, copies));
                EXPECT_CUDA(cudaStreamWaitEvent(kernels, copied));
                EXPECT_CUDA(start(false, 2, 32, kernels, add_one, values.data(), 64));
                EXPECT_CUDA(cudaEventRecord(done, kernels));
                EXPECT_CUDA(cudaStreamWaitEvent(copies, done));
            }
            results[size_t(t)] = values.read(kernels)[63];
            for (cudaStream_t stream : {copies, kernels}) EXPECT_CUDA(cudaStreamDestroy(stream));
            for (cudaEvent_t event : {copied, done}) EXPECT_CUDA(cudaEventDestroy(event));
        });
    for (std::thread& thread : running) thread.join();
    EXPECT_EQ(results, std::vector<int>(threads, rounds));
}

TEST(Errors, StayAfterAFailedKernel) {
    const KeptSettings kept;
    cudaStream_t stream = make_stream();
    const DeviceArray<int> values(std::vector<int>{1}, stream);
    set_failures("kernel:2");
    EXPECT_CUDA(start(false, 1, 1, stream, add_one, values.data(), 1));
    EXPECT_CUDA(start(false, 1, 1, stream, add_one, values.data(), 1));
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, 1), cudaErrorLaunchFailure);
    EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
    EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
    forget_errors();
    EXPECT_CUDA(cudaStreamDestroy(stream));
}

TEST(Errors, ComeWhenTheyAreAskedFor) {
    const KeptSettings kept;
    set_failures("cudaMalloc:2,cudaHostAlloc:1,cudaLaunchKernelEx:1");
    void* memory = nullptr;
    ASSERT_CUDA(cudaMalloc(&memory, 1));
    EXPECT_CUDA(cudaFree(memory));
    EXPECT_EQ(cudaMalloc(&memory, 1), cudaErrorMemoryAllocation);
    EXPECT_EQ(cudaHostAlloc(&memory, 1, 0), cudaErrorMemoryAllocation);
    EXPECT_EQ(start(false, 1, 1, nullptr, add_one, nullptr, 0), cudaErrorLaunchOutOfResources);
    EXPECT_CUDA(cudaMalloc(&memory, 1));
    EXPECT_CUDA(cudaFree(memory));
}

TEST(Devices, AreThoseThatAreVisible) {
    const KeptSettings kept;
    settings().devices = 4;
    int count = 0;
    ASSERT_CUDA(cudaGetDeviceCount(&count));
    EXPECT_EQ(count, 4);
    ASSERT_EQ(setenv("CUDA_VISIBLE_DEVICES", "3,1,7,0", 1), 0);
    ASSERT_CUDA(cudaGetDeviceCount(&count));
    EXPECT_EQ(count, 2);
    cudaDeviceProp properties{};
    ASSERT_CUDA(cudaGetDeviceProperties(&properties, 0));
    EXPECT_STREQ(properties.name, "Emulated GPU 3");
    EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
    ASSERT_EQ(setenv("CUDA_VISIBLE_DEVICES", "", 1), 0);
    EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
    EXPECT_EQ(count, 0);
    ASSERT_EQ(unsetenv("CUDA_VISIBLE_DEVICES"), 0);
}

TEST(Devices, KernelsReachNoMemoryOfOthersOrOfTheHost) {
    ASSERT_CUDA(cudaSetDevice(1));
    const DeviceArray<int> there(1);
    ASSERT_CUDA(cudaSetDevice(0));
    const DeviceArray<int> here(1);
    std::vector<int> host(1);
    EXPECT_DEATH(start(false, 1, 1, nullptr, copy_values, there.data(), here.data(), 1), "memory of device 1");
    EXPECT_DEATH(start(false, 1, 1, nullptr, copy_values, host.data(), here.data(), 1), "an address of the host");
}

TEST(Exit, SaysWhatWasNotReleased) {
    EXPECT_EQ(leaks(), "");
    EXPECT_EXIT(
        {
            settings().leaks = Leaks::fail;
            void* memory = nullptr;
            cudaMalloc(&memory, 100);
            make_stream();
            make_event();
            std::exit(0);
        },
        testing::ExitedWithCode(87), "100 bytes of device 0\n.*1 streams\n.*1 events");
    EXPECT_EXIT(
        {
            settings().leaks = Leaks::ignore;
            make_stream();
            std::exit(0);
        },
        testing::ExitedWithCode(0), "^$");
}

TEST(Exit, WorkOnMemoryThatIsGoneEndsTheProgram) {
    cudaStream_t stream = make_stream();
    EXPECT_DEATH(
        {
            DeviceArray<int> values(std::vector<int>{1}, stream);
            values.release();
            cudaStreamSynchronize(stream);
        },
        "no longer allocated");
    EXPECT_CUDA(cudaStreamDestroy(stream));
}

}  // namespace
}  // namespace amalgam::emulation
