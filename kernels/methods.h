// The list of merge methods: a new one is its header and its entry here.
#pragma once
#include <array>
#include <tuple>

#include "kernels/methods/arcee_fusion.h"
#include "kernels/methods/breadcrumbs.h"
#include "kernels/methods/dare.h"
#include "kernels/methods/della.h"
#include "kernels/methods/karcher.h"
#include "kernels/methods/linear.h"
#include "kernels/methods/model_stock.h"
#include "kernels/methods/multislerp.h"
#include "kernels/methods/nearswap.h"
#include "kernels/methods/nuslerp.h"
#include "kernels/methods/passthrough.h"
#include "kernels/methods/ram.h"
#include "kernels/methods/sce.h"
#include "kernels/methods/slerp.h"
#include "kernels/methods/task_arithmetic.h"
#include "kernels/methods/ties.h"

namespace amalgam {

using Methods =
    std::tuple<methods::Linear, methods::Slerp, methods::NuSlerp, methods::MultiSlerp, methods::Karcher,
               methods::ModelStock, methods::TaskArithmetic, methods::Ties, methods::DareLinear, methods::DareTies,
               methods::DellaLinear, methods::Della, methods::Breadcrumbs, methods::BreadcrumbsTies, methods::NearSwap,
               methods::Sce, methods::Ram, methods::RamPlus, methods::ArceeFusion, methods::Passthrough>;

namespace detail {
template <class... Method>
constexpr std::array<const MethodInfo*, sizeof...(Method)> collect_methods(std::tuple<Method...>*) {
    return {&Method::info...};
}
}  // namespace detail

/// Every method's table, in the order of the list.
inline constexpr auto all_methods = detail::collect_methods(static_cast<Methods*>(nullptr));

/// The method called `name`, or nullptr.
constexpr const MethodInfo* find_method(std::string_view name) {
    for (const MethodInfo* method : all_methods)
        if (method->name == name) return method;
    return nullptr;
}

}  // namespace amalgam
