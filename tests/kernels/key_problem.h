// A base, models and factors, for what works on keys.
#pragma once
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/key_pass.h"
#include "tests/kernels/buffers.h"

namespace amalgam::test {

/// Place of a number in the order of magnitudes: its bits, every NaN right above infinity.
template <class T>
inline uint64_t rank_of(T value) {
    const Dtype dtype = sizeof(T) == 4 ? Dtype::f32 : Dtype::f64;
    const uint64_t infinite = sizeof(T) == 4 ? 0x7f800000u : 0x7ff0000000000000u;
    return std::isnan(value) ? infinite + 1 : test::encode(dtype, static_cast<long double>(std::fabs(value)));
}

/// Models on a lattice around a base, with factors: many keys are equal.
struct KeyProblem {
    Tensor base;
    std::vector<Tensor> tensors;
    std::vector<Operand> operands;
    std::vector<float> factors;
    KeyArguments arguments;

    KeyProblem(int64_t count, int inputs, bool wide, bool specials = true)
        : base(wide ? Dtype::f64 : Dtype::bf16, count, 1) {
        std::mt19937_64 random(uint64_t(count) + (wide ? 1u : 0u));
        fill_normal(base, count, 0.3, random);
        if (specials) sprinkle_specials(base, count, 3);
        std::uniform_int_distribution<int> step(-8, 8);
        for (int m = 0; m < inputs; ++m) {
            tensors.emplace_back(wide && m % 2 ? Dtype::f32
                                 : wide        ? Dtype::f64
                                 : m % 2       ? Dtype::f16
                                               : Dtype::bf16,
                                 count, 3);
            // Steps on a lattice: many distances are equal.
            for (int64_t i = 0; i < count; ++i) tensors.back().set(i, base.value(i) + step(random) * 0.0078125L);
            if (specials) sprinkle_specials(tensors.back(), count, 7 * m);
        }
        for (const Tensor& tensor : tensors) operands.push_back(tensor.operand());
        for (int64_t i = 0; i < count; ++i) factors.push_back(float(random() % 1000) / 512);
        arguments = {base.operand(), operands.data(), inputs, factors.data(), count};
    }
    template <class T>
    T delta(int m, int64_t i) const {
        return T(T(tensors[size_t(m)].value(i)) - T(base.value(i)));
    }
};

}  // namespace amalgam::test
