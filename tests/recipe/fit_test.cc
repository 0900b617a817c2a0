// Models whose tensors have the same names and shapes, and that are of one kind or not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/recipe/check_tokenizers.h"
#include "tests/recipe/small_models.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
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

// ---- stacks

std::string stack(const std::string& first, const std::string& last) {
    return "merge_method: passthrough\nslices:\n  - sources: [{model: " + first +
           ", layer_range: [0, 2]}]\n  - sources:\n      - {model: " + last + ", layer_range: [1, 2]}\n";
}

/// Two layers or more; `widths`: columns of each layer's feed-forward tensor.
std::vector<SmallTensor> sized(int hidden, const std::vector<int>& widths, int vocabulary = 11) {
    std::vector<SmallTensor> tensors = {{"model.embed_tokens.weight", "F32", {vocabulary, hidden}},
                                        {"model.norm.weight", "F32", {hidden}},
                                        {"lm_head.weight", "F32", {vocabulary, hidden}}};
    for (size_t i = 0; i < widths.size(); ++i)
        tensors.push_back({fmt::format("model.layers.{}.mlp.down_proj.weight", i), "F32", {hidden, widths[i]}});
    return tensors;
}

TEST(Stack, OfOtherSizesIsAnError) {
    SmallModels models;
    models.add("a", sized(4, {6, 6}), R"({"hidden_size":4,"num_attention_heads":2})");
    models.add("b", sized(8, {12, 12}), R"({"hidden_size":8,"num_attention_heads":2})");
    EXPECT_EQ(
        models.error_of(stack("a", "b")),
        "r.yaml:5: layers of a and b cannot be stacked: hidden_size is 4 and 8; mlp.down_proj.weight of a layer is "
        "[4, 6] and [8, 12]; one config.json has to describe them all");
    EXPECT_EQ(models.error_of(stack("a", "a")), "no error");
    // What configs do not say, tensors tell.
    models.add("c", sized(4, {7, 7}));
    EXPECT_THAT(models.error_of(stack("a", "c")),
                HasSubstr("a and c cannot be stacked: mlp.down_proj.weight of a layer"));
    models.add("d", sized(8, {6, 6}));
    EXPECT_THAT(models.error_of(stack("a", "d")),
                HasSubstr("a and d cannot be stacked: mlp.down_proj.weight of a layer"));
    // Layers that share no name are seen to differ by the embedding.
    models.add("e", {{"model.embed_tokens.weight", "F32", {11, 8}}, {"model.layers.0.w"}, {"model.layers.1.w"}});
    EXPECT_THAT(models.error_of(stack("a", "e")), HasSubstr("model.embed_tokens.weight is 4 wide and 8"));
}

TEST(Stack, OfModelsWithLayersOfSeveralShapes) {
    SmallModels models;
    models.add("a", sized(4, {6, 9, 6}), R"({"intermediate_size":[6,9,6]})");
    models.add("b", sized(4, {6, 6, 12}), R"({"intermediate_size":[6,6,12]})");
    models.add("c", sized(4, {6, 6, 6}), R"({"intermediate_size":6})");
    for (const char* other : {"b", "c"}) {
        EXPECT_EQ(models.error_of(stack("a", other)), "no error");
        EXPECT_EQ(models.error_of(stack(other, "a")), "no error");
    }
    models.add("a", sized(4, {6, 9, 6}), R"({"head_dim":2})");
    models.add("b", sized(4, {6, 6, 12}), R"({"head_dim":3})");
    EXPECT_THAT(models.error_of(stack("a", "b")), HasSubstr("cannot be stacked: head_dim is 2 and 3;"));
}

TEST(Stack, OfOtherHeadsInTheSameShapesWarns) {
    SmallModels models;
    models.add("a", sized(4, {6, 6}), R"({"num_attention_heads":2})");
    models.add("b", sized(4, {6, 6}), R"({"num_attention_heads":4})");
    EXPECT_THAT(models.resolve(stack("a", "b")).warnings,
                ElementsAre(HasSubstr("r.yaml:5: SETTINGS DIFFER: config.json of b says num_attention_heads 4")));
}

TEST(Stack, BeginsAndEndsWithOneVocabulary) {
    SmallModels models;
    models.add("a", sized(4, {6, 6}, 11));
    models.add("b", sized(4, {6, 6}, 13));
    EXPECT_EQ(
        models.error_of(stack("a", "b")),
        "r.yaml:5: the first slice gives the embedding, of 11 rows (a), and the last the head, of 13 rows (b): begin "
        "and end with models of one vocabulary");
    // In between it does not matter.
    EXPECT_EQ(models.error_of(stack("a", "b") + "  - sources: [{model: a, layer_range: [1, 2]}]\n"), "no error");
    // Rows of an embedding that its own head has not.
    std::vector<SmallTensor> more = sized(4, {6, 6}, 11);
    more[0].shape = {15, 4};
    models.add("a", more);
    models.add("b", more);
    EXPECT_EQ(models.error_of(stack("a", "b")), "no error");
}

