#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

struct Karcher {
    static constexpr Field fields[] = {
        {"max_iter", Scope::global, FieldKind::integer, false, 10, 1, 10000, 10, 10,
         "steps of the fixed-point iteration"},
        {"tol", Scope::global, FieldKind::number, false, 1e-5, 0, 1, 1e-5, 1e-5,
         "stop when the step is shorter than this"},
    };
    static constexpr MethodInfo info = {
        "karcher",
        "Riemannian centre of mass of the models on the sphere.",
        "Karcher 1977",
        "every model counts alike; the mean length is restored",
        "",
        Shape::blend,
        BaseUse::ordinary,
        1,
        0,
        fields,
    };
};

}  // namespace amalgam::methods
