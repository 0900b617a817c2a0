#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

struct DareLinear {
    static constexpr Field fields[] = {
        weight_field, density_field, lambda_field, normalize_field(false), rescale_field(true),
    };
    static constexpr MethodInfo info = {
        "dare_linear",
        "Drops elements of task vectors at random, rescales, and adds them to the base.",
        "Yu et al. 2024, Language models are super Mario",
        dare_mergekit,
        dare_paper,
        Shape::fold,
        BaseUse::required,
        1,
        0,
        fields,
        Trim::random,
        false,
    };
};

struct DareTies {
    static constexpr Field fields[] = {
        weight_field, density_field, lambda_field, normalize_field(false), rescale_field(true),
    };
    static constexpr MethodInfo info = {
        "dare_ties",
        "Drops elements of task vectors at random, rescales, then elects signs as TIES does.",
        "Yu et al. 2024, Language models are super Mario",
        dare_mergekit,
        dare_paper,
        Shape::fold,
        BaseUse::required,
        1,
        0,
        fields,
        Trim::random,
        true,
    };
};

}  // namespace amalgam::methods
