#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

struct Ties {
    static constexpr Field fields[] = {
        weight_field, density_field, lambda_field, normalize_field(true), rescale_field(false),
    };
    static constexpr MethodInfo info = {
        "ties",
        "Trims task vectors by magnitude, elects a sign per element, averages those that agree.",
        "Yadav et al. 2023, TIES-Merging",
        trim_mergekit,
        trim_paper,
        Shape::fold,
        BaseUse::required,
        1,
        0,
        fields,
        Trim::magnitude,
        true,
    };
};

}  // namespace amalgam::methods
