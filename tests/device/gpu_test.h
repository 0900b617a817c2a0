// Tests of what runs on a GPU.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "src/device/device.h"

namespace amalgam {

/// What a test that needs a GPU and sees none comes to: AMALGAM_REQUIRE_GPU=1 makes it a failure. That message must not be the
/// one of skipped tests, by which ctest knows them.
inline bool gpu_is_required() {
    const char* required = std::getenv("AMALGAM_REQUIRE_GPU");
    return required && std::string(required) == "1";
}
constexpr const char* gpu_is_missing = "AMALGAM_REQUIRE_GPU is 1, and the driver lists no GPU";

/// On every GPU there is, or on the emulated one. Derived fixtures call SetUp() first and go no further if there is no GPU.
class GpuTest : public testing::Test {
  protected:
    void SetUp() override {
        if (has_gpu()) return;
        if (gpu_is_required()) FAIL() << gpu_is_missing;
        GTEST_SKIP() << "no GPU is visible";
    }
    static bool has_gpu() { return cuda_device_count() > 0; }
};

}  // namespace amalgam
