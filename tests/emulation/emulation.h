// What the tests of the stand-ins share: checks of return codes, arrays on the device, launches.
#pragma once
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "cuda_runtime.h"
#include "tests/emulation/control.h"

#define EXPECT_CUDA(call) EXPECT_EQ(call, cudaSuccess) << cudaGetErrorString(cudaPeekAtLastError())
#define ASSERT_CUDA(call) ASSERT_EQ(call, cudaSuccess) << cudaGetErrorString(cudaPeekAtLastError())

namespace amalgam::emulation {

/// After a plain fork the thread sanitizer knows nothing about fibers that were made before.
class DeathTestsStartAnew : public testing::Environment {
  public:
    void SetUp() override { testing::GTEST_FLAG(death_test_style) = "threadsafe"; }
};
inline const testing::Environment* const death_tests_start_anew =
    testing::AddGlobalTestEnvironment(std::make_unique<DeathTestsStartAnew>().release());

inline cudaStream_t make_stream() {
    cudaStream_t stream = nullptr;
    EXPECT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
}
inline cudaEvent_t make_event() {
    cudaEvent_t event = nullptr;
    EXPECT_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
}

/// Device memory for a test.
template <class T>
class DeviceArray {
  public:
    explicit DeviceArray(size_t count) : count_(count) {
        void* memory = nullptr;
        EXPECT_CUDA(cudaMalloc(&memory, count * sizeof(T)));
        data_ = static_cast<T*>(memory);
    }
    DeviceArray(const std::vector<T>& values, cudaStream_t stream) : DeviceArray(values.size()) {
        EXPECT_CUDA(cudaMemcpyAsync(data_, values.data(), bytes(), cudaMemcpyHostToDevice, stream));
    }
    DeviceArray(const DeviceArray&) = delete;
    DeviceArray& operator=(const DeviceArray&) = delete;
    ~DeviceArray() { release(); }

    T* data() const { return data_; }
    size_t bytes() const { return count_ * sizeof(T); }
    void release() {
        cudaFree(data_);
        data_ = nullptr;
    }
    /// Waits for the stream.
    std::vector<T> read(cudaStream_t stream) const {
        std::vector<T> values(count_);
        EXPECT_CUDA(cudaMemcpyAsync(values.data(), data_, bytes(), cudaMemcpyDeviceToHost, stream));
        EXPECT_CUDA(cudaStreamSynchronize(stream));
        return values;
    }

  private:
    T* data_ = nullptr;
    size_t count_ = 0;
};

template <class T>
class PinnedArray {
  public:
    explicit PinnedArray(size_t count) : count_(count) {
        void* memory = nullptr;
        EXPECT_CUDA(cudaHostAlloc(&memory, count * sizeof(T), cudaHostAllocDefault));
        data_ = static_cast<T*>(memory);
    }
    PinnedArray(const PinnedArray&) = delete;
    PinnedArray& operator=(const PinnedArray&) = delete;
    ~PinnedArray() { cudaFreeHost(data_); }

    T& operator[](size_t i) const { return data_[i]; }
    T* data() const { return data_; }
    size_t bytes() const { return count_ * sizeof(T); }
    void fill(T value) const {
        for (size_t i = 0; i < count_; ++i) data_[i] = value;
    }

  private:
    T* data_ = nullptr;
    size_t count_ = 0;
};

template <class... Parameters, class... Arguments>
cudaError_t start(bool synchronises, dim3 grid, dim3 block, cudaStream_t stream, void (*kernel)(Parameters...),
                  Arguments... arguments) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeIgnore;
    attribute.val.cooperative = synchronises;
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

/// Settings as they were, at the end of a test.
class KeptSettings {
  public:
    KeptSettings() : before_(settings()) {}
    KeptSettings(const KeptSettings&) = delete;
    KeptSettings& operator=(const KeptSettings&) = delete;
    ~KeptSettings() {
        settings() = before_;
        set_failures("");
        forget_errors();
    }

  private:
    Settings before_;
};

}  // namespace amalgam::emulation
