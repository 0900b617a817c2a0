#include "src/recipe/recipe_copy.h"

#include "src/base/error.h"

namespace amalgam {
namespace {

/// Every name of a model in a recipe.
template <class Body>
void each_reference(Recipe& recipe, const Body& body) {
    for (SourceEntry& entry : recipe.models) body(entry.model);
    for (OutputSlice& slice : recipe.slices) {
        for (SourceEntry& entry : slice.sources) body(entry.model);
        if (slice.base_model) body(*slice.base_model);
    }
    if (recipe.base_model) body(*recipe.base_model);
    if (recipe.tokenizer_source && *recipe.tokenizer_source != "base") body(*recipe.tokenizer_source);
}

void write_as_toml(RecipeCopy& copy) {
    copy.text = recipe_to_toml(copy.recipe);
    copy.yaml = false;
}

}  // namespace

Recipe with_models_named(Files& files, Recipe recipe,
                         const std::function<std::string(const std::string& path)>& name_of) {
    const std::string folder = recipe.folder();
    if (folder == ".") return recipe;
    each_reference(recipe, [&](std::string& reference) {
        if (reference.empty() || reference.front() == '/') return;
        if (files.status(reference).kind != FileKind::missing) return;
        const std::string beside = folder + (folder.ends_with('/') ? "" : "/") + reference;
        if (files.status(beside).kind != FileKind::missing) reference = name_of(beside);
    });
    return recipe;
}

RecipeCopy copy_recipe(Files& files, const Recipe& recipe) {
    bool renamed = false;
    RecipeCopy copy{with_models_named(files, recipe,
                                      [&](const std::string& path) {
                                          renamed = true;
                                          return path;
                                      }),
                    recipe.text, recipe.yaml};
    if (recipe.overrides.empty() && !renamed) return copy;
    if (!recipe.yaml) {
        write_as_toml(copy);
        return copy;
    }
    try {
        copy.text = recipe_to_yaml(copy.recipe);
    } catch (const Error&) {
        write_as_toml(copy);
    }
    return copy;
}

}  // namespace amalgam
