// Which tensors and numbers go into which task, for whole models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/recipe/small_models.h"

namespace amalgam {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(Resolve, MatchesTensorsByNameInNaturalOrder) {
    SmallModels models;
    models.add_llama("a", {.layers = 11});
    models.add_llama("b", {.layers = 11});
    const Merge merge = models.resolve(
        "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\ndtype: bfloat16\n");
    EXPECT_EQ(merge.method->name, "linear");
    ASSERT_EQ(merge.tasks.size(), 3u * 11 + 3);
    EXPECT_TRUE(std::is_sorted(merge.tasks.begin(), merge.tasks.end(),
                               [](const TensorTask& a, const TensorTask& b) { return natural_less(a.name, b.name); }));
    const TensorTask& task = task_of(merge, "model.layers.10.mlp.down_proj.weight");
    EXPECT_EQ(task.kind, TaskKind::merge);
    EXPECT_EQ(task.tower, "model.layers");
    EXPECT_EQ(task.layer, 10);
    EXPECT_EQ(task.dtype, Dtype::bf16);
    EXPECT_THAT(task.shape, ElementsAre(4, 6));
    EXPECT_THAT(inputs_of(merge, task),
                ElementsAre("0:a model.layers.10.mlp.down_proj.weight", "1:b model.layers.10.mlp.down_proj.weight"));
    EXPECT_EQ(task_of(merge, "lm_head.weight").layer, -1);
    EXPECT_EQ(merge.config_dtype, Dtype::bf16);
    EXPECT_EQ(merge.config_donor, 0);
    EXPECT_EQ(merge.tokenizer_donor, 0);
    EXPECT_THAT(merge.layer_sources, IsEmpty());
    EXPECT_THAT(merge.warnings, IsEmpty());
}

TEST(Resolve, OpensEveryModelOnceAndKeepsItsEntries) {
    SmallModels models;
    models.add_llama("a");
    models.add_llama("base");
    const Merge merge = models.resolve(
        "merge_method: ties\nbase_model: base\nmodels: [{model: a}, {model: base}, {model: a}]\n"
        "parameters: {weight: 1}\nseed: 9\ncompat: paper\n");
    ASSERT_EQ(merge.models.size(), 2u);
    EXPECT_EQ(merge.models[0].reference, "a");
    EXPECT_EQ(merge.config_donor, 1);
    EXPECT_EQ(merge.seed, 9u);
    EXPECT_EQ(merge.compat, Compat::paper);
    const TensorTask& task = task_of(merge, "model.norm.weight");
    EXPECT_THAT(inputs_of(merge, task), ElementsAre("0:a model.norm.weight", "2:a model.norm.weight"));
    EXPECT_EQ(base_of(merge, task), "1:base model.norm.weight");
}

TEST(Resolve, GivesTheBaseItsRole) {
    SmallModels models;
    for (const char* name : {"a", "b", "base"}) models.add_llama(name);
    const auto roles = [&](const std::string& method, const std::string& list, bool with_base = true) {
        const Merge merge = models.resolve("merge_method: " + method + (with_base ? "\nbase_model: base" : "") +
                                           "\nmodels: [" + list + "]\nparameters: {weight: 1, t: 0.5}\n");
        const TensorTask& task = task_of(merge, "model.norm.weight");
        std::string text = base_of(merge, task).substr(0, base_of(merge, task).find(' ')) + " |";
        for (const std::string& input : inputs_of(merge, task)) text += " " + input.substr(0, input.find(' '));
        return text;
    };
    EXPECT_EQ(roles("ties", "{model: a}, {model: b}"), "2:base | 0:a 1:b");
    EXPECT_EQ(roles("ties", "{model: base}, {model: a}, {model: b}"), "0:base | 1:a 2:b");
    EXPECT_EQ(roles("slerp", "{model: base}, {model: a}"), "0:base | 1:a");
    EXPECT_EQ(roles("slerp", "{model: a}, {model: base}"), "1:base | 0:a");
    EXPECT_EQ(roles("slerp", "{model: a}"), "1:base | 0:a");
    EXPECT_EQ(roles("slerp", "{model: base}, {model: base}"), "0:base | 1:base");
    EXPECT_EQ(roles("nuslerp", "{model: a}, {model: b}"), "2:base | 0:a 1:b");
    EXPECT_EQ(roles("nuslerp", "{model: a}, {model: b}", false), "none | 0:a 1:b");
    EXPECT_EQ(roles("karcher", "{model: a}, {model: b}"), "none | 0:a 1:b 2:base");
    EXPECT_EQ(roles("karcher", "{model: base}, {model: b}"), "none | 0:base 1:b");
    EXPECT_EQ(roles("linear", "{model: a}, {model: b}"), "none | 0:a 1:b");
    EXPECT_EQ(roles("linear", "{model: a}, {model: base}"), "none | 0:a 1:base");
}

// mergekit 2: t is the layer over (layers - 1), 0 outside the layers, and 1 in a tower of one layer.
TEST(Resolve, InterpolatesGradients) {
    SmallModels models;
    models.add_llama("a", {.layers = 5});
    const Merge merge =
        models.resolve("merge_method: linear\nmodels: [{model: a, parameters: {weight: [1, 2, 10]}}]\n");
    const auto weight = [&](const std::string& name) {
        return field_of(merge, task_of(merge, name).inputs[0], "weight");
    };
    EXPECT_EQ(weight("model.embed_tokens.weight"), 1);
    EXPECT_EQ(weight("lm_head.weight"), 1);
    EXPECT_EQ(weight("model.layers.0.mlp.down_proj.weight"), 1);
    EXPECT_EQ(weight("model.layers.1.mlp.down_proj.weight"), 1.5);
    EXPECT_EQ(weight("model.layers.2.mlp.down_proj.weight"), 2);
    EXPECT_EQ(weight("model.layers.3.mlp.down_proj.weight"), 6);
    EXPECT_EQ(weight("model.layers.4.mlp.down_proj.weight"), 10);

    models.add_llama("one", {.layers = 1});
    const Merge single =
        models.resolve("merge_method: linear\nmodels: [{model: one, parameters: {weight: [1, 2, 10]}}]\n");
    EXPECT_EQ(field_of(single, task_of(single, "model.layers.0.mlp.down_proj.weight").inputs[0], "weight"), 10);
    EXPECT_EQ(field_of(single, task_of(single, "model.norm.weight").inputs[0], "weight"), 1);
}

TEST(Resolve, GivesEveryTowerItsOwnDepth) {
    SmallModels models;
    models.add("a", {{"model.layers.0.w"},
                     {"model.layers.1.w"},
                     {"model.layers.2.w"},
                     {"vision.blocks.0.w"},
                     {"vision.blocks.1.w"},
                     {"model.layers.1.mlp.experts.7.w"},
                     {"audio.0.w"}});
    const Merge merge = models.resolve("merge_method: linear\nmodels: [{model: a, parameters: {weight: [1, 3]}}]\n");
    const auto weight = [&](const std::string& name) {
        return field_of(merge, task_of(merge, name).inputs[0], "weight");
    };
    EXPECT_EQ(weight("model.layers.1.w"), 2);
    EXPECT_EQ(weight("model.layers.1.mlp.experts.7.w"), 2);
    EXPECT_EQ(weight("vision.blocks.1.w"), 3);
    EXPECT_EQ(weight("audio.0.w"), 3);
    EXPECT_EQ(task_of(merge, "vision.blocks.1.w").tower, "vision.blocks");
}

TEST(Resolve, FollowsThePrecedenceOfParameters) {
    SmallModels models;
    models.add_llama("a");
    models.add_llama("b");
    models.add_llama("base");
    const Merge merge = models.resolve(R"(
merge_method: ties
base_model: base
models:
  - model: a
    parameters:
      weight:
        - filter: mlp
          value: 5
  - model: b
    parameters: {weight: 7, density: 0.25}
parameters:
  weight: [{filter: self_attn, value: 3}, {filter: "*", value: 2}, {value: 99}]
  lambda: [{filter: layers.1., value: 0.5}]
  density: 0.75
)");
    const auto values = [&](const std::string& name) {
        const TensorTask& task = task_of(merge, name);
        return std::vector<double>{
            field_of(merge, task.inputs[0], "weight"),  field_of(merge, task.inputs[1], "weight"),
            field_of(merge, task.inputs[0], "density"), field_of(merge, task.inputs[1], "density"),
            global_of(merge, task, "lambda"),           global_of(merge, task, "normalize")};
    };
    EXPECT_THAT(values("model.layers.0.mlp.down_proj.weight"), ElementsAre(5, 7, 0.75, 0.25, 1, 1));
    EXPECT_THAT(values("model.layers.0.self_attn.q_proj.weight"), ElementsAre(3, 7, 0.75, 0.25, 1, 1));
    EXPECT_THAT(values("model.layers.1.input_layernorm.weight"), ElementsAre(2, 7, 0.75, 0.25, 0.5, 1));
    EXPECT_THAT(values("lm_head.weight"), ElementsAre(2, 7, 0.75, 0.25, 1, 1));
}

TEST(Resolve, SaysWhichTensorHasNoValue) {
    SmallModels models;
    models.add_llama("a");
    EXPECT_EQ(
        models.error_of(
            "merge_method: linear\nmodels:\n  - model: a\n    parameters:\n      weight: [{filter: mlp, value: 1}]\n"),
        "r.yaml:5: parameter weight of a has no value for tensor \"lm_head.weight\": no filter fits; add an entry "
        "without a filter");
}

TEST(Resolve, DecidesBetweenCopyAndScale) {
    SmallModels models;
    models.add_llama("a");
    const Merge merge = models.resolve(
        "merge_method: passthrough\nmodels: [{model: a}]\nparameters: {scale: [{filter: mlp, value: 0.5}]}\n");
    EXPECT_EQ(task_of(merge, "model.norm.weight").kind, TaskKind::copy);
    const TensorTask& scaled = task_of(merge, "model.layers.0.mlp.down_proj.weight");
    EXPECT_EQ(scaled.kind, TaskKind::merge);
    EXPECT_EQ(field_of(merge, scaled.inputs[0], "scale"), 0.5);
}

TEST(Resolve, ReturnsASingleModelAsItIs) {
    SmallModels models;
    models.add_llama("a");
    for (const char* method : {"karcher", "multislerp"}) {
        const Merge merge = models.resolve(std::string("merge_method: ") + method +
                                           "\nmodels: [{model: a}]\nparameters: {weight: 3}\n");
        EXPECT_EQ(task_of(merge, "model.norm.weight").kind, TaskKind::copy) << method;
    }
    const Merge linear =
        models.resolve("merge_method: linear\nmodels: [{model: a}]\nparameters: {weight: 3, normalize: false}\n");
    EXPECT_EQ(task_of(linear, "model.norm.weight").kind, TaskKind::merge);
}

TEST(Resolve, ChoosesTheOutputDtype) {
    SmallModels models;
    models.add_llama("half", {.dtype = "F16"});
    models.add_llama("brain", {.dtype = "BF16"});
    const auto dtype = [&](const std::string& rest) {
        const Merge merge = models.resolve("models: [{model: brain}, {model: half}]\nparameters: {weight: 1}\n" + rest);
        EXPECT_EQ(merge.config_dtype, merge.tasks[0].dtype);
        return merge.tasks[0].dtype;
    };
    EXPECT_EQ(dtype("merge_method: linear\n"), Dtype::bf16);
    EXPECT_EQ(dtype("merge_method: ties\nbase_model: half\n"), Dtype::f16);
    EXPECT_EQ(dtype("merge_method: linear\nbase_model: half\n"), Dtype::f16);
    EXPECT_EQ(dtype("merge_method: linear\ndtype: float32\n"), Dtype::f32);
    EXPECT_EQ(dtype("merge_method: linear\ndtype: float32\nout_dtype: float8_e4m3fn\n"), Dtype::f8_e4m3);
}

TEST(Resolve, NamesNoConfigDtypeForMixedTensors) {
    SmallModels models;
    models.add("a", {{"x", "F32"}, {"y", "BF16"}, {"n", "I64"}});
    const Merge merge = models.resolve("merge_method: passthrough\nmodels: [{model: a}]\n");
    EXPECT_EQ(merge.config_dtype, std::nullopt);
    EXPECT_EQ(task_of(merge, "n").kind, TaskKind::equal);
    EXPECT_EQ(models.resolve("merge_method: passthrough\nmodels: [{model: a}]\nout_dtype: float16\n").config_dtype,
              Dtype::f16);
}

TEST(Resolve, FindsTheTokenizersDonor) {
    SmallModels models;
    for (const char* name : {"a", "b", "base", "other"}) models.add_llama(name);
    const auto donor = [&](const std::string& line) {
        const Merge merge = models.resolve(
            "merge_method: ties\nbase_model: base\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n" + line);
        return merge.models[merge.tokenizer_donor].reference;
    };
    EXPECT_EQ(donor(""), "base");
    EXPECT_EQ(donor("tokenizer_source: base\n"), "base");
    EXPECT_EQ(donor("tokenizer_source: b\n"), "b");
    EXPECT_EQ(donor("tokenizer_source: other\n"), "other");
}

TEST(Resolve, FindsModelsBesideTheRecipe) {
    SmallModels models;
    models.add_llama("recipes/a");
    const Recipe recipe = parse_recipe("merge_method: passthrough\nmodels: [{model: a}]\n", "recipes/r.yaml");
    EXPECT_EQ(resolve(models.files, recipe).models[0].checkpoint.path, "recipes/a");
    EXPECT_THAT(models.error_of("merge_method: passthrough\nmodels: [{model: nowhere}]\n"), HasSubstr("nowhere"));
    EXPECT_THAT(models.error_of("merge_method: passthrough\nmodels: [{model: recipes/a+lora}]\n"), HasSubstr("LoRA"));
}

}  // namespace
}  // namespace amalgam
