// What each recipe text gives: values as meant, or an error or warning with its place and reason.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/recipe/recipe.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string error_of(const std::string& text, const std::string& path, const RecipeOptions& options = {}) {
    try {
        parse_recipe(text, path, options);
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

Recipe yaml(const std::string& text, const RecipeOptions& options = {}) {
    return parse_recipe(text, "r.yaml", options);
}
Recipe toml(const std::string& text, const RecipeOptions& options = {}) {
    return parse_recipe(text, "r.toml", options);
}

const std::string ties_yaml = R"(merge_method: ties
base_model: models/base
models:
  - model: models/base
  - model: models/a
    parameters:
      weight: 0.5
      density: [0, 0.5, 1]
  - model: models/b
    parameters:
      weight:
        - filter: mlp
          value: [0.1, 0.9]
        - filter: "*"
          value: "0.25"
parameters:
  normalize: false
  lambda: 1e-1
dtype: float32
out_dtype: torch.bfloat16
tokenizer_source: base
)";

const std::string ties_toml = R"(merge_method = "ties"
base_model = "models/base"
dtype = "float32"
out_dtype = "bfloat16"
tokenizer_source = "base"
compat = "paper"
seed = 7

[parameters]
normalize = false
lambda = 0.1

[[models]]
model = "models/base"

[[models]]
model = "models/a"
parameters = { weight = 0.5, density = [0, 0.5, 1] }

[[models]]
model = "models/b"
[models.parameters]
weight = [{ filter = "mlp", value = [0.1, 0.9] }, { value = 0.25 }]
)";

void expect_ties(const Recipe& recipe) {
    EXPECT_EQ(recipe.method, "ties");
    EXPECT_EQ(recipe.base_model, "models/base");
    EXPECT_EQ(recipe.dtype, Dtype::f32);
    EXPECT_EQ(recipe.out_dtype, Dtype::bf16);
    EXPECT_EQ(recipe.tokenizer_source, "base");
    ASSERT_EQ(recipe.models.size(), 3u);
    EXPECT_EQ(recipe.models[1].model, "models/a");
    EXPECT_THAT(recipe.models[1].parameters.at("weight").entries[0].gradient, ElementsAre(0.5));
    EXPECT_THAT(recipe.models[1].parameters.at("density").entries[0].gradient, ElementsAre(0, 0.5, 1));
    const Parameter& weight = recipe.models[2].parameters.at("weight");
    ASSERT_EQ(weight.entries.size(), 2u);
    EXPECT_EQ(weight.entries[0].filter, "mlp");
    EXPECT_THAT(weight.entries[0].gradient, ElementsAre(0.1, 0.9));
    EXPECT_EQ(weight.entries[1].filter, "");
    EXPECT_THAT(weight.entries[1].gradient, ElementsAre(0.25));
    EXPECT_THAT(recipe.parameters.at("normalize").entries[0].gradient, ElementsAre(0));
    EXPECT_THAT(recipe.parameters.at("lambda").entries[0].gradient, ElementsAre(0.1));
    EXPECT_THAT(recipe.warnings, IsEmpty());
}

TEST(Parse, ReadsYaml) {
    const Recipe recipe = yaml(ties_yaml);
    expect_ties(recipe);
    EXPECT_TRUE(recipe.yaml);
    EXPECT_EQ(recipe.text, ties_yaml);
    EXPECT_EQ(recipe.compat, Compat::mergekit);
    EXPECT_EQ(recipe.models[1].line, 5);
    EXPECT_EQ(recipe.models[1].parameters.at("density").line, 8);
}

TEST(Parse, ReadsToml) {
    const Recipe recipe = toml(ties_toml);
    expect_ties(recipe);
    EXPECT_FALSE(recipe.yaml);
    EXPECT_EQ(recipe.compat, Compat::paper);
    EXPECT_EQ(recipe.seed, 7u);
    EXPECT_EQ(recipe.models[1].line, 16);
    EXPECT_EQ(recipe.models[1].parameters.at("density").line, 18);
}

TEST(Parse, RecognisesTheFormOfOtherNames) {
    EXPECT_TRUE(parse_recipe(ties_yaml, "").yaml);
    EXPECT_FALSE(parse_recipe(ties_toml, "recipe.txt").yaml);
    EXPECT_THAT(error_of("merge_method = ties", "recipe.txt"), HasSubstr("recipe.txt:1: not valid TOML"));
}

