#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

struct TaskArithmetic {
    static constexpr Field fields[] = {
        weight_field,
        lambda_field,
        normalize_field(false),
    };
    static constexpr MethodInfo info = {
        "task_arithmetic",
        "Adds weighted task vectors to the base.",
        "Ilharco et al. 2023, Editing models with task arithmetic",
        "",
        "",
        Shape::fold,
        BaseUse::required,
        1,
        0,
        fields,
    };
};

}  // namespace amalgam::methods
