#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

struct Ram {
    static constexpr Field fields[] = {
        {"epsilon", Scope::global, FieldKind::number, false, 1e-5, 0, infinity, 1e-5, 1e-5,
         "an element counts as changed beyond this distance"},
    };
    static constexpr MethodInfo info = {
        "ram",
        "Averages elements that several models changed, takes those that one changed as they are.",
        "mergekit",
        "",
        "",
        Shape::fold,
        BaseUse::required,
        1,
        0,
        fields,
    };
};

struct RamPlus {
    static constexpr Field fields[] = {
        {"epsilon", Scope::global, FieldKind::number, false, 1e-5, 0, infinity, 1e-5, 1e-5,
         "an element counts as changed beyond this distance"},
        {"r", Scope::global, FieldKind::number, false, 0.1, -infinity, infinity, 0, 1, "strength of the amplification"},
        {"alpha", Scope::global, FieldKind::number, false, 0.2, 0, infinity, 0, 1,
         "cap of the ratio of shared to unique elements"},
    };
    static constexpr MethodInfo info = {
        "ramplus_tl",
        "RAM that amplifies the elements only one model changed by how much it shares with others.",
        "mergekit",
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
