#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

struct Linear {
    static constexpr Field fields[] = {
        weight_field,
        normalize_field(true),
    };
    static constexpr MethodInfo info = {
        "linear",
        "Weighted average of the models.",
        "Wortsman et al. 2022, Model soups",
        "divides by the sum of the weights when normalize is on",
        "",
        Shape::fold,
        BaseUse::none,
        1,
        0,
        fields,
    };
};

}  // namespace amalgam::methods
