#include <cstring>
#include <new>

#include "src/device/cpu_lane.h"
#include "src/device/device.h"

namespace amalgam {

namespace {

class CpuDevice final : public Device {
  public:
    DeviceKind kind() const override { return DeviceKind::cpu; }
    std::string name() const override { return "cpu"; }
    uint64_t memory() const override { return 0; }
    int lanes() const override { return 0; }
    std::shared_ptr<void> allocate(uint64_t bytes) override {
        constexpr std::align_val_t alignment{4096};
        return {::operator new(bytes, alignment), [](void* memory) { ::operator delete(memory, alignment); }};
    }
    void copy_in(void* to, const void* host, uint64_t bytes) override { std::memcpy(to, host, bytes); }
    void copy_out(void* host, const void* from, uint64_t bytes) override { std::memcpy(host, from, bytes); }
    std::unique_ptr<Lane> make_lane(const LaneSettings& settings) override {
        return std::make_unique<CpuLane>(settings);
    }
};

}  // namespace

std::unique_ptr<Device> make_cpu_device() { return std::make_unique<CpuDevice>(); }

}  // namespace amalgam
