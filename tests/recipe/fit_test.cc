// Models whose tensors have the same names and shapes, and that are of one kind or not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/recipe/small_models.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

void add(SmallModels& models, const std::string& name, const std::string& config) {
    models.add(name, small_llama({}), config);
}

const std::string linear =
    "merge_method: linear\nmodels:\n  - model: a\n  - model: b\n  - model: c\nparameters: {weight: 1}\n";
const std::string llama = R"({"model_type":"llama","num_attention_heads":2,"rope_theta":10000,"num_hidden_layers":3})";

TEST(Settings, OfAnotherMeaningWarnOnce) {
    SmallModels models;
    add(models, "a", llama);
    add(models, "b", llama);
    const std::string qwen = R"({"model_type":"qwen2","num_attention_heads":4,"rope_theta":1e6,"num_hidden_layers":3})";
    add(models, "c", qwen);
    EXPECT_THAT(
        models.resolve(linear).warnings,
        ElementsAre(
            "r.yaml:5: SETTINGS DIFFER: config.json of c says model_type qwen2, num_attention_heads 4, "
            "rope_theta 1000000.0, that of a, which the result gets, says model_type llama, num_attention_heads "
            "2, rope_theta 10000: tensors of one shape mean something else then, and the result may be useless "
            "(amalgam inspect a c compares them)"));
    add(models, "b", qwen);
    EXPECT_THAT(models.resolve(linear).warnings,
                ElementsAre(HasSubstr("r.yaml:4: SETTINGS DIFFER: config.json of b, c says")));
    // The base gives the config.
    EXPECT_THAT(models
                    .resolve("merge_method: ties\nbase_model: c\nmodels:\n  - model: a\n  - model: b\nparameters: "
                             "{weight: 1}\n")
                    .warnings,
                ElementsAre(HasSubstr("r.yaml:4: SETTINGS DIFFER: config.json of a says")));
    EXPECT_THAT(models
                    .resolve("merge_method: passthrough\nslices:\n  - sources: [{model: a}]\n  - sources:\n    - "
                             "{model: b}\n")
                    .warnings,
                ElementsAre(HasSubstr("r.yaml:5: SETTINGS DIFFER: config.json of b says")));
    // One that gives its tokenizer only does not take part.
    EXPECT_THAT(models.resolve("merge_method: passthrough\nmodels: [{model: a}]\ntokenizer_source: c\n").warnings,
                IsEmpty());
}

TEST(Settings, ThatSayTheSameOrNothingDoNotWarn) {
    SmallModels models;
    add(models, "a", llama);
    add(models, "b", R"({"rope_theta":10000.0,"num_hidden_layers":7,"vocab_size":5,"max_position_embeddings":9})");
    add(models, "c", "{}");
    EXPECT_THAT(models.resolve(linear).warnings, IsEmpty());
    models.files.contents.erase("c/config.json");
    EXPECT_THAT(models.resolve(linear).warnings, IsEmpty());
    add(models, "a", R"({"rope_scaling":{"factor":8,"type":"x"}})");
    add(models, "b", R"({"rope_scaling":{"type":"x","factor":8.0}})");
    EXPECT_THAT(models.resolve(linear).warnings, IsEmpty());
    add(models, "b", R"({"text_config":{"rope_scaling":{"type":"x","factor":4.0}}})");
    EXPECT_THAT(models.resolve(linear).warnings, ElementsAre(HasSubstr("rope_scaling")));
}

TEST(Settings, NameAFewOfManyModels) {
    SmallModels models;
    add(models, "base", llama);
    std::string yaml = "merge_method: ties\nbase_model: base\nparameters: {weight: 1}\nmodels:\n";
    for (int i = 0; i < 9; ++i) {
        add(models, fmt::format("m{}", i), R"({"rope_theta":5})");
        yaml += fmt::format("  - model: m{}\n", i);
    }
    EXPECT_THAT(models.resolve(yaml).warnings,
                ElementsAre(AllOf(HasSubstr("of m0, m1, m2, m3 and 5 more says rope_theta 5,"), Not(HasSubstr("m4")))));
}

}  // namespace
}  // namespace amalgam
