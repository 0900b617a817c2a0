// Eigenvalues of a small symmetric matrix.
#pragma once
#include <cstdint>
#include <vector>

namespace amalgam {

/// `matrix` has size x size numbers, of which the lower triangle is read. Eigenvector j becomes column j of `vectors`
/// (row after row), `values` rise. False if there is no answer, such as for numbers that are not finite.
bool symmetric_eigen(int64_t size, const std::vector<double>& matrix, std::vector<double>& vectors,
                     std::vector<double>& values);

}  // namespace amalgam
