// A build without CUDA.
#include "src/base/error.h"
#include "src/device/device.h"

namespace amalgam {

int cuda_device_count() { return 0; }

std::vector<CudaDeviceFacts> cuda_devices() { return {}; }

std::unique_ptr<Device> make_cuda_device(int, int) {
    fail(
        "--device cuda: this program was built without CUDA; use --device cpu, or build with the preset `cuda` where "
        "nvcc is");
}

}  // namespace amalgam