TEST(Parse, ReadsSlicesAndReferences) {
    const Recipe recipe = yaml(R"(
merge_method: passthrough
slices:
  - sources:
      - model: {model: {path: org/name, revision: main}}
        layer_range: [0, 8]
        parameters: {scale: 0.5}
    parameters: {scale: 2}
  - sources: [{model: b, layer_range: [4, 9]}]
)");
    ASSERT_EQ(recipe.slices.size(), 2u);
    EXPECT_EQ(recipe.slices[0].sources[0].model, "org/name@main");
    EXPECT_EQ(recipe.slices[0].sources[0].layer_range, std::pair(int64_t(0), int64_t(8)));
    EXPECT_THAT(recipe.slices[0].parameters.at("scale").entries[0].gradient, ElementsAre(2));
    EXPECT_EQ(recipe.slices[1].sources[0].layer_range, std::pair(int64_t(4), int64_t(9)));
}

TEST(Parse, ReadsScalarsAsMergekitDoes) {
    const Recipe recipe = yaml(R"(
merge_method: linear
models:
  - {model: a, parameters: {weight: true}}
  - {model: 12, parameters: {weight: '1e-3'}}
  - {model: no, parameters: {weight: {value: -.5, filter: mlp}}}
parameters:
  weight: +3
  normalize: 1
chat_template: auto
)");
    EXPECT_EQ(recipe.models[0].parameters.at("weight").entries[0].gradient[0], 1);
    EXPECT_EQ(recipe.models[1].model, "12");
    EXPECT_EQ(recipe.models[1].parameters.at("weight").entries[0].gradient[0], 1e-3);
    EXPECT_EQ(recipe.models[2].model, "no");
    EXPECT_EQ(recipe.models[2].parameters.at("weight").entries[0].gradient[0], -.5);
    EXPECT_EQ(recipe.models[2].parameters.at("weight").entries[0].filter, "mlp");
    EXPECT_EQ(recipe.parameters.at("weight").entries[0].gradient[0], 3);
    EXPECT_EQ(recipe.parameters.at("normalize").entries[0].gradient[0], 1);
}

TEST(Parse, ReadsAnchorsAndMergeKeys) {
    const Recipe recipe = yaml(R"(
merge_method: ties
base_model: base
models:
  - model: a
    parameters: &same {weight: 0.5, density: 0.3}
  - model: b
    parameters: *same
  - model: c
    parameters: {<<: *same, density: 0.7}
)");
    EXPECT_EQ(recipe.models[1].parameters.at("density").entries[0].gradient[0], 0.3);
    EXPECT_EQ(recipe.models[2].parameters.at("weight").entries[0].gradient[0], 0.5);
    EXPECT_EQ(recipe.models[2].parameters.at("density").entries[0].gradient[0], 0.7);
}

TEST(Parse, TakesAnySeed) {
    const std::string rest = "merge_method = 'linear'\nmodels = [{model = 'a', parameters = {weight = 1}}]\nseed = ";
    EXPECT_EQ(toml(rest + "9223372036854775807").seed, 9223372036854775807u);
    EXPECT_EQ(toml(rest + "'18446744073709551615'").seed, 18446744073709551615u);
    for (const char* bad : {"-1", "1.5", "'18446744073709551616'", "'x'", "''", "'-1'", "true"})
        EXPECT_THAT(error_of(rest + bad, "r.toml"), HasSubstr("r.toml:3: seed: must be an integer")) << bad;
    EXPECT_EQ(
        yaml("merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\nseed: 18446744073709551615").seed,
        18446744073709551615u);
}

TEST(Parse, FolderOfTheFile) {
    Recipe recipe;
    EXPECT_EQ(recipe.folder(), ".");
    recipe.path = "r.toml";
    EXPECT_EQ(recipe.folder(), ".");
    recipe.path = "/r.toml";
    EXPECT_EQ(recipe.folder(), "/");
    recipe.path = "a/b/r.toml";
    EXPECT_EQ(recipe.folder(), "a/b");
}

// ---- errors: (what is inserted into a good recipe, what the message says)

