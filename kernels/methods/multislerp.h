#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

struct MultiSlerp {
    static constexpr Field fields[] = {
        weight_field,
        {"normalize_weights", Scope::global, FieldKind::boolean, false, 1, 0, 1, 0, 1,
         "divide the weights by their sum"},
        {"eps", Scope::global, FieldKind::number, false, 1e-8, 0, 1, 1e-8, 1e-8, "below this a norm counts as zero"},
    };
    static constexpr MethodInfo info = {
        "multislerp",
        "Barycentric spherical interpolation of any number of models in one tangent space.",
        "mergekit",
        "tangent at the weighted mean direction; lengths averaged by weight",
        "",
        Shape::blend,
        BaseUse::optional,
        1,
        0,
        fields,
    };
};

}  // namespace amalgam::methods
