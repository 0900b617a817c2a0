// The `parameters` of a recipe, a slice or a model, checked against a method's table.
#pragma once
#include "kernels/method_info.h"
#include "src/recipe/recipe.h"
#include "src/recipe/reporter.h"
#include "src/recipe/value.h"

namespace amalgam {

/// `at_model`: the parameters stand at a model, where global fields are not looked up.
/// Fields of other methods, and global ones at a model, are left out with a warning.
Parameters read_parameters(const Value* table, const MethodInfo& method, bool at_model, Reporter& reporter);

/// "[0, 1]", "at least 0": the valid range in words.
std::string range_text(const Field& field);

}  // namespace amalgam
