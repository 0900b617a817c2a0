// Fields and words that several methods share.
#pragma once
#include "kernels/method_info.h"

namespace amalgam::methods {

constexpr Field weight_field = {"weight",
                                Scope::per_model,
                                FieldKind::number,
                                true,
                                0,
                                -infinity,
                                infinity,
                                0,
                                2,
                                "factor of this model (task vector, if there is a base); may be negative"};
constexpr Field density_field = {"density",
                                 Scope::per_model,
                                 FieldKind::number,
                                 false,
                                 1,
                                 0,
                                 1,
                                 0.05,
                                 1,
                                 "share of the task vector's elements that is kept"};
constexpr Field lambda_field = {"lambda",
                                Scope::global,
                                FieldKind::number,
                                false,
                                1,
                                -infinity,
                                infinity,
                                0,
                                2,
                                "factor of the merged task vector before it is added to the base"};
constexpr Field normalize_field(bool by_default) {
    return {"normalize",
            Scope::global,
            FieldKind::boolean,
            false,
            by_default ? 1. : 0.,
            0,
            1,
            0,
            1,
            "divide by the sum of the weights that took part"};
}
constexpr Field rescale_field(bool by_default) {
    return {"rescale",
            Scope::global,
            FieldKind::boolean,
            false,
            by_default ? 1. : 0.,
            0,
            1,
            0,
            1,
            "make up for what the sparsifier dropped"};
}

constexpr std::string_view trim_mergekit =
    "trims each tensor to exactly int(density x n) elements, equal magnitudes by lowest flat index; elects by weighted "
    "mass";
constexpr std::string_view trim_paper =
    "trims over the whole model at once and keeps every element that equals the threshold";
constexpr std::string_view dare_mergekit =
    "rescales by the ratio of the L1 norms before and after the drop, tensor by tensor";
constexpr std::string_view dare_paper = "rescales by 1 / density";

}  // namespace amalgam::methods
