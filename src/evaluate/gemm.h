// Products of activations with weight matrices; the only door to the library that does them.
#pragma once
#include <cstdint>
#include <memory>
#include <string_view>

#include "kernels/dtype.h"

namespace amalgam {

/// What products are made of: float32, or bfloat16 factors with sums in float32.
enum class Compute { float32, bfloat16 };

std::string_view compute_name(Compute compute);

/// Whether this processor has instructions that multiply bfloat16.
bool has_fast_bfloat16();

/// Whether a row of a product has the same bits on this processor whatever rows are computed with it.
bool rows_are_independent(Compute compute);

/// What a matrix is made for.
enum class MatrixLayout {
    packed,  ///< products on this processor: the layout that they are fastest with
    plain,   ///< a copy to another device: row after row
};

/// A weight matrix. Copies share the memory.
class Matrix {
  public:
    Matrix() = default;
    /// Takes over `rows` x `columns` values, row after row; `dtype` is f32 or bf16. Kept as `compute` says: bfloat16
    /// rounds float32 to nearest.
    Matrix(int64_t rows, int64_t columns, const void* values, Dtype dtype, Compute compute,
           MatrixLayout layout = MatrixLayout::packed);

    int64_t rows() const { return rows_; }
    int64_t columns() const { return columns_; }
    uint64_t bytes() const;
    /// What values() are, and products are made of.
    Compute compute() const;
    /// All values, row after row; only of a plain matrix.
    const void* values() const;

    /// Only of a packed matrix.
    /// y = x W^T: `count` rows of columns() values to `count` rows of rows() values, on the calling thread alone. Sums run
    /// in an order that depends on the shape of W only, or at most on `count` besides; never on threads. Any number of
    /// threads may call.
    void multiply(const float* x, int64_t count, float* y) const;

  private:
    struct Packed;
    int64_t rows_ = 0, columns_ = 0;
    std::shared_ptr<const Packed> packed_;
};

}  // namespace amalgam
