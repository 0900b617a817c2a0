#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

struct Slerp {
    static constexpr Field fields[] = {
        {"t", Scope::global, FieldKind::number, true, 0, 0, 1, 0, 1, "0 gives the base, 1 the other model"},
    };
    static constexpr MethodInfo info = {
        "slerp",
        "Spherical interpolation between the base and one other model.",
        "Shoemake 1985",
        "angle of the whole tensors; linear beyond |cosine| 0.9995; t = 0 is the base",
        "",
        Shape::blend,
        BaseUse::member,
        1,
        1,
        fields,
    };
};

}  // namespace amalgam::methods