TEST(Stack, ThatEndsWithATiedModelWarns) {
    SmallModels models;
    models.add_llama("a");
    models.add_llama("b", {.tied = true});
    models.add_llama("c", {.tied = true});
    const Merge merge = models.resolve(stack("a", "b"));
    EXPECT_FALSE(has_task(merge, "lm_head.weight"));
    EXPECT_THAT(merge.warnings, ElementsAre("r.yaml:5: b of the last slice has no head, since it is tied to its "
                                            "embedding: the result is tied to the embedding of a, whose own head is "
                                            "dropped"));
    EXPECT_THAT(models.resolve(stack("b", "a")).warnings, IsEmpty());
    EXPECT_THAT(models.resolve(stack("b", "c")).warnings, IsEmpty());
}

// ---- tokenizers

const std::string two = "merge_method: linear\nmodels:\n  - model: a\n  - model: b\nparameters: {weight: 1}\n";

std::string tokenizer(int tokens) {
    std::string vocabulary;
    for (int i = 0; i < tokens; ++i) vocabulary += fmt::format("{}\"t{}\":{}", i ? "," : "", i, i);
    return "{\"model\":{\"type\":\"BPE\",\"vocab\":{" + vocabulary + "},\"merges\":[[\"a\",\"b\"]]}}";
}

TEST(Tokenizer, OfAModelThatHasNoneIsAnError) {
    SmallModels models;
    models.add_llama("a");
    models.add_llama("b");
    EXPECT_THAT(models.resolve(two + "tokenizer_source: b\n").warnings, IsEmpty());  // nobody has one
    models.files.contents["a/tokenizer.model"] = "x";
    EXPECT_THAT(models.error_of(two + "tokenizer_source: b\n"),
                HasSubstr("r.yaml:6: tokenizer_source: b has no tokenizer"));
    EXPECT_THAT(models.resolve(two).warnings, IsEmpty());
    models.files.contents.erase("a/tokenizer.model");
    models.files.contents["b/tokenizer.json"] = tokenizer(11);
    EXPECT_THAT(
        models.resolve(two).warnings,
        ElementsAre("r.yaml: NO TOKENIZER: a, whose tokenizer the result would get, has none; b has one: name it "
                    "in tokenizer_source"));
    EXPECT_THAT(models.resolve(two + "tokenizer_source: b\n").warnings, IsEmpty());
}

TEST(Tokenizer, WithMoreTokensThanRowsWarns) {
    SmallModels models;
    models.add_llama("a");
    models.add_llama("b");
    models.add_llama("large", {.vocabulary = 20});
    models.files.contents["large/tokenizer.json"] = tokenizer(18);
    const std::string large = two + "tokenizer_source: large\n";
    EXPECT_THAT(
        models.resolve(large).warnings,
        ElementsAre(HasSubstr("r.yaml:6: TOKENIZER TOO LARGE: that of large, which the result gets, has 18 tokens, "
                              "the result's embedding 11 rows: tokens from 11 on are out of range")));
    models.files.contents["large/tokenizer.json"] = tokenizer(11);  // rows that no token has
    EXPECT_THAT(models.resolve(large).warnings, IsEmpty());
    models.files.contents["large/tokenizer.json"] = "broken";
    EXPECT_THAT(models.resolve(large).warnings, ElementsAre(HasSubstr("has 20 tokens")));
    // Cut to the rows of another model.
    models.files.contents["large/tokenizer.json"] = tokenizer(20);
    EXPECT_THAT(models.resolve("merge_method: linear\nmodels: [{model: large}, {model: a}]\nparameters: {weight: 1}\n")
                    .warnings,
                Contains(HasSubstr("TOKENIZER TOO LARGE: that of large, which the result gets, has 20 tokens")));
}

TEST(Tokenizer, OfAnotherModelThanTheDonorWarns) {
    SmallModels models;
    for (const char* name : {"a", "b", "c"}) models.add_llama(name);
    for (const char* name : {"a", "b"}) models.files.contents[std::string(name) + "/tokenizer.json"] = tokenizer(11);
    EXPECT_THAT(models.resolve(linear).warnings, IsEmpty());
    models.files.contents["b/tokenizer.json"][40] = '5';
    EXPECT_THAT(
        models.resolve(linear).warnings,
        ElementsAre(HasSubstr("TOKENIZERS DIFFER: tokenizer.json of b is not that of a, which the result gets")));
    for (const char* name : {"a", "b"}) models.files.contents[std::string(name) + "/tokenizer.json"] = tokenizer(4000);
    EXPECT_THAT(models.resolve(linear).warnings, IsEmpty());
    models.files.contents["b/tokenizer.json"].back() = ' ';
    EXPECT_THAT(models.resolve(linear).warnings, ElementsAre(HasSubstr("TOKENIZERS DIFFER")));
}

TEST(TokenCount, OfEveryKindOfVocabulary) {
    EXPECT_EQ(token_count(tokenizer(7)), 7);
    EXPECT_EQ(token_count(R"({"added_tokens":[{"id":9,"content":"<s>"},{"id":3}],"model":{"vocab":{"a":0,"b":1}}})"),
              10);
    EXPECT_EQ(
        token_count(R"({"model":{"unk_id":50,"vocab":[["a",0],["b",-1.5],["c",12]]},"other":{"vocab":{"a":99}}})"), 3);
    EXPECT_EQ(token_count(R"({"model":{}})"), 0);
    EXPECT_EQ(token_count("[[[["), 0);
}

}  // namespace
}  // namespace amalgam
