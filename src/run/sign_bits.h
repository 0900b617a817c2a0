// Which elements of a task vector go up and which down, one bit each: elements of hundreds of models are compared pair
// by pair in words of 64.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/pack.h"

namespace amalgam {

/// Of one model in one block.
struct SignBits {
    std::vector<uint64_t> up, down;
    int64_t nonfinite = 0;

    /// Signs of input - base, in double if `wide`.
    void fill(const Operand& base, const Operand& input, int64_t count, bool wide);
    size_t words() const { return up.size(); }
    int64_t changed() const;
};

struct PairCounts {
    int64_t both = 0, opposite = 0;
};
PairCounts compare_signs(const SignBits& a, const SignBits& b);

/// Elements that go up in some and down in others.
int64_t count_conflicts(const std::vector<SignBits>& models);

}  // namespace amalgam
