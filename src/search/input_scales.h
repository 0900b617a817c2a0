// What the input of a layer on a path is multiplied by, from numbers of a genome.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "src/search/optimiser.h"
#include "src/search/search_config.h"

namespace amalgam {

/// A layer that comes after another one on a path. Layers of all models are counted in one row.
struct PathLink {
    int64_t from = -1;  ///< layer; -1: the embedding
    int64_t to = 0;     ///< layer
    int64_t slot = 0;   ///< of the layer; slots of the path in order, then one for the end
};

/// Of which path the scales are.
struct PathShape {
    std::vector<int64_t> layers;          ///< of the models
    std::vector<std::string> slot_names;  ///< with that of the end
};

/// W of a link (i, j, t), within scale_low and scale_high, and 1 where a genome begins:
///   slots      W = s[t]
///   low-rank   W = 1 + sum over k of u[i][k] v[j][k]; i is a layer or the embedding
///   network    W = g(c . h2 + c0), h2 = tanh(B h1 + b), h1 = tanh(A x + a), where x is the depth of i, the model of i, the depth of
///              j, the model of j and the place of t: depths and places from -1 (the embedding: -1, of no model) to 1, a model as
///              one number for each, 1 for this one and 0 for the others; g(o) is 1 + (scale_high - 1) tanh(o) above 0 and
///              1 + (1 - scale_low) tanh(o) below.
class InputScales {
  public:
    virtual ~InputScales() = default;
    virtual const std::vector<Gene>& genes() const = 0;
    /// `genome`: as long as genes().
    virtual double scale(const double* genome, const PathLink& link) const = 0;
    /// Marks the genes that scale() reads.
    virtual void mark_used(const PathLink& link, std::vector<bool>& used) const = 0;
};

std::unique_ptr<InputScales> make_input_scales(const DataFlow& flow, const PathShape& shape);

}  // namespace amalgam
