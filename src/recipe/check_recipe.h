// From the tree of values to a Recipe: every key and value is checked here, for both forms alike.
#pragma once
#include "src/recipe/recipe.h"
#include "src/recipe/reporter.h"
#include "src/recipe/value.h"

namespace amalgam {

/// `root` is a table. Leaves path, text and yaml to the caller.
Recipe check_recipe(const Value& root, Reporter& reporter);

/// Random masks address a model by 15 bits (design 3).
constexpr int max_entries = 1 << 15;
constexpr int64_t max_layers = 1'000'000;
/// Groups of ranks with models on their own disks.
constexpr int max_groups = 4096;

}  // namespace amalgam
