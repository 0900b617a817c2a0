#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

constexpr std::string_view della_mergekit =
    "keeps with probability density - epsilon + 2 epsilon (rank - 1) / (columns - 1), rank within the row; rescales by "
    "the ratio of L1 norms";
constexpr std::string_view della_paper = "rescales each kept element by 1 / its probability";

struct DellaLinear {
    static constexpr Field fields[] = {
        weight_field,
        density_field,
        {"epsilon", Scope::per_model, FieldKind::number, false, 0.15, 0, 1, 0, 0.2,
         "half width of the range of keep probabilities around the density"},
        lambda_field,
        normalize_field(false),
        rescale_field(true),
    };
    static constexpr MethodInfo info = {
        "della_linear",
        "Drops elements at random, small ones more often (ranked within rows), and adds the rest.",
        "Deep et al. 2024, DELLA-Merging",
        della_mergekit,
        della_paper,
        Shape::select,
        BaseUse::required,
        1,
        0,
        fields,
        Trim::ranked,
        false,
    };
};

struct Della {
    static constexpr Field fields[] = {
        weight_field,
        density_field,
        {"epsilon", Scope::per_model, FieldKind::number, false, 0.15, 0, 1, 0, 0.2,
         "half width of the range of keep probabilities around the density"},
        lambda_field,
        normalize_field(true),
        rescale_field(true),
    };
    static constexpr MethodInfo info = {
        "della",
        "Drops elements at random, small ones more often (ranked within rows), then elects signs as TIES does.",
        "Deep et al. 2024, DELLA-Merging",
        della_mergekit,
        della_paper,
        Shape::select,
        BaseUse::required,
        1,
        0,
        fields,
        Trim::ranked,
        true,
    };
};

}  // namespace amalgam::methods
