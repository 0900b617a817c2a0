// Tensors for tests of lanes, and results to compare.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/pack.h"
#include "src/device/device.h"
#include "tests/device/gpu_test.h"

namespace amalgam {

/// Bytes of results; NaN of a statistic is the same NaN everywhere.
class Results {
  public:
    void add(const void* data, size_t bytes) {
        const auto from = static_cast<const unsigned char*>(data);
        bytes_.insert(bytes_.end(), from, from + bytes);
    }
    template <class T>
    void add(const std::vector<T>& values) {
        for (T value : values) {
            if constexpr (std::is_floating_point_v<T>)
                if (value != value) value = std::numeric_limits<T>::quiet_NaN();
            add(&value, sizeof value);
        }
    }
    void add(const FoldCounts& counts) {
        add(std::vector<int64_t>{counts.nonfinite_input, counts.nonfinite_output, counts.saturated});
    }
    /// What lies in a lane's memory.
    void take(Lane& lane, const void* from, size_t bytes) {
        std::vector<unsigned char> host(bytes);
        lane.take(from, host.data(), bytes);
        add(host.data(), bytes);
    }
    const std::vector<unsigned char>& bytes() const { return bytes_; }

  private:
    std::vector<unsigned char> bytes_;
};

/// A base and models near it, with equal values, zeros and, if `awkward`, what is not finite among them.
class Sample {
  public:
    Sample(Dtype dtype, int64_t count, int models, bool awkward, unsigned seed = 1) : dtype_(dtype), count_(count) {
        std::mt19937 random(seed + unsigned(count) * 7 + unsigned(models));
        std::normal_distribution<float> normal;
        std::vector<float> noise(4099);
        for (float& value : noise) value = normal(random);
        std::vector<float> base(size_t(count), 0.f), model(size_t(count), 0.f);
        for (float& value : base) value = 0.05f * noise[random() % noise.size()];
        sprinkle(base, awkward, random);
        tensors_.push_back(stored(base));
        for (int m = 0; m < models; ++m) {
            for (size_t i = 0; i < model.size(); ++i) {
                const uint32_t draw = random();
                model[i] = draw % 5 == 0 ? base[i] : base[i] + 0.02f * noise[draw % noise.size()];
            }
            sprinkle(model, awkward, random);
            tensors_.push_back(stored(model));
        }
    }
    Dtype dtype() const { return dtype_; }
    bool wide() const { return dtype_ == Dtype::f64; }
    int64_t count() const { return count_; }
    int models() const { return int(tensors_.size()) - 1; }
    size_t bytes() const { return size_t(count_) * size_t(stored_bytes(dtype_)); }

    Operand base(Lane& lane) const { return brought(lane, 0); }
    std::vector<Operand> inputs(Lane& lane) const {
        std::vector<Operand> operands;
        for (size_t m = 1; m < tensors_.size(); ++m) operands.push_back(brought(lane, m));
        return operands;
    }

  private:
    static void sprinkle(std::vector<float>& values, bool awkward, std::mt19937& random) {
        constexpr float infinity = std::numeric_limits<float>::infinity();
        const float special[] = {0.f, -0.f, 1e-30f, 3e4f, -500.f, infinity, -infinity, std::nanf("")};
        for (size_t i = random() % 5; i < values.size(); i += 1 + random() % 97)
            values[i] = special[random() % (awkward ? 8 : 4)];
    }
    std::vector<unsigned char> stored(const std::vector<float>& values) const {
        std::vector<unsigned char> bytes(values.size() * size_t(stored_bytes(dtype_)));
        for (size_t i = 0; i < values.size(); ++i) store_pack<1>(bytes.data(), dtype_, int64_t(i), 1, &values[i]);
        return bytes;
    }
    Operand brought(Lane& lane, size_t tensor) const {
        return {lane.bring(tensors_[tensor].data(), tensors_[tensor].size()), dtype_};
    }

    Dtype dtype_;
    int64_t count_;
    std::vector<std::vector<unsigned char>> tensors_;
};

inline Operand later(const Operand& operand, int64_t elements) {
    return {static_cast<const unsigned char*>(operand.data) + elements * stored_bytes(operand.dtype), operand.dtype};
}

/// Passes of both devices.
class LaneTest : public GpuTest {
  protected:
    void SetUp() override {
        GpuTest::SetUp();
        if (!has_gpu()) return;
        cpu_device_ = make_cpu_device();
        cuda_device_ = make_cuda_device(0, 1);
        cpu_ = cpu_device_->make_lane({});
        cuda_ = cuda_device_->make_lane({});
    }

    /// Runs body(lane) -> Results on both.
    template <class Body>
    void expect_same(const std::string& what, const Body& body) {
        cpu_->begin_window();
        const Results expected = body(*cpu_);
        cuda_->begin_window();
        const Results actual = body(*cuda_);
        ASSERT_EQ(expected.bytes().size(), actual.bytes().size()) << what;
        if (expected.bytes() == actual.bytes()) return;
        size_t place = 0;
        while (expected.bytes()[place] == actual.bytes()[place]) ++place;
        ADD_FAILURE() << what << ": byte " << place << " of " << expected.bytes().size() << " differs";
    }

    std::unique_ptr<Device> cpu_device_, cuda_device_;
    std::unique_ptr<Lane> cpu_, cuda_;
};

struct Case {
    int64_t count;
    int models;
};

inline std::vector<Case> cases() {
    std::vector<Case> all;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    // Ten times slower: every size of a border once.
    for (int64_t count : {1, 7, 255, 65537})
        for (int models : {1, 8})
            if (models == 1 || count < 65536) all.push_back({count, models});
#else
    for (int64_t count : {1, 7, 255, 65535, 65536, 65537, 3 * 65536 + 17})
        for (int models : {1, 2, 8}) all.push_back({count, models});
    all.push_back({65537, 70});
#endif
    all.push_back({255, 70});
    return all;
}

inline const std::vector<Dtype>& computed_dtypes() {
    static const std::vector<Dtype> dtypes{Dtype::bf16, Dtype::f16,     Dtype::f32,
                                           Dtype::f64,  Dtype::f8_e4m3, Dtype::f8_e5m2};
    return dtypes;
}

/// Calls body(sample, name) for every case of every dtype.
template <class Body>
void each_sample(const Body& body) {
    for (Dtype dtype : computed_dtypes())
        for (const Case& one : cases()) {
            const bool awkward = one.models != 2;
            body(Sample(dtype, one.count, one.models, awkward), std::string(info(dtype).name) + ", " +
                                                                    std::to_string(one.count) + " elements, " +
                                                                    std::to_string(one.models) + " models");
        }
}

}  // namespace amalgam
