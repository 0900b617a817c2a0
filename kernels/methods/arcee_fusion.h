#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

struct ArceeFusion {
    static constexpr std::span<const Field> fields = {};
    static constexpr MethodInfo info = {
        "arcee_fusion",
        "Takes over the elements of the other model that matter most by distance and divergence.",
        "mergekit",
        "threshold is median + 1.5 x interquartile range of |difference| x row divergence, over all elements",
        "",
        Shape::select,
        BaseUse::member,
        1,
        1,
        fields,
    };
};

}  // namespace amalgam::methods
