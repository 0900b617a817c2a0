#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

struct Passthrough {
    static constexpr Field fields[] = {
        {"scale", Scope::per_model, FieldKind::number, false, std::numeric_limits<double>::quiet_NaN(), -infinity,
         infinity, 0, 2, "factor of the tensor; not given: bytes are copied"},
    };
    static constexpr MethodInfo info = {
        "passthrough",
        "Copies one model, or stacks layers of several, optionally scaled.",
        "layer stacking",
        "",
        "",
        Shape::copy,
        BaseUse::none,
        1,
        1,
        fields,
    };
};

}  // namespace amalgam::methods
