// Any bytes as a recipe of either form: Error, or a recipe that is the same when written and read again.
#include <cstdlib>

#include "src/base/error.h"
#include "src/recipe/recipe.h"

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

void parse(const std::string& text, const std::string& path, const amalgam::RecipeOptions& options) {
    amalgam::Recipe recipe;
    try {
        recipe = amalgam::parse_recipe(text, path, options);
    } catch (const amalgam::Error& error) {
        require(!std::string(error.what()).empty());
        return;
    }
    // What YAML takes as bytes need not be text that TOML allows.
    const std::string written = amalgam::recipe_to_toml(recipe);
    try {
        require(amalgam::recipe_to_toml(amalgam::parse_recipe(written, "r.toml")) == written);
    } catch (const amalgam::Error& error) {
        require(std::string(error.what()).find("not valid TOML") != std::string::npos);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
    const std::string text(reinterpret_cast<const char*>(bytes), size);
    amalgam::RecipeOptions options;
    options.allow_unknown = size % 2 == 1;
    if (size % 8 == 7) options.set = {text.substr(0, 20), "models.0.parameters.weight=" + text.substr(size / 2, 20)};
    parse(text, "r.yaml", options);
    parse(text, "r.toml", options);
    return 0;
}
