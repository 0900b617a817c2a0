#include "src/recipe/recipe.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/recipe/check_recipe.h"
#include "src/recipe/value.h"

namespace amalgam {
namespace {

bool ends_with_any(std::string_view path, std::initializer_list<std::string_view> endings) {
    for (std::string_view ending : endings)
        if (path.ends_with(ending)) return true;
    return false;
}

struct Parsed {
    Value root;
    bool yaml = false;
};

/// By the ending of the path; without a known one TOML, else YAML, and the reason why it is not TOML if it is neither.
Parsed parse_text(const std::string& text, const std::string& path, const std::string& file) {
    if (ends_with_any(path, {".yaml", ".yml", ".YAML", ".YML"})) return {parse_yaml(text, file), true};
    if (ends_with_any(path, {".toml", ".TOML"})) return {parse_toml(text, file), false};
    try {
        return {parse_toml(text, file), false};
    } catch (const Error& not_toml) {
        try {
            Parsed yaml{parse_yaml(text, file), true};
            if (yaml.root.kind == Value::Kind::table) return yaml;
        } catch (const Error&) {
            // The first reason counts.
        }
        throw Error(not_toml.what());
    }
}

}  // namespace

std::string Recipe::folder() const {
    const size_t slash = path.rfind('/');
    if (slash == path.npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

int Recipe::groups() const {
    int last = -1;
    for (const SourceEntry& entry : models) last = std::max(last, entry.group);
    for (const OutputSlice& slice : slices)
        for (const SourceEntry& entry : slice.sources) last = std::max(last, entry.group);
    return last + 1;
}

Recipe parse_recipe(const std::string& text, const std::string& path, const RecipeOptions& options) {
    const std::string file = path.empty() ? "recipe" : printable(path);
    Parsed parsed = parse_text(text, path, file);
    if (parsed.root.kind == Value::Kind::null) fail("{}: the recipe is empty", file);
    if (parsed.root.kind != Value::Kind::table)
        fail("{}:{}: a recipe is a table of keys like merge_method, not {}", file, parsed.root.line,
             parsed.root.kind_text());
    for (size_t i = 0; i < options.set.size(); ++i) apply_override(parsed.root, options.set[i], -1 - int(i));
    Reporter reporter(file, options);
    Recipe recipe = check_recipe(parsed.root, reporter);
    recipe.path = path;
    recipe.text = text;
    recipe.overrides = options.set;
    recipe.yaml = parsed.yaml;
    return recipe;
}

Recipe read_recipe(Files& files, const std::string& path, const RecipeOptions& options) {
    return parse_recipe(files.read_all(path, max_recipe_bytes), path, options);
}

}  // namespace amalgam