struct Case {
    const char* text;
    const char* message;
};

/// Prints the text of a case in the name of a failure.
void expect_errors(const std::vector<Case>& cases, const std::string& path) {
    for (const Case& each : cases) EXPECT_THAT(error_of(each.text, path), HasSubstr(each.message)) << each.text;
}

TEST(ParseErrors, InYaml) {
    expect_errors(
        {
            {"", "r.yaml:1: the recipe is empty"},
            {"# nothing\n", "r.yaml"},
            {"- a\n- b\n", "r.yaml:1: a recipe is a table of keys like merge_method, not a list"},
            {"a: [1, 2", "r.yaml:1: not valid YAML"},
            {"a: 1\n---\nb: 2\n", "several documents"},
            {"a: 1\na: 2\n", "r.yaml:2: key \"a\" is given twice"},
            {"? [a, b]\n: 1\n", "as a key"},
            {"merge_methd: ties\n", "r.yaml:1: unknown key \"merge_methd\" (did you mean \"merge_method\"?)"},
            {"merge_method: tise\nmodels: [{model: a}]\n",
             "r.yaml:1: unknown merge_method \"tise\" (did you mean \"ties\"?)"},
            {"merge_method: zzz\n", "(valid: linear, slerp"},
            {"dtype: float32\n", "r.yaml:1: merge_method is missing (valid: linear"},
            {"merge_method: linear\n", "neither models nor slices"},
            {"merge_method: linear\nmodels: [{model: a}]\nslices: [{sources: [{model: a}]}]\n",
             "r.yaml:3: both models (line 2) and slices"},
            {"merge_method: linear\nmodels: []\n", "r.yaml:2: models: an empty list"},
            {"merge_method: linear\nmodels: a\n", "r.yaml:2: models: must be a list, not a string"},
            {"merge_method: linear\nmodels: [a]\n",
             "r.yaml:2: models: an entry must be a table like {model = \"path\"}, not a string"},
            {"merge_method: linear\nmodels:\n  - parameters: {weight: 1}\n",
             "r.yaml:3: models: an entry without a model"},
            {"merge_method: linear\nmodels:\n  - model: ''\n", "r.yaml:3: model: is empty"},
            {"merge_method: linear\nmodels:\n  - model: [a]\n", "r.yaml:3: model: must be a string, not a list"},
            {"merge_method: linear\nmodels:\n  - model: {model: a, lora: b}\n",
             "r.yaml:3: lora: adapters are not supported yet"},
            {"merge_method: linear\nmodels:\n  - model: a\n    layer_range: [0, 1]\n",
             "r.yaml:4: layer_range: models take part with all"},
            {"merge_method: linear\nmodels:\n  - model: a\n    weight: 1\n",
             "r.yaml:4: unknown key \"weight\" (did you mean \"parameters.weight\"?)"},
            {"merge_method: linear\nnormalize: true\nmodels: [{model: a, parameters: {weight: 1}}]\n",
             "r.yaml:2: unknown key \"normalize\" (did you mean \"parameters.normalize\"?)"},
            {"modules: {text: {models: []}}\nmerge_method: linear\n", "r.yaml:1: modules: not supported"},
            {"chat_template: chatml\nmerge_method: linear\n", "r.yaml:1: chat_template: not supported"},
            {"merge_method: linear\ntokenizer_source: union\nmodels: [{model: a, parameters: {weight: 1}}]\n",
             "r.yaml:2: tokenizer_source: union comes later"},
            {"merge_method: linear\ntokenizer: {source: union}\nmodels: [{model: a, parameters: {weight: 1}}]\n",
             "tokenizer.source: union comes later"},
            {"merge_method: linear\ntokenizer: {tokens: {x: {source: a}}}\nmodels: [{model: a, parameters: {weight: "
             "1}}]\n",
             "tokenizer.tokens: not supported"},
            {"merge_method: linear\ntokenizer_source: base\nmodels: [{model: a, parameters: {weight: 1}}]\n",
             "r.yaml:2: tokenizer_source: base, but the recipe has no base_model"},
            {"merge_method: linear\ndtype: bf16\nmodels: [{model: a}]\n",
             "r.yaml:2: dtype: \"bf16\" is no dtype to write (valid: float8_e5m2, float8_e4m3fn, float16, bfloat16, "
             "float32, float64)"},
            {"merge_method: linear\nout_dtype: int64\nmodels: [{model: a}]\n",
             "r.yaml:2: out_dtype: \"int64\" is no dtype to write"},
            {"merge_method: linear\ncompat: papr\nmodels: [{model: a}]\n",
             "r.yaml:2: compat: must be \"mergekit\" or \"paper\""},
        },
        "r.yaml");
}

