// Whether models can be merged with each other, from headers and configurations.
#pragma once
#include <string>
#include <vector>

#include "src/base/files.h"
#include "src/checkpoint/checkpoint.h"
#include "src/checkpoint/config_settings.h"

namespace amalgam {

struct Difference {
    using Weight = DifferenceWeight;
    Weight weight = Weight::note;
    std::string what;   ///< "tensor", "shape", "dtype", "config", "tokenizer"
    std::string name;   ///< of tensor or setting
    std::string first;  ///< what the first model has; "" if nothing
    std::string other;
};

/// All differences of one model to the first. Tensors in natural order, then settings.
struct Fit {
    std::string model;
    std::vector<Difference> differences;
    Difference::Weight worst() const;
    bool fits() const { return worst() != Difference::Weight::problem; }
};

/// `name` is what the second model is called in the result.
Fit compare_models(Files& files, const Checkpoint& first, const Checkpoint& other, const std::string& name);

}  // namespace amalgam
