// Tests of what runs on a GPU.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "src/device/device.h"

namespace amalgam {

/// On every GPU there is, or on the emulated one. AMALGAM_REQUIRE_GPU=1: its absence is a failure. Derived fixtures call
/// SetUp() first and go no further if there is no GPU.
class GpuTest : public testing::Test {
  protected:
    void SetUp() override {
        if (has_gpu()) return;
        const char* required = std::getenv("AMALGAM_REQUIRE_GPU");
        if (required && std::string(required) == "1") FAIL() << "no GPU is visible, and AMALGAM_REQUIRE_GPU is 1";
        GTEST_SKIP() << "no GPU is visible";
    }
    static bool has_gpu() { return cuda_device_count() > 0; }
};

}  // namespace amalgam
