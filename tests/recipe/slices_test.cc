// Recipes with slices: which layer of which model becomes which of the output.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/recipe/layout.h"
#include "tests/recipe/small_models.h"

namespace amalgam {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(Slices, StackLayers) {
    SmallModels models;
    models.add_llama("deep", {.layers = 5});
    models.add_llama("a");
    const Merge merge = models.resolve(R"(
merge_method: passthrough
slices:
  - sources: [{model: deep, layer_range: [0, 2]}]
  - sources: [{model: a, layer_range: [1, 3]}]
  - sources: [{model: deep, layer_range: [1, 5]}]
)");
    EXPECT_THAT(merge.layer_sources, ElementsAre(Pair(0, 0), Pair(0, 1), Pair(1, 1), Pair(1, 2), Pair(0, 1), Pair(0, 2),
                                                 Pair(0, 3), Pair(0, 4)));
    EXPECT_EQ(merge.tasks.size(), 3u * 8 + 3);
    const auto input = [&](const std::string& name) { return inputs_of(merge, task_of(merge, name)).at(0); };
    EXPECT_EQ(input("model.layers.3.mlp.down_proj.weight"), "0:a model.layers.2.mlp.down_proj.weight");
    EXPECT_EQ(input("model.layers.7.mlp.down_proj.weight"), "0:deep model.layers.4.mlp.down_proj.weight");
    EXPECT_EQ(task_of(merge, "model.layers.7.mlp.down_proj.weight").layer, 7);
    EXPECT_EQ(task_of(merge, "model.layers.7.mlp.down_proj.weight").tower, "model.layers");
}

TEST(Slices, TakeTensorsOutsideTheLayersFromTheEnds) {
    SmallModels models;
    for (const char* name : {"a", "b", "c"}) models.add_llama(name);
    const Merge merge = models.resolve(R"(
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 1]}]
  - sources: [{model: b, layer_range: [0, 1]}]
  - sources: [{model: c, layer_range: [0, 1]}]
)");
    const auto input = [&](const std::string& name) { return inputs_of(merge, task_of(merge, name)).at(0); };
    EXPECT_EQ(input("model.embed_tokens.weight"), "0:a model.embed_tokens.weight");
    EXPECT_EQ(input("model.norm.weight"), "0:c model.norm.weight");
    EXPECT_EQ(input("lm_head.weight"), "0:c lm_head.weight");
}

// Source names choose a model's values, output names the global ones; t counts within the slice.
TEST(Slices, ResolveParameters) {
    SmallModels models;
    models.add_llama("a", {.layers = 4});
    models.add_llama("base", {.layers = 4});
    const Merge merge = models.resolve(R"(
merge_method: ties
base_model: base
slices:
  - sources:
      - {model: a, layer_range: [0, 1], parameters: {weight: [1, 9]}}
      - {model: base, layer_range: [0, 1]}
  - sources:
      - model: a
        layer_range: [1, 4]
        parameters: {density: [{filter: layers.3., value: 0.25}]}
      - {model: base, layer_range: [0, 3]}
    parameters: {weight: [1, 3], lambda: [{filter: layers.3., value: 4}]}
parameters: {density: 0.5, lambda: 2}
)");
    const auto values = [&](int layer) {
        const TensorTask& task = task_of(merge, fmt::format("model.layers.{}.mlp.down_proj.weight", layer));
        return std::vector<double>{field_of(merge, task.inputs[0], "weight"),
                                   field_of(merge, task.inputs[0], "density"), global_of(merge, task, "lambda")};
    };
    EXPECT_THAT(values(0), ElementsAre(9, 0.5, 2));  // a single layer: t = 1
    EXPECT_THAT(values(1), ElementsAre(1, 0.5, 2));
    EXPECT_THAT(values(2), ElementsAre(2, 0.5, 2));
    EXPECT_THAT(values(3), ElementsAre(3, 0.25, 4));
    EXPECT_EQ(base_of(merge, task_of(merge, "model.layers.3.mlp.down_proj.weight")),
              "1:base model.layers.2.mlp.down_proj.weight");
    // Embeddings by the first slice's parameters, norm and head by the last's, both at t = 0.
    EXPECT_EQ(field_of(merge, task_of(merge, "model.embed_tokens.weight").inputs[0], "weight"), 1);
    EXPECT_EQ(field_of(merge, task_of(merge, "lm_head.weight").inputs[0], "weight"), 1);
    // Configuration of a layer comes from the base's layer.
    EXPECT_THAT(merge.layer_sources, ElementsAre(Pair(1, 0), Pair(1, 0), Pair(1, 1), Pair(1, 2)));
}

