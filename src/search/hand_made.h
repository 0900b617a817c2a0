// Recipes made by hand, as a search of numbers takes them.
#pragma once
#include "src/recipe/recipe.h"
#include "src/search/search_config.h"

namespace amalgam {

/// The recipe with its models in the order of [merge], which it may call by any ending of their paths. Throws Error for
/// what the search cannot say: other models, another base, other numbers than those searched for, numbers out of bounds.
Recipe hand_made_candidate(const SearchConfig& config, Recipe recipe);

/// What a recipe says of a field: the entries at `model` (nullptr: of the whole merge), those of the recipe, the default;
/// nothing after an entry that fits every tensor.
Parameter whole_parameter(const Field& field, const Recipe& recipe, const SourceEntry* model);

/// Whether choose_models leaves this model of a recipe out: its weight is 0, and no gene of a weight can say so.
bool is_left_out(const SearchConfig& config, const Recipe& recipe, const SourceEntry& model);

}  // namespace amalgam
