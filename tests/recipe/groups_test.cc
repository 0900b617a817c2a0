// Models that lie on the disks of one group of ranks: `group` in recipes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "src/recipe/check_recipe.h"
#include "tests/recipe/small_models.h"

namespace amalgam {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string error_of(const std::string& text, const std::string& path = "r.toml", const RecipeOptions& options = {}) {
    try {
        parse_recipe(text, path, options);
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

std::vector<int> groups_of(const Merge& merge) {
    std::vector<int> groups;
    for (const MergeModel& model : merge.models) groups.push_back(model.group);
    return groups;
}

std::string ties(const std::string& models) {
    return "merge_method = \"ties\"\nbase_model = \"base\"\nparameters.weight = 1\nmodels = [\n" + models + "]\n";
}

TEST(Groups, AreReadFromBothForms) {
    const Recipe toml =
        parse_recipe(ties("{model = \"base\"},\n{model = \"a\", group = 1},\n{model = \"b\", group = 0},\n"), "r.toml");
    ASSERT_EQ(toml.models.size(), 3u);
    EXPECT_EQ(toml.models[0].group, -1);
    EXPECT_EQ(toml.models[1].group, 1);
    EXPECT_EQ(toml.models[2].group, 0);
    EXPECT_EQ(toml.groups(), 2);
    const Recipe yaml =
        parse_recipe("merge_method: linear\nparameters: {weight: 1}\nmodels:\n  - model: a\n    group: 0\n", "r.yaml");
    EXPECT_EQ(yaml.models[0].group, 0);
    EXPECT_EQ(yaml.groups(), 1);
    EXPECT_EQ(parse_recipe(ties("{model = \"a\"},\n"), "r.toml").groups(), 0);
    RecipeOptions options;
    options.set = {"models.0.group=0"};
    EXPECT_EQ(parse_recipe(ties("{model = \"a\"},\n"), "r.toml", options).models[0].group, 0);
}

TEST(Groups, AreWrittenInToml) {
    const Recipe recipe = parse_recipe(ties("{model = \"a\", group = 1},\n{model = \"b\", group = 0},\n"), "r.toml");
    const Recipe again = parse_recipe(recipe_to_toml(recipe), "r.toml");
    EXPECT_EQ(again.models[0].group, 1);
    EXPECT_EQ(again.models[1].group, 0);
    try {
        recipe_to_yaml(recipe);
        FAIL() << "mergekit knows no groups";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("groups of models cannot be said in mergekit's YAML"));
    }
}

TEST(Groups, AreAllOrNone) {
    EXPECT_EQ(error_of(ties("{model = \"a\", group = 0},\n{model = \"b\"},\n")),
              "r.toml:6: b has no group, a has: give one to every model but the base, or to none");
    EXPECT_THAT(error_of(ties("{model = \"a\"},\n{model = \"./base/\", group = 0},\n")),
                HasSubstr("r.toml:6: group 0 of ./base/: it is the base, which every group reads"));
    EXPECT_THAT(error_of(ties("{model = \"a\", group = 0},\n{model = \"b\", group = 2},\n")),
                HasSubstr("no model is in group 1, but there is a group 2"));
    EXPECT_THAT(error_of(ties("{model = \"a\", group = 1},\n")), HasSubstr("no model is in group 0"));
}

TEST(Groups, AreWholeNumbersBelowTheirLimit) {
    const std::string last = std::to_string(max_groups - 1);
    EXPECT_THAT(error_of(ties("{model = \"a\", group = -1},\n")), HasSubstr("r.toml:5: group: -1 is no group"));
    EXPECT_THAT(error_of(ties("{model = \"a\", group = 4096},\n")), HasSubstr("from 0 to at most " + last));
    EXPECT_THAT(error_of(ties("{model = \"a\", group = 0.5},\n")), HasSubstr("group: must be an integer"));
    EXPECT_THAT(error_of(ties("{model = \"a\", group = \"x\"},\n")), HasSubstr("group: must be an integer"));
    EXPECT_THAT(error_of(ties("{model = \"a\", grup = 0},\n")), HasSubstr("did you mean \"group\"?"));
    std::string models;
    for (int group = 0; group < max_groups; ++group)
        models += fmt::format("{{model = \"m{0}\", group = {0}}},\n", group);
    EXPECT_EQ(parse_recipe(ties(models), "r.toml").groups(), max_groups);
}

TEST(Groups, OfSlices) {
    const std::string slices =
        "merge_method = \"linear\"\nparameters.weight = 1\n[[slices]]\nsources = [{{model = \"a\", layer_range = [0, "
        "1], group = "
        "0}}, {{model = \"b\", layer_range = [0, 1]{}}}]\n";
    EXPECT_EQ(parse_recipe(fmt::format(fmt::runtime(slices), ", group = 1"), "r.toml").groups(), 2);
    EXPECT_THAT(error_of(fmt::format(fmt::runtime(slices), "")), HasSubstr("b has no group, a has"));
}

TEST(Groups, ReachTheMergesModels) {
    SmallModels models;
    for (const char* name : {"base", "a", "b", "c"}) models.add_llama(name);
    const auto merge = [&](const std::string& text) {
        return amalgam::resolve(models.files, parse_recipe(ties(text), "r.toml"), {});
    };
    EXPECT_THAT(
        groups_of(merge("{model = \"b\", group = 1},\n{model = \"a\", group = 0},\n{model = \"c\", group = 1},\n")),
        ElementsAre(1, 0, 1, -1));
    EXPECT_THAT(groups_of(merge("{model = \"base\"},\n{model = \"a\"},\n")), ElementsAre(-1, -1));
    // Two references of one model.
    try {
        merge("{model = \"a\", group = 0},\n{model = \"a\", group = 1},\n");
        FAIL() << "one model in two groups";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(),
                    HasSubstr("r.toml:6: a is the same model as a of line 5, but its group is another one"));
    }
}

TEST(Groups, ABaseByAnotherNameIsFound) {
    SmallModels models;
    for (const char* name : {"folder/base", "folder/a"}) models.add_llama(name);
    try {
        const std::string text =
            "merge_method = \"ties\"\nbase_model = \"base\"\nparameters.weight = 1\nmodels = [\n{model = \"a\", group "
            "= 0},\n{model = "
            "\"folder/base\", group = 0}]\n";
        amalgam::resolve(models.files, parse_recipe(text, "folder/r.toml"), {});
        FAIL() << "the base has a group";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("folder/r.toml:6: folder/base has a group, but it is the base base"));
    }
}

}  // namespace
}  // namespace amalgam