TEST(Slices, HaveBasesOfTheirOwn) {
    SmallModels models;
    for (const char* name : {"a", "b", "c"}) models.add_llama(name);
    const Merge merge = models.resolve(R"(
merge_method: slerp
base_model: a
slices:
  - sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [1, 3]}]
  - sources: [{model: a, layer_range: [2, 3]}, {model: b, layer_range: [2, 3]}]
    base_model: b
  - sources: [{model: a, layer_range: [1, 3]}]
    base_model: c
parameters: {t: 0.5}
)");
    const auto both = [&](int layer) {
        const TensorTask& task = task_of(merge, fmt::format("model.layers.{}.input_layernorm.weight", layer));
        return base_of(merge, task) + " + " + inputs_of(merge, task)[0];
    };
    EXPECT_EQ(both(1), "0:a model.layers.1.input_layernorm.weight + 1:b model.layers.2.input_layernorm.weight");
    EXPECT_EQ(both(2), "1:b model.layers.2.input_layernorm.weight + 0:a model.layers.2.input_layernorm.weight");
    EXPECT_EQ(both(4), "1:c model.layers.2.input_layernorm.weight + 0:a model.layers.2.input_layernorm.weight");
    EXPECT_EQ(merge.config_donor, 0);
}

TEST(Slices, WithoutARangeTakeAllLayers) {
    SmallModels models;
    models.add_llama("a");
    EXPECT_EQ(models.resolve("merge_method: passthrough\nslices: [{sources: [{model: a}]}, {sources: [{model: a}]}]\n")
                  .layer_sources.size(),
              6u);
}

TEST(Slices, LeaveOtherTowersWhole) {
    SmallModels models;
    const auto vision_language = [](int64_t layers) {
        std::vector<SmallTensor> tensors = {{"model.visual.patch_embed.proj.weight"},
                                            {"model.visual.merger.ln_q.weight"},
                                            {"model.visual.blocks.0.w"},
                                            {"model.visual.blocks.1.w"},
                                            {"model.language_model.embed_tokens.weight"},
                                            {"model.language_model.norm.weight"},
                                            {"lm_head.weight"}};
        for (int64_t i = 0; i < layers; ++i)
            tensors.push_back({fmt::format("model.language_model.layers.{}.w", i), "F32", {64, 64}});
        return tensors;
    };
    models.add("a", vision_language(2),
               R"({"text_config":{"num_hidden_layers":2},"vision_config":{"num_hidden_layers":2}})");
    models.add("b", vision_language(2), R"({"text_config":{"num_hidden_layers":2}})");
    const Merge merge = models.resolve(R"(
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 2]}]
  - sources: [{model: b, layer_range: [0, 2]}]
parameters: {scale: [1, 3]}
)");
    const auto input = [&](const std::string& name) { return inputs_of(merge, task_of(merge, name)).at(0); };
    EXPECT_EQ(input("model.visual.merger.ln_q.weight"), "0:a model.visual.merger.ln_q.weight");
    EXPECT_EQ(input("model.visual.blocks.1.w"), "0:a model.visual.blocks.1.w");
    EXPECT_EQ(input("model.language_model.embed_tokens.weight"), "0:a model.language_model.embed_tokens.weight");
    EXPECT_EQ(input("model.language_model.norm.weight"), "0:b model.language_model.norm.weight");
    EXPECT_EQ(input("model.language_model.layers.3.w"), "0:b model.language_model.layers.1.w");
    EXPECT_FALSE(has_task(merge, "model.visual.blocks.2.w"));
    EXPECT_EQ(field_of(merge, task_of(merge, "model.visual.blocks.1.w").inputs[0], "scale"), 3);
}

