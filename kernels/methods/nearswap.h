#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

struct NearSwap {
    static constexpr Field fields[] = {
        {"t", Scope::global, FieldKind::number, true, 0, 0, infinity, 0, 0.01,
         "distance below which the other model is taken in full"},
    };
    static constexpr MethodInfo info = {
        "nearswap",
        "Moves the base towards the other model where the two are near each other.",
        "mergekit",
        "",
        "",
        Shape::fold,
        BaseUse::member,
        1,
        1,
        fields,
    };
};

}  // namespace amalgam::methods
