// The shape of sums that decide bits, as the design words it.
#pragma once
#include <cstdint>
#include <vector>

namespace amalgam::test {

/// One block or a piece of it: flat index i goes to lane i mod 256, ascending; lanes are folded by halves.
class LaneSum {
  public:
    void add(int64_t flat_index, double term) { lanes_[size_t(flat_index % 256)] += term; }
    double total() const {
        std::vector<double> left = lanes_;
        while (left.size() > 1) {
            const size_t half = left.size() / 2;
            std::vector<double> folded(half);
            for (size_t i = 0; i < half; ++i) folded[i] = left[i] + left[i + half];
            left = folded;
        }
        return left[0];
    }

  private:
    std::vector<double> lanes_ = std::vector<double>(256);
};

}  // namespace amalgam::test
