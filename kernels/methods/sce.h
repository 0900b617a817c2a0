#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

struct Sce {
    static constexpr Field fields[] = {
        {"select_topk", Scope::global, FieldKind::number, false, 1, 0, 1, 0.05, 1,
         "share of the elements with non-zero variance that is kept"},
    };
    static constexpr MethodInfo info = {
        "sce",
        "Selects the elements of largest variance over models, weighs models by energy, erases minority signs.",
        "Wan et al. 2024, FuseChat",
        "keeps int(select_topk x count of non-zero variances) elements",
        "",
        Shape::select,
        BaseUse::required,
        1,
        0,
        fields,
    };
};

}  // namespace amalgam::methods
