#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

struct ModelStock {
    static constexpr Field fields[] = {
        {"filter_wise", Scope::global, FieldKind::boolean, false, 0, 0, 1, 0, 1,
         "one t for every row instead of one for the tensor"},
    };
    static constexpr MethodInfo info = {
        "model_stock",
        "Interpolates between the base and the average by the angle between task vectors.",
        "Jang et al. 2024, Model Stock",
        "t = N c / (1 + (N - 1) c) with c the mean cosine over all pairs; never clamped, and 0 where the divisor "
        "vanishes (mergekit: NaN)",
        "",
        Shape::blend,
        BaseUse::required,
        2,
        0,
        fields,
    };
};

}  // namespace amalgam::methods
