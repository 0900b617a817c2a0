// amalgam convert-recipe: TOML from YAML and back.
#include <filesystem>
#include <fstream>

#include "jobs/commands.h"
#include "src/base/log.h"
#include "src/recipe/recipe.h"
#include "src/recipe/recipe_copy.h"

namespace amalgam {
namespace {

constexpr Positional positionals[] = {
    {"IN", "recipe to read: TOML, or mergekit's YAML (.yaml, .yml)"},
    {"OUT", "recipe to write: .toml, .yaml or .yml; - writes the other form to standard output"},
};
constexpr Option options[] = {
    {"set", "PATH=VALUE", "override the recipe first; repeatable", true},
    {"allow-unknown", "", "leave unknown keys out with a warning instead of failing"},
    {"force", "", "replace OUT if it is there"},
};
constexpr std::string_view description =
    "The recipe is checked as a merge would check it, but the models need not be there. What mergekit's YAML cannot "
    "say "
    "(compat = \"paper\", a seed) is an error. Models that are found in the recipe's folder alone are named by their "
    "path "
    "from that of OUT.";
constexpr std::string_view examples =
    "amalgam convert-recipe ties.yaml ties.toml\n"
    "amalgam convert-recipe ties.toml - > ties.yaml";

bool is_yaml(std::string_view path) { return path.ends_with(".yaml") || path.ends_with(".yml"); }

void write_file(const std::string& path, const std::string& text) {
    std::ofstream file(path, std::ios::binary);
    file << text;
    file.close();
    check(bool(file), "{}: cannot be written: {}", printable(path), errno_text(errno));
}

/// Models named so that the recipe in file `out` finds them, from whatever working directory it is read.
Recipe moved(Files& files, const Recipe& recipe, const std::string& out) {
    namespace fs = std::filesystem;
    if (out == "-") return with_models_named(files, recipe, [](const std::string& path) { return path; });
    std::error_code error;
    const fs::path from = fs::weakly_canonical(recipe.folder(), error);
    const fs::path to =
        fs::weakly_canonical(fs::path(out).has_parent_path() ? fs::path(out).parent_path() : ".", error);
    if (error || from == to) return recipe;
    // The name of the model itself may be a link, which is to stay what it is.
    return with_models_named(files, recipe, [&](const std::string& path) {
        const fs::path beside = fs::path(path).lexically_relative(recipe.folder());
        return (from / beside).lexically_normal().lexically_relative(to).string();
    });
}

int run(const Arguments& arguments) {
    const std::string &in = arguments.positionals[0], &out = arguments.positionals[1];
    if (out != "-" && !is_yaml(out) && !out.ends_with(".toml"))
        throw UsageError(fmt::format("{}: the form is known by its end: .toml, .yaml or .yml", printable(out)));
    const auto files = disk_files();
    const Recipe recipe =
        moved(*files, read_recipe(*files, in, {arguments.texts("set"), arguments.has("allow-unknown")}), out);
    for (const std::string& warning : recipe.warnings) log_warning("{}", warning);
    const std::string text =
        (out == "-" ? !recipe.yaml : is_yaml(out)) ? recipe_to_yaml(recipe) : recipe_to_toml(recipe);
    if (out == "-") {
        print_out(text);
        return 0;
    }
    check(arguments.has("force") || files->status(out).kind == FileKind::missing,
          "{}: is there already; --force replaces it", printable(out));
    write_file(out, text);
    return 0;
}

}  // namespace

const Command convert_recipe_command = {"convert-recipe",
                                        "Convert a recipe between TOML and mergekit's YAML",
                                        description,
                                        positionals,
                                        options,
                                        examples,
                                        false,
                                        run};

}  // namespace amalgam
