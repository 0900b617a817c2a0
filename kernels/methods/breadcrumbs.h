#pragma once
#include "kernels/methods/common.h"

namespace amalgam::methods {

constexpr std::string_view breadcrumbs_rules =
    "drops int(gamma x n) elements at the top of each tensor and keeps the next int(density x n), equal magnitudes by "
    "lowest flat index";

struct Breadcrumbs {
    static constexpr Field fields[] = {
        weight_field,
        density_field,
        {"gamma", Scope::per_model, FieldKind::number, false, 0.01, 0, 1, 0, 0.2,
         "share of the largest elements that is dropped as outliers"},
        lambda_field,
        normalize_field(false),
        rescale_field(false),
    };
    static constexpr MethodInfo info = {
        "breadcrumbs",
        "Drops the smallest and the largest elements of task vectors and adds the rest.",
        "Davari and Belilovsky 2023, Model Breadcrumbs",
        breadcrumbs_rules,
        trim_paper,
        Shape::fold,
        BaseUse::required,
        1,
        0,
        fields,
        Trim::band,
        false,
    };
};

struct BreadcrumbsTies {
    static constexpr Field fields[] = {
        weight_field,
        density_field,
        {"gamma", Scope::per_model, FieldKind::number, false, 0.01, 0, 1, 0, 0.2,
         "share of the largest elements that is dropped as outliers"},
        lambda_field,
        normalize_field(false),
        rescale_field(false),
    };
    static constexpr MethodInfo info = {
        "breadcrumbs_ties",
        "Drops the smallest and the largest elements of task vectors, then elects signs as TIES does.",
        "Davari and Belilovsky 2023, Model Breadcrumbs",
        breadcrumbs_rules,
        trim_paper,
        Shape::fold,
        BaseUse::required,
        1,
        0,
        fields,
        Trim::band,
        true,
    };
};

}  // namespace amalgam::methods