TEST(ParseErrors, OfParameters) {
    const auto with = [](const std::string& parameters) {
        return error_of(
            "merge_method: ties\nbase_model: base\nmodels:\n  - model: a\n    parameters:\n      weight: 1\n      " +
                parameters + "\n",
            "ties.yaml");
    };
    EXPECT_EQ(with("density: 1.5"), "density=1.5 in ties.yaml:7 (must be in [0, 1])");
    EXPECT_EQ(with("density: [0.5, -0.1]"), "density=-0.1 in ties.yaml:7 (must be in [0, 1])");
    EXPECT_EQ(with("density: .nan"), "density=.nan in ties.yaml:7 (must be a finite number)");
    EXPECT_EQ(with("density: 1e999"), "density=1e999 in ties.yaml:7 (must be a finite number)");
    EXPECT_EQ(with("density: inf"), "density=inf in ties.yaml:7 (must be a finite number)");
    EXPECT_EQ(with("weigth: 1"), "ties.yaml:7: unknown key \"weigth\" (did you mean \"weight\"?)");
    EXPECT_THAT(with("density: high"), HasSubstr("ties.yaml:7: density: must be a number, a list of numbers"));
    EXPECT_THAT(with("density:"), HasSubstr("ties.yaml:7: density: must be a number"));
    EXPECT_THAT(with("density: []"), HasSubstr("ties.yaml:7: density: an empty list"));
    EXPECT_THAT(with("density: [[1]]"), HasSubstr("ties.yaml:7: density: must be a number"));
    EXPECT_THAT(with("density: [{filter: a}]"),
                HasSubstr("ties.yaml:7: density: an entry of a filter list needs a value"));
    EXPECT_THAT(with("density: [{filtr: a, value: 1}]"), HasSubstr("unknown key \"filtr\" (did you mean \"filter\"?)"));
    EXPECT_THAT(with("density: [{filter: a, value: 1}, 2]"), HasSubstr("a list mixes"));
    EXPECT_THAT(with("density: 1--2"), HasSubstr("must be a number"));
}

TEST(ParseErrors, OfBooleansAndIntegers) {
    const auto with = [](const std::string& method, const std::string& parameter) {
        return error_of(
            "merge_method = '" + method +
                "'\nbase_model = 'base'\nmodels = [{model = 'a', parameters = {}}, {model = 'b'}]\n[parameters]\n" +
                parameter + "\n",
            "r.toml");
    };
    EXPECT_EQ(with("karcher", "max_iter = 2.5"), "max_iter=2.5 in r.toml:5 (must be an integer)");
    EXPECT_EQ(with("karcher", "max_iter = 0"), "max_iter=0 in r.toml:5 (must be in [1, 10000])");
    EXPECT_THAT(with("karcher", "max_iter = [1, 5]"), HasSubstr("r.toml:5: max_iter: a list of numbers is a gradient"));
    EXPECT_THAT(with("karcher", "max_iter = '3'"), HasSubstr("r.toml:5: max_iter: must be a number"));
    EXPECT_EQ(with("karcher", "max_iter = 3.0"), "no error");
    EXPECT_EQ(with("karcher", "max_iter = nan"), "max_iter=nan in r.toml:5 (must be a finite number)");
    EXPECT_EQ(with("model_stock", "filter_wise = 2"), "filter_wise=2 in r.toml:5 (must be true or false)");
    EXPECT_EQ(with("model_stock", "filter_wise = 1"), "no error");
    EXPECT_THAT(with("model_stock", "filter_wise = 'yes'"), HasSubstr("filter_wise: must be true or false"));
    EXPECT_THAT(with("karcher", "tol = true"), HasSubstr("r.toml:5: tol: must be a number"));
    EXPECT_THAT(with("karcher", "tol = 1979-05-27"),
                HasSubstr("tol: must be a number, a list of numbers or a list of {filter, value}, not a date"));
    EXPECT_EQ(with("ram", "epsilon = -1"), "epsilon=-1 in r.toml:5 (must be at least 0)");
}

