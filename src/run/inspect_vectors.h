// The geometry of task vectors: norms, cosines, and where models pull in opposite directions.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "src/checkpoint/checkpoint.h"

namespace amalgam {

/// Of task vectors (model - base) over some elements. Differences are taken in float (in double if an operand is
/// float64), sums in double in the one shape of all sums; elements whose difference is not finite count as unchanged.
struct VectorStatistics {
    explicit VectorStatistics(int models);

    int models;
    int64_t elements = 0;
    double base_squares = 0;         ///< of the base's elements
    std::vector<double> products;    ///< dot products of pairs i <= j, by pair_index()
    std::vector<int64_t> changed;    ///< by model: elements that differ from the base
    std::vector<int64_t> nonfinite;  ///< by model: elements whose difference is NaN or infinite
    std::vector<int64_t> both;       ///< by pair: elements that both change
    std::vector<int64_t> opposite;   ///< by pair: elements that both change, in opposite directions
    int64_t conflicts = 0;           ///< elements that some models raise and others lower

    void add(const VectorStatistics& other);
    /// Place of a pair, in either order, among those of `products`, `both` and `opposite`.
    size_t pair(int i, int j) const;
    double norm(int model) const;
    /// Of the task vector over the base's norm; NaN if the base is zero.
    double relative_norm(int model) const;
    /// NaN if one of the two is zero.
    double cosine(int i, int j) const;
    /// Of the elements that both change, the share with opposite signs; NaN if there are none.
    double opposite_share(int i, int j) const;
    /// Of all elements, the share with a conflict.
    double conflict_share() const { return elements == 0 ? 0 : double(conflicts) / double(elements); }
};

struct VectorReport {
    struct Layer {
        std::string tower;
        int64_t layer = -1;  ///< -1: all tensors of no layer
        VectorStatistics statistics;
    };
    VectorStatistics whole;
    std::vector<Layer> layers;  ///< tensors of no layer last
    int64_t tensors = 0;
    std::vector<std::string> left_out;  ///< "lm_head.weight: not in math-en"
};

struct NamedCheckpoint {
    std::string name;
    Checkpoint checkpoint;
};

/// Reads every tensor that base and models share, once, block by block; memory is a block of each model a thread.
/// Embeddings and heads that differ in rows only are compared over the rows they share. The result does not depend on
/// `threads`. Throws Error if a file cannot be read.
VectorReport inspect_vectors(const NamedCheckpoint& base, const std::vector<NamedCheckpoint>& models, int threads);

}  // namespace amalgam
