// Coefficients of the methods that are blends, solved in double from the inputs' Gram matrix.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/gram_pass.h"
#include "kernels/method_info.h"

namespace amalgam {

/// Upper triangle of all dot products of N vectors, by pair_index().
class Gram {
  public:
    Gram(std::span<const double> products, int64_t count) : products_(products), count_(count) {}
    double operator()(int64_t i, int64_t j) const {
        return products_[size_t(i <= j ? pair_index(i, j, count_) : pair_index(j, i, count_))];
    }
    int64_t size() const { return count_; }

  private:
    std::span<const double> products_;
    int64_t count_;
};

namespace blends {

/// SLERP of vectors 0 (t = 0) and 1 (mergekit 1.8): factors of the unnormalised vectors.
std::vector<double> slerp(const Gram& gram, double t);

/// NuSLERP of vectors 0 and 1 by weights (mergekit 1.9).
std::vector<double> nuslerp(const Gram& gram, double first_weight, double second_weight);

/// Multi-SLERP (mergekit 1.10). Throws std::domain_error if the weighted mean direction vanishes with more than two inputs.
std::vector<double> multislerp(const Gram& gram, std::span<const double> weights, bool normalize, double eps);

/// Karcher mean of directions times the mean norm (mergekit 1.11).
std::vector<double> karcher(const Gram& gram, int max_iter, double tol);

/// Model Stock (Jang et al. 2024; mergekit 1.12): the Gram matrix is that of the task vectors; the result is t, the share
/// of the average, 1 - t being the base's.
double model_stock(const Gram& gram);

}  // namespace blends
}  // namespace amalgam
