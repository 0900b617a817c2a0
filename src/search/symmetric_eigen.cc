#include "src/search/symmetric_eigen.h"

#include <Eigen/Eigenvalues>

namespace amalgam {

bool symmetric_eigen(int64_t size, const std::vector<double>& matrix, std::vector<double>& vectors,
                     std::vector<double>& values) {
    using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    // A copy: where a buffer starts must not decide how its sums are grouped.
    const Eigen::MatrixXd copy = Eigen::Map<const RowMajor>(matrix.data(), size, size);
    if (!copy.allFinite()) return false;
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(copy);
    if (solver.info() != Eigen::Success || !solver.eigenvalues().allFinite()) return false;
    vectors.resize(size_t(size * size));
    values.resize(size_t(size));
    Eigen::Map<RowMajor>(vectors.data(), size, size) = solver.eigenvectors();
    Eigen::Map<Eigen::VectorXd>(values.data(), size) = solver.eigenvalues();
    return true;
}

}  // namespace amalgam
