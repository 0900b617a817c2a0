// --set path=value: applied before checking, so that values and errors are those of the file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/recipe/recipe.h"

namespace amalgam {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string text = R"(merge_method = "ties"
base_model = "base"
[[models]]
model = "a"
parameters = { weight = 1.0 }
[[models]]
model = "b"
parameters = { weight = [{ filter = "mlp", value = 0.5 }, { value = 1 }] }
)";

Recipe with(const std::vector<std::string>& set) {
    return parse_recipe(text, "r.toml", {.set = set, .allow_unknown = false});
}

std::string error_of(const std::string& override_text) {
    try {
        with({override_text});
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

TEST(Override, SetsValuesOfEveryKind) {
    const Recipe recipe = with({"parameters.lambda=0.7", "models.0.parameters.weight=[0, 1]", "compat=paper",
                                "dtype=bfloat16", "out_dtype=\"float16\"", "models.1.model=../x y",
                                "parameters.normalize=false", "seed=5", "models.1.parameters.weight.0.value=0.25"});
    EXPECT_EQ(recipe.parameters.at("lambda").entries[0].gradient[0], 0.7);
    EXPECT_EQ(recipe.parameters.at("lambda").line, 0);
    EXPECT_THAT(recipe.models[0].parameters.at("weight").entries[0].gradient, ElementsAre(0, 1));
    EXPECT_EQ(recipe.compat, Compat::paper);
    EXPECT_EQ(recipe.dtype, Dtype::bf16);
    EXPECT_EQ(recipe.out_dtype, Dtype::f16);
    EXPECT_EQ(recipe.models[1].model, "../x y");
    EXPECT_EQ(recipe.parameters.at("normalize").entries[0].gradient[0], 0);
    EXPECT_EQ(recipe.seed, 5u);
    EXPECT_EQ(recipe.models[1].parameters.at("weight").entries[0].gradient[0], 0.25);
    EXPECT_EQ(recipe.text, text);
}

TEST(Override, TheLastOneWins) { EXPECT_EQ(with({"seed=5", "seed=18446744073709551615"}).seed, 18446744073709551615u); }

TEST(Override, NumbersMayStandForNames) {
    EXPECT_EQ(with({"models.0.model=7"}).models[0].model, "7");
    EXPECT_EQ(with({"models.0.model=1e5"}).models[0].model, "1e5");
}

TEST(Override, IntoYaml) {
    const Recipe recipe =
        parse_recipe("merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}]\nparameters:\n", "r.yaml",
                     {.set = {"parameters.t=[{filter=\"mlp\", value=[0, 1]}, {value=0.5}]"}, .allow_unknown = false});
    EXPECT_EQ(recipe.parameters.at("t").entries[0].filter, "mlp");
    const Recipe sliced =
        parse_recipe("merge_method: passthrough\nslices:\n - sources: [{model: a, layer_range: [0, 1]}]\n", "r.yaml",
                     {.set = {"slices.0.sources.0.layer_range=[2,5]"}, .allow_unknown = false});
    EXPECT_EQ(sliced.slices[0].sources[0].layer_range, std::pair(int64_t(2), int64_t(5)));
}

TEST(Override, ErrorsNameTheOverride) {
    EXPECT_EQ(error_of("parameters.density=7"), "density=7 in --set parameters.density=7 (must be in [0, 1])");
    EXPECT_EQ(error_of("paramters.lambda=7"),
              "--set paramters.lambda=7: unknown key \"paramters\" (did you mean \"parameters\"?)");
    EXPECT_EQ(error_of("parameters.lamda=7"),
              "--set parameters.lamda=7: unknown key \"lamda\" (did you mean \"lambda\"?)");
    EXPECT_THAT(error_of("merge_method=tis"),
                HasSubstr("--set merge_method=tis: unknown merge_method \"tis\" (did you mean \"ties\"?)"));
    EXPECT_THAT(error_of("models.2.model=x"),
                HasSubstr("--set models.2.model=x: \"2\" is no entry of models, a list of 2"));
    EXPECT_THAT(error_of("models.x.model=x"), HasSubstr("\"x\" is no entry of models"));
    EXPECT_THAT(error_of("model.0.parameters.weight=1"),
                HasSubstr("the recipe has no list \"model\" (did you mean \"models\"?)"));
    EXPECT_THAT(error_of("base_model.x=1"),
                HasSubstr("--set base_model.x=1: base_model is a string: nothing is below it"));
    EXPECT_THAT(error_of("lambda"), HasSubstr("must be path=value"));
    EXPECT_THAT(error_of("=1"), HasSubstr("must be path=value"));
    EXPECT_THAT(error_of("a..b=1"), HasSubstr("the path has an empty part"));
    EXPECT_THAT(error_of(std::string(10000, '.') + "=1"), HasSubstr("a path of more than"));
    EXPECT_THAT(error_of("parameters.lambda="), HasSubstr("lambda: must be a number"));
    EXPECT_THAT(error_of("parameters.lambda=" + std::string(5000, '[')), HasSubstr("nested more than"));
}

}  // namespace
}  // namespace amalgam