TEST(ParseErrors, OfMissingParameters) {
    EXPECT_EQ(
        error_of("merge_method: linear\nmodels:\n  - model: a\n    parameters: {weight: 1}\n  - model: b\n", "r.yaml"),
        "r.yaml:5: parameter weight of b is missing: linear needs it for every model (factor of this model (task "
        "vector, if there is "
        "a base); may be negative)");
    EXPECT_THAT(error_of("merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}]\n", "r.yaml"),
                HasSubstr("r.yaml:3: parameter t is missing: slerp needs it under parameters"));
    // At a model the parameter of the whole does not count.
    EXPECT_THAT(error_of("merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b, parameters: {t: 0.5}}]\n",
                         "r.yaml"),
                AllOf(HasSubstr("parameter t is missing"),
                      HasSubstr("; in r.yaml:3 it stands at a model: move it to the parameters of the recipe")));
    // The base needs no weight; given for all is enough; so is a slice's.
    EXPECT_EQ(error_of("merge_method: ties\nbase_model: a\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}",
                       "r.yaml"),
              "no error");
    EXPECT_EQ(
        error_of(
            "merge_method: linear\nslices: [{sources: [{model: b, layer_range: [0, 1]}], parameters: {weight: 1}}]",
            "r.yaml"),
        "no error");
}

TEST(ParseErrors, OfModelCounts) {
    const auto with = [](const std::string& method, const std::string& base, int models) {
        std::string text = "merge_method: " + method + "\n";
        if (!base.empty()) text += "base_model: " + base + "\n";
        text += "models:\n";
        for (int i = 0; i < models; ++i) text += std::string("  - model: ") + char('a' + i) + "\n";
        return error_of(text + "parameters: {weight: 1, t: 0.5}\n", "r.yaml");
    };
    EXPECT_THAT(with("ties", "", 1), HasSubstr("r.yaml:3: ties needs a base_model"));
    EXPECT_THAT(with("slerp", "", 2), HasSubstr("r.yaml:3: slerp needs a base_model"));
    EXPECT_THAT(with("ties", "a", 1),
                HasSubstr("r.yaml:4: ties needs at least 1 model besides the base, models has none"));
    EXPECT_EQ(with("ties", "a", 2), "no error");
    EXPECT_EQ(with("ties", "z", 1), "no error");
    EXPECT_EQ(with("slerp", "a", 2), "no error");
    EXPECT_EQ(with("slerp", "./b/", 2), "no error");
    EXPECT_EQ(with("slerp", "z", 1), "no error");
    EXPECT_THAT(with("slerp", "z", 2), HasSubstr("slerp takes 1 model besides the base, models has 2"));
    EXPECT_THAT(
        with("slerp", "a", 1),
        HasSubstr("slerp needs exactly 1 model besides the base, models has none: the base itself does not count"));
    EXPECT_THAT(with("model_stock", "a", 2),
                HasSubstr("model_stock needs at least 2 models besides the base, models has 1"));
    EXPECT_EQ(with("nuslerp", "", 2), "no error");
    EXPECT_EQ(with("nuslerp", "c", 3), "no error");
    EXPECT_EQ(with("nuslerp", "z", 2), "no error");
    EXPECT_THAT(with("nuslerp", "a", 2), HasSubstr("nuslerp needs exactly 2 models besides the base, models has 1"));
    EXPECT_THAT(with("nuslerp", "", 3), HasSubstr("nuslerp takes 2 models, models has 3"));
    EXPECT_THAT(with("passthrough", "", 2),
                HasSubstr("passthrough takes 1 model, models has 2: for stacking, make each a slice"));
    EXPECT_EQ(with("karcher", "z", 1), "no error");
}