TEST(Slices, Errors) {
    SmallModels models;
    models.add_llama("a");
    models.add_llama("b");
    models.add_llama("base");
    models.add("flat", {{"x"}, {"y"}});
    models.add("gpt", {{"h.0.w"}, {"h.1.w"}, {"h.2.w"}});
    std::vector<SmallTensor> seq2seq;
    for (const char* side : {"encoder", "decoder"})
        for (int i = 0; i < 3; ++i) seq2seq.push_back({fmt::format("{}.layers.{}.w", side, i)});
    models.add("seq2seq", seq2seq);
    EXPECT_EQ(
        models.error_of("merge_method: passthrough\nslices:\n  - sources:\n      - {model: a, layer_range: [1, 4]}\n"),
        "r.yaml:4: layer_range [1, 4) of a: it has 3 layers (model.layers), numbered from 0");
    EXPECT_THAT(
        models.error_of("merge_method: passthrough\nslices: [{sources: [{model: flat, layer_range: [0, 1]}]}]\n"),
        HasSubstr("flat: no tensor name has a layer number"));
    EXPECT_THAT(
        models.error_of("merge_method: passthrough\nslices: [{sources: [{model: seq2seq, layer_range: [0, 1]}]}]\n"),
        HasSubstr("seq2seq: layer ranges could count in"));
    EXPECT_THAT(
        models.error_of("merge_method: passthrough\nslices: [{sources: [{model: a}]}, {sources: [{model: gpt}]}]\n"),
        HasSubstr("the layers of gpt are called h, those of a model.layers"));
    EXPECT_THAT(
        models.error_of("merge_method: ties\nbase_model: base\nparameters: {weight: 1}\nslices:\n"
                        "  - sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [1, 3]}]\n"),
        HasSubstr("r.yaml:5: the slice takes different layers of its sources, so list the base base among them"));
    EXPECT_THAT(models.error_of("merge_method: linear\nparameters: {weight: 1}\nslices: [{sources: [{model: a}, "
                                "{model: b, layer_range: [0, 2]}]}]\n"),
                HasSubstr("b gives 2 layers to the slice, a gives 3"));
}

// ---- where tensors outside the layers belong, for the names of several families

Section section_of(const std::vector<std::string>& names, const std::string& wanted) {
    Checkpoint checkpoint;
    for (const std::string& name : names) {
        TensorInfo tensor;
        tensor.name = name;
        tensor.shape = {2, 2};
        tensor.end = 16;
        checkpoint.tensors.push_back(tensor);
    }
    const ModelLayout layout = read_layout(checkpoint);
    const Sections sections(layout, main_tower(layout, "test"));
    for (size_t i = 0; i < names.size(); ++i)
        if (names[i] == wanted) return sections.section(i);
    throw Error("no tensor " + wanted);
}

TEST(Sections, OfUsualNames) {
    struct Family {
        std::string layer;
        std::vector<std::string> first, last;
    };
    const std::vector<Family> families = {
        {"model.layers.0.w", {"model.embed_tokens.weight"}, {"model.norm.weight", "lm_head.weight"}},
        {"transformer.h.0.w",
         {"transformer.wte.weight", "transformer.wpe.weight"},
         {"transformer.ln_f.weight", "lm_head.weight"}},
        {"h.0.w", {"wte.weight", "wpe.weight"}, {"ln_f.weight", "ln_f.bias"}},
        {"bert.encoder.layer.0.w",
         {"bert.embeddings.word_embeddings.weight", "bert.embeddings.position_embeddings.weight",
          "bert.embeddings.LayerNorm.bias"},
         {"bert.pooler.dense.weight", "cls.predictions.bias", "cls.predictions.transform.dense.weight",
          "cls.predictions.decoder.weight"}},
        {"vit.encoder.layer.0.w",
         {"vit.embeddings.cls_token", "vit.embeddings.position_embeddings",
          "vit.embeddings.patch_embeddings.projection.weight"},
         {"vit.layernorm.weight", "classifier.weight"}},
        {"blocks.0.w", {"cls_token", "pos_embed", "patch_embed.proj.weight"}, {"norm.weight", "head.weight"}},
        {"gpt_neox.layers.0.w", {"gpt_neox.embed_in.weight"}, {"gpt_neox.final_layer_norm.weight", "embed_out.weight"}},
        {"model.layers.0.w", {"model.tok_embeddings.weight"}, {"model.norm.weight", "output.weight"}},
        {"backbone.layers.0.w", {"backbone.embedding.weight"}, {"backbone.norm_f.weight", "lm_head.weight"}},
    };
    for (const Family& family : families) {
        std::vector<std::string> names = {family.layer};
        names.insert(names.end(), family.first.begin(), family.first.end());
        names.insert(names.end(), family.last.begin(), family.last.end());
        EXPECT_EQ(section_of(names, family.layer), Section::layers);
        for (const std::string& name : family.first) EXPECT_EQ(section_of(names, name), Section::first) << name;
        for (const std::string& name : family.last) EXPECT_EQ(section_of(names, name), Section::last) << name;
    }
}

}  // namespace
}  // namespace amalgam
