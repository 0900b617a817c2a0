// Which entries of a list are inputs of the method and which is its base.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/method_info.h"
#include "src/recipe/recipe.h"

namespace amalgam {

/// Equal as written, but for "./" at the front and "/" at the end.
bool same_reference(std::string_view a, std::string_view b);

struct Roles {
    std::vector<int> inputs;  ///< places in the list, ascending
    int base = -1;            ///< place of the base in the list; -1: not listed
    bool origin = false;      ///< the base is the task's origin (or the first of two models), not one of the inputs
    bool appended = false;    ///< the base is an input of its own after the listed ones
    int models() const { return int(inputs.size()) + (appended ? 1 : 0); }
};

/// `base` as it holds for this list; `in_slice`: a method that takes the base as an ordinary model does not append it.
Roles assign_roles(const MethodInfo& method, const std::vector<SourceEntry>& entries,
                   const std::optional<std::string>& base, bool in_slice);

/// A parameter may stand at the entry (per-model fields only), then its slice, then the recipe; nullptr where it does
/// not.
struct ParameterLevels {
    const Parameter* levels[3] = {nullptr, nullptr, nullptr};
    bool given() const { return levels[0] || levels[1] || levels[2]; }
};
ParameterLevels parameter_levels(const Field& field, const SourceEntry* entry, const OutputSlice* slice,
                                 const Recipe& recipe);

}  // namespace amalgam
