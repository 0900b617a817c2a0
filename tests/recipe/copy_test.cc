// What a recipe says once it lies in another folder.
#include <gtest/gtest.h>

#include "src/recipe/recipe_copy.h"
#include "tests/base/memory_files.h"

namespace amalgam {
namespace {

constexpr const char* text = R"(# a remark
merge_method: task_arithmetic
base_model: base
tokenizer_source: org/name
models:
  - model: base
  - model: near
    parameters: {weight: 0.5}
  - model: /far
    parameters: {weight: 0.25}
)";

struct Copying : testing::Test {
    MemoryFiles files;

    void SetUp() override {
        for (const char* model : {"recipes/base", "recipes/near", "near", "/far"})
            files.contents[std::string(model) + "/config.json"] = "{}";
    }
    RecipeCopy copy(const std::string& path, const std::vector<std::string>& set = {}) {
        return copy_recipe(files, parse_recipe(text, path, {set, false}));
    }
};

TEST_F(Copying, TheUsersTextIsKept) {
    files.contents["base/config.json"] = "{}";
    for (const char* path : {"r.yaml", "recipes/r.yaml", "/elsewhere/r.yaml"}) {
        EXPECT_EQ(copy(path).text, text);
        EXPECT_TRUE(copy(path).yaml);
    }
}

TEST_F(Copying, WhatLiesBesideTheRecipeIsNamedByItsPath) {
    const RecipeCopy there = copy("recipes/r.yaml");
    EXPECT_EQ(there.recipe.base_model, "recipes/base");
    EXPECT_EQ(there.recipe.models[0].model, "recipes/base");
    EXPECT_EQ(there.recipe.models[1].model, "near");  // the working directory comes first
    EXPECT_EQ(there.recipe.models[2].model, "/far");
    EXPECT_EQ(there.recipe.tokenizer_source, "org/name");  // not found at all: perhaps a name of the hub
    EXPECT_TRUE(there.yaml);
    EXPECT_EQ(recipe_to_toml(parse_recipe(there.text, "out/r.yaml")), recipe_to_toml(there.recipe));
}

TEST_F(Copying, OverridesAreInTheText) {
    const RecipeCopy there = copy("r.yaml", {"models.1.parameters.weight=2"});
    EXPECT_TRUE(there.yaml);
    EXPECT_EQ(parse_recipe(there.text, "r.yaml").models[1].parameters.at("weight").entries[0].gradient,
              std::vector<double>{2});
}

TEST_F(Copying, WhatYamlCannotSayIsToml) {
    const RecipeCopy there = copy("r.yaml", {"seed=7"});
    EXPECT_FALSE(there.yaml);
    EXPECT_EQ(parse_recipe(there.text, "r.toml").seed, 7u);
}

}  // namespace
}  // namespace amalgam
