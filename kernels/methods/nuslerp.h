#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

struct NuSlerp {
    static constexpr Field fields[] = {
        weight_field,
        {"nuslerp_flatten", Scope::global, FieldKind::boolean, false, 1, 0, 1, 0, 1,
         "whole tensors as one vector; else rows or columns"},
        {"nuslerp_row_wise", Scope::global, FieldKind::boolean, false, 0, 0, 1, 0, 1,
         "with nuslerp_flatten = false: vectors run along the first dimension instead of the last"},
    };
    static constexpr MethodInfo info = {
        "nuslerp",
        "Spherical interpolation of two models, or of their task vectors if there is a base.",
        "mergekit",
        "t is the second weight over the sum of both; linear where the sine of the angle vanishes",
        "",
        Shape::blend,
        BaseUse::optional,
        2,
        2,
        fields,
    };
};

}  // namespace amalgam::methods
