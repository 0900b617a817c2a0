// A recipe in another folder than its own: beside the weights it made, or converted.
#pragma once
#include <functional>
#include <string>

#include "src/base/files.h"
#include "src/recipe/recipe.h"

namespace amalgam {

/// The recipe with every model that is found in the recipe's folder alone, not from the working directory, named by
/// `name_of` its path there: whoever reads the recipe in another folder would not find it. Looks nothing else up.
Recipe with_models_named(Files& files, Recipe recipe,
                         const std::function<std::string(const std::string& path)>& name_of);

/// What makes the same merge when it is read from the same working directory, whatever its folder.
struct RecipeCopy {
    Recipe recipe;
    std::string text;
    bool yaml = false;
};

/// The user's own text, unless overrides or the place of models would make another merge of it. YAML stays YAML unless
/// mergekit's form cannot say what was overridden.
RecipeCopy copy_recipe(Files& files, const Recipe& recipe);

}  // namespace amalgam
