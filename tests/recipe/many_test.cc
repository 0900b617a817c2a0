// Many tensors and many models: resolving must stay linear. The limits are loose, a quadratic step misses them by far.
#include <gtest/gtest.h>

#include <ctime>
#include <iostream>

#include "tests/recipe/small_models.h"

namespace amalgam {
namespace {

double seconds_to_resolve(SmallModels& models, const Recipe& recipe, size_t tasks) {
    const std::clock_t start = std::clock();
    const Merge merge = resolve(models.files, recipe);
    const double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;
    EXPECT_EQ(merge.tasks.size(), tasks);
    std::cout << recipe.models.size() + recipe.slices.size() << " entries, " << tasks << " tensors: " << seconds
              << " s\n";
    return seconds;
}

TEST(Many, TwoModelsOf9218Tensors) {
    SmallModels models;
    models.add_llama("a", {.layers = 3072});
    models.add_llama("b", {.layers = 3072, .tied = true});
    const Recipe recipe = parse_recipe(
        "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: [0.1, 1]}\n", "r.yaml");
    EXPECT_LT(seconds_to_resolve(models, recipe, 9219), 5);
    const Recipe sliced = parse_recipe(
        "merge_method: linear\nslices: [{sources: [{model: a}, {model: b}]}, {sources: [{model: b}, {model: a}]}]\n"
        "parameters: {weight: [0.1, 1]}\n",
        "r.yaml");
    EXPECT_LT(seconds_to_resolve(models, sliced, 2 * 9216 + 3), 5);
}

TEST(Many, ModelsOf723Tensors) {
    SmallModels models;
    std::string list;
    for (int i = 0; i < 256; ++i) {
        models.add_llama(fmt::format("m{}", i), {.layers = 240});
        list += fmt::format(
            "  - model: m{}\n    parameters: {{weight: [{{filter: mlp, value: [0, 1]}}, {{value: 0.5}}], density: "
            "0.5}}\n",
            i);
    }
    const Recipe recipe = parse_recipe("merge_method: ties\nbase_model: m0\nmodels:\n" + list, "r.yaml");
    EXPECT_LT(seconds_to_resolve(models, recipe, 723), 20);
}

}  // namespace
}  // namespace amalgam