TEST(ParseErrors, OfSlices) {
    const auto with = [](const std::string& slice) {
        return error_of("merge_method: passthrough\nslices:\n  - " + slice + "\n", "r.yaml");
    };
    EXPECT_THAT(with("a"), HasSubstr("r.yaml:3: slices: an entry must be a table with sources"));
    EXPECT_THAT(with("{}"), HasSubstr("r.yaml:3: a slice needs sources"));
    EXPECT_THAT(with("{sources: []}"), HasSubstr("r.yaml:3: sources: an empty list"));
    EXPECT_THAT(with("{sources: [{model: a, layer_range: [0]}]}"),
                HasSubstr("layer_range: must be [first, one past the last]"));
    EXPECT_THAT(with("{sources: [{model: a, layer_range: [2, 2]}]}"), HasSubstr("layer_range: [2, 2) is no range"));
    EXPECT_THAT(with("{sources: [{model: a, layer_range: [-1, 2]}]}"), HasSubstr("layer_range: [-1, 2) is no range"));
    EXPECT_THAT(with("{sources: [{model: a, layer_range: [0, 1.5]}]}"),
                HasSubstr("layer_range: must be an integer, not 1.5"));
    EXPECT_THAT(with("{sources: [{model: a, layer_range: [0, 1e17]}]}"), HasSubstr("layer_range: must be an integer"));
    EXPECT_THAT(with("{sources: [{model: a, layer_rang: [0, 1]}]}"),
                HasSubstr("unknown key \"layer_rang\" (did you mean \"layer_range\"?)"));
    EXPECT_THAT(error_of("merge_method: linear\nparameters: {weight: 1}\nslices:\n  - sources:\n      - {model: a, "
                         "layer_range: [0, 2]}\n"
                         "      - {model: b, layer_range: [0, 3]}\n",
                         "r.yaml"),
                HasSubstr("r.yaml:6: layer_range [0, 3) of b has 3 layers, [0, 2) of a in the same slice has 2"));
}

// ---- warnings

TEST(ParseWarnings, KeysWithoutEffect) {
    const Recipe recipe = yaml(R"(merge_method: linear
name: x
models:
  - model: a
    parameters: {weight: 1, density: 0.5, normalize: false}
  - model: b
    parameters: {weight: 1, density: 0.5}
parameters:
  int8_mask: true
  embed_slerp: true
)");
    EXPECT_THAT(recipe.warnings, ElementsAre("r.yaml:2: name has no effect", "r.yaml:9: int8_mask has no effect",
                                             "r.yaml:10: embed_slerp has no effect",
                                             "r.yaml:5: density has no effect with linear (and 1 more places)",
                                             HasSubstr("r.yaml:5: normalize at a model has no effect")));
    EXPECT_EQ(recipe.models[0].parameters.size(), 1u);
}

TEST(ParseWarnings, AllowUnknown) {
    const std::string text = "merge_method: linear\nfoo: 1\nmodels: [{model: a, parameters: {weigt: 2, weight: 1}}]\n";
    EXPECT_THAT(error_of(text, "r.yaml"), HasSubstr("unknown key \"foo\""));
    const Recipe recipe = yaml(text, {.set = {}, .allow_unknown = true});
    EXPECT_THAT(recipe.warnings, ElementsAre(HasSubstr("r.yaml:2: unknown key \"foo\""),
                                             "r.yaml:3: unknown key \"weigt\" (did you mean \"weight\"?): ignored"));
}

TEST(ParseWarnings, IdleBase) {
    const auto warnings = [](const std::string& base) {
        return yaml("merge_method: linear\nbase_model: " + base +
                    "\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n")
            .warnings;
    };
    EXPECT_THAT(warnings("c"),
                ElementsAre("r.yaml:2: base_model has no effect on linear: it gives only its config and tokenizer"));
    EXPECT_THAT(warnings("a"), IsEmpty());
    EXPECT_THAT(yaml("merge_method: ties\nbase_model: a\nmodels: [{model: a, parameters: {weight: 2}}, {model: b, "
                     "parameters: {weight: 1}}]\n")
                    .warnings,
                ElementsAre("r.yaml:3: the parameters of a have no effect: it is the base"));
}

TEST(ParseWarnings, TokenizerMapping) {
    EXPECT_EQ(yaml("merge_method: linear\ntokenizer: {source: org/x}\nmodels: [{model: a, parameters: {weight: 1}}]\n")
                  .tokenizer_source,
              "org/x");
}

}  // namespace
}  // namespace amalgam
