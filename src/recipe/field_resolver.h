// Values of a method's fields for one tensor: levels, filters and gradients as in mergekit 2.
#pragma once
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/method_info.h"
#include "src/recipe/recipe.h"
#include "src/recipe/roles.h"

namespace amalgam {

/// The parameter's value for a tensor at depth `t` in [0, 1] of its slice; nothing if no filter fits `name`.
std::optional<double> parameter_value(const Parameter& parameter, std::string_view name, double t);

/// All fields of a method at one place of a recipe. Points into the recipe.
class FieldResolver {
  public:
    /// `entry` is nullptr for global fields, `slice` for recipes without slices.
    FieldResolver(const MethodInfo& method, Scope scope, const SourceEntry* entry, const OutputSlice* slice,
                  const Recipe& recipe);

    /// Fields of the other scope keep their defaults. `name` is the output's for global fields, the
    /// source's for a model's. Throws Error naming the tensor if a required field has no value for it.
    FieldValues resolve(std::string_view name, double t) const;

  private:
    double resolve_field(int index, std::string_view name, double t) const;

    const MethodInfo& method_;
    Scope scope_;
    const SourceEntry* entry_;
    const Recipe& recipe_;
    std::array<ParameterLevels, max_fields> levels_;
};

/// "recipe.toml:12", without the number for line 0.
std::string recipe_place(const Recipe& recipe, int line);

}  // namespace amalgam
