// amalgam inspect: what a checkpoint or a recipe holds, and how models relate.
#include "jobs/inspect.h"

#include <algorithm>
#include <thread>

#include "jobs/commands.h"
#include "src/checkpoint/checkpoint.h"

namespace amalgam {
namespace {

constexpr Positional positionals[] = {
    {"PATH", "a .safetensors file, a model folder, a hub name in the local cache, or a recipe (.toml, .yaml, .yml)", 1,
     0},
};
constexpr Option options[] = {
    {"tensors", "", "list every tensor"},
    {"base", "BASE", "measure the task vectors of the models from this base; reads all weights"},
    {"json", "", "as JSON"},
    {"threads", "N", "for --base; never changes the result [one a core]"},
    {"set", "PATH=VALUE", "override the recipe; repeatable", true},
    {"allow-unknown", "", "warn about unknown keys of the recipe instead of failing"},
};
constexpr std::string_view description =
    "One model: its tensors, types, layers, metadata and configuration. A recipe: what a merge would do, with every "
    "number "
    "filled in. Several models: whether they can be merged with each other (exit code 1 if not). With --base: norms, "
    "cosines "
    "and sign conflicts of task vectors, overall and by layer.\n\n"
    "Checkpoints are checked strictly; a malformed one is an error.";
constexpr std::string_view examples =
    "amalgam inspect model/\n"
    "amalgam inspect model/model-00001-of-00004.safetensors --tensors\n"
    "amalgam inspect ties.yaml --tensors\n"
    "amalgam inspect base/ math/ code/\n"
    "amalgam inspect --base base/ math/ code/";

bool is_recipe(const std::string& path) {
    return path.ends_with(".toml") || path.ends_with(".yaml") || path.ends_with(".yml");
}

int run(const Arguments& arguments) {
    const std::vector<std::string>& paths = arguments.positionals;
    InspectOptions wanted;
    wanted.tensors = arguments.has("tensors");
    wanted.json = arguments.has("json");
    wanted.threads = int(arguments.integer("threads", std::max(1u, std::thread::hardware_concurrency()), 1, 4096));
    wanted.set = arguments.texts("set");
    wanted.allow_unknown = arguments.has("allow-unknown");
    const bool any_recipe = std::any_of(paths.begin(), paths.end(), is_recipe);
    if (any_recipe && (paths.size() > 1 || arguments.has("base"))) throw UsageError("a recipe is inspected alone");
    if (!any_recipe && (!wanted.set.empty() || wanted.allow_unknown))
        throw UsageError("--set and --allow-unknown are for recipes");
    const auto files = disk_files();
    if (any_recipe) return show_recipe(*files, paths[0], wanted);
    if (arguments.has("base")) return show_vectors(*files, arguments.text("base"), paths, wanted);
    if (paths.size() > 1) return show_fit(*files, paths, wanted);
    return show_checkpoint(*files, paths[0], wanted);
}

}  // namespace

std::string find_model(Files& files, const std::string& reference) { return locate_model(files, reference, "."); }

const Command inspect_command = {"inspect",   "Show what a checkpoint or recipe holds, or how models relate",
                                 description, positionals,
                                 options,     examples,
                                 false,       run};

}  // namespace amalgam
