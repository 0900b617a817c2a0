// Models that do not fit together: the verdicts of the design's table.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/recipe/small_models.h"

namespace amalgam {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

const std::string linear = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n";
const std::string ties =
    "merge_method: ties\nbase_model: base\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n";

// ---- missing tensors

TEST(Missing, IsAnErrorNamingTensorAndModels) {
    SmallModels models;
    models.add_llama("a");
    auto tensors = small_llama({});
    tensors.erase(tensors.begin() + 2);
    models.add("b", tensors);
    models.add_llama("base");
    EXPECT_THAT(models.error_of(linear),
                HasSubstr("tensor \"model.layers.0.self_attn.q_proj.weight\" is in a and missing in b"));
    EXPECT_THAT(models.error_of("merge_method: linear\nmodels: [{model: b}, {model: a}]\nparameters: {weight: 1}\n"),
                HasSubstr("tensor \"model.layers.0.self_attn.q_proj.weight\" is in a and missing in b"));
    // A base that lends only its config may lack anything.
    EXPECT_EQ(
        models.error_of(
            "merge_method: linear\nbase_model: b\nmodels: [{model: a}, {model: base}]\nparameters: {weight: 1}\n"),
        "no error");
    EXPECT_THAT(models.error_of("merge_method: ties\nbase_model: b\nmodels: [{model: a}]\nparameters: {weight: 1}\n"),
                HasSubstr("missing in b"));
}

TEST(Missing, LayersAreCalledLayers) {
    SmallModels models;
    models.add_llama("a");
    models.add_llama("b", {.layers = 5});
    EXPECT_THAT(models.error_of(linear),
                HasSubstr("r.yaml:2: a has 3 layers (model.layers) and b has 5: say in slices"));
}

TEST(Missing, HeadOfATiedModelIsItsEmbedding) {
    SmallModels models;
    models.add_llama("a");
    models.add_llama("b", {.tied = true});
    const Merge merge = models.resolve(linear + "dtype: float32\n");
    EXPECT_THAT(inputs_of(merge, task_of(merge, "lm_head.weight")),
                ElementsAre("0:a lm_head.weight", "1:b model.embed_tokens.weight"));
    EXPECT_THAT(merge.warnings, IsEmpty());
    // Filters see the name of the head.
    const Merge filtered = models.resolve(
        "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: [{filter: lm_head, value: 5}, "
        "{value: 1}]}\n");
    EXPECT_EQ(field_of(filtered, task_of(filtered, "lm_head.weight").inputs[1], "weight"), 5);
    EXPECT_EQ(field_of(filtered, task_of(filtered, "model.embed_tokens.weight").inputs[1], "weight"), 1);

    models.add_llama("base", {.tied = true});
    const Merge with_base = models.resolve(ties);
    EXPECT_EQ(base_of(with_base, task_of(with_base, "lm_head.weight")), "2:base model.embed_tokens.weight");
}

TEST(Missing, NoHeadIfAllAreTied) {
    SmallModels models;
    models.add_llama("a", {.tied = true});
    models.add_llama("b", {.tied = true});
    const Merge merge = models.resolve(linear);
    EXPECT_FALSE(has_task(merge, "lm_head.weight"));
    EXPECT_TRUE(has_task(merge, "model.embed_tokens.weight"));
}

TEST(Missing, HeadOfAModelThatSaysItIsNotTiedWarns) {
    SmallModels models;
    models.add_llama("a");
    models.add("b", small_llama({.tied = true}), R"({"tie_word_embeddings":false})");
    EXPECT_THAT(models.resolve(linear).warnings,
                ElementsAre(HasSubstr("b has no \"lm_head.weight\" though its config.json says")));
}

TEST(Missing, BuffersAreDroppedWithAWarning) {
    SmallModels models;
    auto tensors = small_llama({});
    for (int i = 0; i < 3; ++i)
        tensors.push_back({fmt::format("model.layers.{}.self_attn.rotary_emb.inv_freq", i), "F32", {2}});
    models.add("a", tensors);
    models.add_llama("b");
    const Merge merge = models.resolve(linear);
    EXPECT_FALSE(has_task(merge, "model.layers.0.self_attn.rotary_emb.inv_freq"));
    EXPECT_THAT(merge.warnings, SizeIs(3));
    EXPECT_THAT(merge.warnings[0], HasSubstr("inv_freq\" is dropped"));
    models.add("b", tensors);
    EXPECT_TRUE(has_task(models.resolve(linear), "model.layers.0.self_attn.rotary_emb.inv_freq"));
}

// ---- shapes

TEST(Shapes, VocabulariesAreCutToTheCommonRows) {
    SmallModels models;
    models.add_llama("a", {.vocabulary = 11});
    models.add_llama("b", {.vocabulary = 13});
    const Merge merge = models.resolve(linear);
    EXPECT_THAT(task_of(merge, "model.embed_tokens.weight").shape, ElementsAre(11, 4));
    EXPECT_THAT(task_of(merge, "lm_head.weight").inputs[1].tensor.shape, ElementsAre(13, 4));
    EXPECT_THAT(
        merge.warnings,
        ElementsAre(
            HasSubstr("VOCABULARIES DIFFER: tensor \"lm_head.weight\" has shapes a [11, 4], b [13, 4]: cut to 11"),
            HasSubstr("model.embed_tokens.weight")));
    const Merge slerp =
        models.resolve("merge_method: slerp\nbase_model: b\nmodels: [{model: a}]\nparameters: {t: 0.5}\n");
    EXPECT_THAT(task_of(slerp, "lm_head.weight").shape, ElementsAre(11, 4));
}

TEST(Shapes, TaskVectorsAreCutToTheBase) {
    SmallModels models;
    models.add_llama("a", {.vocabulary = 13});
    models.add_llama("b", {.vocabulary = 11});
    models.add_llama("base", {.vocabulary = 11});
    const Merge merge = models.resolve(ties);
    EXPECT_THAT(task_of(merge, "lm_head.weight").shape, ElementsAre(11, 4));
    EXPECT_THAT(task_of(merge, "lm_head.weight").inputs, SizeIs(2));
    models.add_llama("b", {.vocabulary = 10});
    EXPECT_THAT(models.error_of(ties), HasSubstr("has fewer rows in b (10) than in the base (11)"));
    const Merge skipped = models.resolve(ties, {.skip_on_mismatch = true, .take_integers = false});
    EXPECT_THAT(inputs_of(skipped, task_of(skipped, "lm_head.weight")), ElementsAre("0:a lm_head.weight"));
    // model_stock blends: the common rows, as in mergekit.
    const Merge stock =
        models.resolve("merge_method: model_stock\nbase_model: base\nmodels: [{model: a}, {model: b}]\n");
    EXPECT_THAT(task_of(stock, "lm_head.weight").shape, ElementsAre(10, 4));
}

TEST(Shapes, RowsOfAnotherNameAreVocabularyIfTheConfigsSaySo) {
    SmallModels models;
    models.add("a", {{"words", "F32", {7, 2}}}, R"({"vocab_size":7})");
    models.add("b", {{"words", "F32", {9, 2}}}, R"({"vocab_size":9})");
    EXPECT_THAT(models.resolve(linear).tasks[0].shape, ElementsAre(7, 2));
    models.add("b", {{"words", "F32", {9, 2}}}, R"({"vocab_size":10})");
    EXPECT_THAT(models.error_of(linear), HasSubstr("tensor \"words\" has different shapes: a [7, 2], b [9, 2]"));
}

TEST(Shapes, PositionsAndWidthsAreNoVocabulary) {
    SmallModels models;
    models.add("a", {{"embeddings.position_embeddings.weight", "F32", {7, 2}}});
    models.add("b", {{"embeddings.position_embeddings.weight", "F32", {9, 2}}});
    EXPECT_THAT(models.error_of(linear), HasSubstr("has different shapes"));
    models.add("a", {{"embed_tokens.weight", "F32", {7, 2}}});
    models.add("b", {{"embed_tokens.weight", "F32", {9, 3}}});
    EXPECT_THAT(models.error_of(linear), HasSubstr("has different shapes"));
}

TEST(Shapes, OtherDifferencesAreErrorsOrLeftOut) {
    SmallModels models;
    models.add("base", {{"x", "F32", {2, 2}}});
    models.add("a", {{"x", "F32", {2, 3}}});
    models.add("b", {{"x", "F32", {2, 2}}});
    EXPECT_THAT(models.error_of(ties), HasSubstr("tensor \"x\" has different shapes: a [2, 3], b [2, 2]"));
    const Merge merge = models.resolve(ties, {.skip_on_mismatch = true, .take_integers = false});
    EXPECT_THAT(inputs_of(merge, merge.tasks[0]), ElementsAre("1:b x"));
    EXPECT_EQ(merge.tasks[0].kind, TaskKind::merge);
    EXPECT_THAT(merge.warnings, ElementsAre("a is left out of tensor \"x\": its shape [2, 3] is not [2, 2]"));

    models.add("b", {{"x", "F32", {2}}});
    const Merge none = models.resolve(ties, {.skip_on_mismatch = true, .take_integers = false});
    EXPECT_EQ(none.tasks[0].kind, TaskKind::copy);
    EXPECT_THAT(inputs_of(none, none.tasks[0]), ElementsAre("2:base x"));
    EXPECT_THAT(none.warnings, SizeIs(3));
}

TEST(Shapes, TooFewModelsLeft) {
    SmallModels models;
    models.add("base", {{"x", "F32", {2, 2}}});
    models.add("a", {{"x", "F32", {2, 3}}});
    models.add("b", {{"x", "F32", {2, 2}}});
    const ResolveOptions skip = {.skip_on_mismatch = true, .take_integers = false};
    const Merge stock =
        models.resolve("merge_method: model_stock\nbase_model: base\nmodels: [{model: a}, {model: b}]\n", skip);
    EXPECT_EQ(stock.tasks[0].kind, TaskKind::copy);
    EXPECT_THAT(inputs_of(stock, stock.tasks[0]), ElementsAre("2:base x"));
    const Merge slerp =
        models.resolve("merge_method: slerp\nbase_model: base\nmodels: [{model: a}]\nparameters: {t: 1}\n", skip);
    EXPECT_THAT(inputs_of(slerp, slerp.tasks[0]), ElementsAre("1:base x"));
    const Merge nuslerp =
        models.resolve("merge_method: nuslerp\nmodels: [{model: b}, {model: a}]\nparameters: {weight: 1}\n", skip);
    EXPECT_EQ(nuslerp.tasks[0].kind, TaskKind::copy);
    EXPECT_THAT(inputs_of(nuslerp, nuslerp.tasks[0]), ElementsAre("0:b x"));
}

TEST(Shapes, ManyWarningsAreCounted) {
    SmallModels models;
    std::vector<SmallTensor> narrow, wide;
    for (int i = 0; i < 30; ++i) {
        narrow.push_back({fmt::format("x{}", i), "F32", {2}});
        wide.push_back({fmt::format("x{}", i), "F32", {3}});
    }
    models.add("a", narrow);
    models.add("b", wide);
    const Merge merge = models.resolve(linear, {.skip_on_mismatch = true, .take_integers = false});
    EXPECT_THAT(merge.warnings, SizeIs(9));
    EXPECT_EQ(merge.warnings.back(), "and 22 more tensors are merged without some of the models");
}

// ---- dtypes

TEST(Dtypes, IntegersAreComparedAndNeverAveraged) {
    SmallModels models;
    models.add("a", {{"n", "I64", {3}}, {"flag", "BOOL", {2}}});
    models.add("b", {{"n", "I64", {3}}, {"flag", "BOOL", {2}}});
    models.add("base", {{"n", "I64", {3}}, {"flag", "BOOL", {2}}});
    const Merge merge = models.resolve(ties + "dtype: float16\n");
    const TensorTask& task = task_of(merge, "n");
    EXPECT_EQ(task.kind, TaskKind::equal);
    EXPECT_EQ(task.dtype, Dtype::i64);
    EXPECT_EQ(task.base, std::nullopt);
    EXPECT_THAT(inputs_of(merge, task), ElementsAre("2:base n", "0:a n", "1:b n"));
    EXPECT_THAT(inputs_of(merge, task_of(models.resolve(linear), "n")), ElementsAre("0:a n", "1:b n"));
    const Merge listed = models.resolve(
        "merge_method: linear\nbase_model: b\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n");
    EXPECT_THAT(inputs_of(listed, task_of(listed, "n")), ElementsAre("1:b n", "0:a n"));
    const Merge taken = models.resolve(ties, {.skip_on_mismatch = false, .take_integers = true});
    EXPECT_THAT(inputs_of(taken, task_of(taken, "n")), ElementsAre("2:base n"));
    EXPECT_EQ(task_of(taken, "n").kind, TaskKind::equal);
    EXPECT_EQ(merge.config_dtype, std::nullopt);

    models.add("b", {{"n", "I32", {3}}, {"flag", "BOOL", {2}}});
    EXPECT_THAT(models.error_of(ties), HasSubstr("tensor \"n\" is I64 [3] in base and I32 [3] in b"));
    EXPECT_EQ(models.error_of(ties, {.skip_on_mismatch = false, .take_integers = true}), "no error");
    models.add("b", {{"n", "F32", {3}}, {"flag", "BOOL", {2}}});
    EXPECT_THAT(models.error_of(ties),
                HasSubstr("tensor \"n\" is I64 in base and F32 in b: floating-point numbers and others"));
}

TEST(Dtypes, FloatsMayBeMixed) {
    SmallModels models;
    models.add("a", {{"x", "F64"}});
    models.add("b", {{"x", "F8_E4M3"}});
    const Merge merge = models.resolve(linear);
    EXPECT_EQ(merge.tasks[0].kind, TaskKind::merge);
    EXPECT_EQ(merge.tasks[0].dtype, Dtype::f64);
}

// ---- numbers

TEST(Weights, OfLinearMustNotSumToZero) {
    SmallModels models;
    models.add_llama("a", {.layers = 3});
    models.add_llama("b", {.layers = 3});
    const auto with = [&](const std::string& a, const std::string& b, const std::string& rest = "") {
        return models.error_of("merge_method: linear\nmodels: [{model: a, parameters: {weight: " + a +
                               "}}, {model: b, parameters: {weight: " + b + "}}]\n" + rest);
    };
    EXPECT_EQ(with("0.5", "-0.5"),
              "r.yaml:2: the weights of tensor \"lm_head.weight\" sum to 0 (a 0.5, b -0.5): linear divides by their "
              "sum; change "
              "them or set normalize to false");
    EXPECT_THAT(with("0", "0"), HasSubstr("sum to 0"));
    EXPECT_EQ(with("0.5", "-0.5", "parameters: {normalize: false}\n"), "no error");
    EXPECT_THAT(with("[1, 1, 0]", "0"), HasSubstr("tensor \"model.layers.2.input_layernorm.weight\" sum to 0"));
    EXPECT_EQ(with("0", "1"), "no error");
    EXPECT_THAT(with("1e-300", "0"), HasSubstr("sum to 0"));  // 0 in float32
    EXPECT_EQ(with("1e-30", "0"), "no error");
    EXPECT_EQ(with("1", "-0.999999"), "no error");
    EXPECT_THAT(with("1", "-0.99999999"), HasSubstr("sum to 0"));
    EXPECT_EQ(with("3e38", "-1e38"), "no error");
    EXPECT_EQ(with("3e38", "3e38"), "no error");
    for (const std::string method : {"linear", "multislerp"})
        EXPECT_THAT(models.error_of("merge_method: " + method +
                                    "\nmodels: [{model: a, parameters: {weight: 0.3}}, {model: b, parameters: {weight: "
                                    "0.6}}, {model: a, parameters: {weight: -0.9}}]\n"),
                    HasSubstr("sum to 0 (a 0.3, b 0.6, a -0.9): " + method + " divides by their sum"));
    EXPECT_THAT(models.error_of("merge_method: multislerp\nmodels: [{model: a, parameters: {weight: 1}}, {model: b, "
                                "parameters: {weight: -1}}]\n"),
                HasSubstr("set normalize_weights to false"));
    models.add_llama("base");
    EXPECT_EQ(
        models.error_of(
            "merge_method: task_arithmetic\nbase_model: base\nmodels: [{model: a, parameters: {weight: 1}}, {model: b, "
            "parameters: {weight: -1}}]\nparameters: {normalize: true}\n"),
        "no error");
}

// ---- places

TEST(Places, OfErrorsAreTheEntriesOfTheModels) {
    SmallModels models;
    models.add_llama("base");
    models.add_llama("a");
    models.add_llama("short", {.vocabulary = 9});
    auto tensors = small_llama({});
    tensors.erase(tensors.begin() + 2);
    models.add("lacks", tensors);
    tensors = small_llama({});
    tensors[1].shape = {5};
    models.add("wide", tensors);
    tensors[1] = {"model.layers.0.input_layernorm.weight", "I32", {4}};
    models.add("whole", tensors);
    models.add_llama("deep", {.layers = 4});
    const auto error = [&](const std::string& last, const std::string& base = "base") {
        return models.error_of("merge_method: ties\nbase_model: " + base +
                               "\nmodels:\n  - model: a\n  - model: " + last + "\nparameters: {weight: 1}\n");
    };
    EXPECT_EQ(error("a"), "no error");
    EXPECT_THAT(error("none"), StartsWith("r.yaml:5: model 'none' is not found"));
    EXPECT_THAT(error("a", "none"), StartsWith("r.yaml:2: model 'none' is not found"));
    EXPECT_THAT(error("lacks"), StartsWith("r.yaml:5: tensor \"model.layers.0.self_attn.q_proj.weight\" is in a and"));
    EXPECT_THAT(error("a", "lacks"), StartsWith("r.yaml:2: tensor \"model.layers.0.self_attn.q_proj.weight\" is in a"));
    EXPECT_THAT(error("wide"), StartsWith("r.yaml:5: tensor \"model.layers.0.input_layernorm.weight\" has different"));
    EXPECT_THAT(error("whole"),
                StartsWith("r.yaml:5: tensor \"model.layers.0.input_layernorm.weight\" is F32 in base"));
    EXPECT_THAT(error("short"), StartsWith("r.yaml:5: tensor \"lm_head.weight\" has fewer rows in short"));
    EXPECT_THAT(error("deep"), StartsWith("r.yaml:5: a has 3 layers (model.layers) and deep has 4"));
    models.files.contents["bad/model.safetensors"] = "x";
    EXPECT_THAT(error("bad"), StartsWith("r.yaml:5: bad/model.safetensors: "));
    EXPECT_THAT(
        models.error_of("merge_method: linear\nmodels:\n  - model: a\n  - model: base\nparameters: {weight: 0}\n"),
        StartsWith("r.yaml:3: the weights of tensor"));
    EXPECT_THAT(models.error_of("merge_method: linear\nmodels: [{model: a}]\nparameters: {weight: 1}\n"
                                "tokenizer_source: none\n"),
                StartsWith("r.yaml:4: model 'none' is not found"));
}

TEST(Della, ProbabilitiesMustLieBetween0And1) {
    SmallModels models;
    models.add_llama("a");
    models.add_llama("base");
    const auto with = [&](const std::string& parameters) {
        return models.error_of(
            "merge_method: della\nbase_model: base\nmodels:\n  - {model: a, parameters: {weight: 1, " + parameters +
            "}}\n");
    };
    EXPECT_THAT(with("density: 0.9"),
                HasSubstr("r.yaml:4: density=0.9 and epsilon=0.15 of a for tensor \"lm_head.weight\""));
    EXPECT_THAT(with("density: 0.85"), HasSubstr("epsilon"));
    EXPECT_THAT(with("density: 0.1"), HasSubstr("epsilon"));
    EXPECT_EQ(with("density: 0.5"), "no error");
    EXPECT_EQ(with("density: 1"), "no error");
    EXPECT_EQ(with("density: 0"), "no error");
    EXPECT_EQ(with("density: 0.9, epsilon: 0.05"), "no error");
}

TEST(Paper, NeedsOneDensityAModel) {
    SmallModels models;
    models.add_llama("a");
    models.add_llama("b");
    models.add_llama("base");
    const auto with = [&](const std::string& method, const std::string& density, const std::string& compat) {
        return models.error_of(
            "merge_method: " + method + "\nbase_model: base\nmodels: [{model: a, parameters: {density: " + density +
            "}}, {model: b, parameters: {density: 0.5}}]\nparameters: {weight: [0, 1]}\ncompat: " + compat + "\n");
    };
    EXPECT_THAT(with("ties", "[0.1, 0.9]", "paper"), HasSubstr("density of a is 0.1 for tensor"));
    EXPECT_THAT(with("breadcrumbs", "[{filter: mlp, value: 0.25}]", "paper"), HasSubstr("whole model"));
    EXPECT_EQ(with("ties", "[0.1, 0.9]", "mergekit"), "no error");
    EXPECT_EQ(with("ties", "0.2", "paper"), "no error");
    EXPECT_EQ(with("dare_ties", "[0.1, 0.9]", "paper"), "no error");
}

}  // namespace
}  // namespace amalgam
