#include "src/checkpoint/output_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "src/base/error.h"

namespace amalgam {
namespace {

using Json = nlohmann::ordered_json;
using testing::ElementsAre;
using testing::HasSubstr;

struct Shaped {
    std::string name;
    std::vector<int64_t> shape;
};

VocabularyTensors vocabulary(const std::vector<Shaped>& tensors) { return vocabulary_tensors(tensors); }

VocabularyTensors untied(int64_t rows) {
    return vocabulary({{"model.embed_tokens.weight", {rows, 8}},
                       {"model.layers.0.mlp.up_proj.weight", {rows, 8}},
                       {"lm_head.weight", {rows, 8}}});
}
VocabularyTensors tied(int64_t rows) { return vocabulary({{"model.embed_tokens.weight", {rows, 8}}}); }

OutputConfig change(const std::string& config, const ConfigChanges& changes) {
    return output_config(std::vector<std::string>{config}, 0, changes);
}

const std::string llama =
    R"({"architectures":["LlamaForCausalLM"],"num_hidden_layers":3,"vocab_size":64,"rms_norm_eps":1e-05,)"
    R"("eos_token_id":[1,2,3],"rope_theta":500000.0,"big":9007199254740993,"tie_word_embeddings":false,"torch_dtype":"float32"})";

TEST(OutputConfig, NothingChangedIsTheSameConfig) {
    std::ifstream file(AMALGAM_SOURCE_DIR "/tests/data/zoo/models/base/config.json");
    std::stringstream text;
    text << file.rdbuf();
    ASSERT_GT(text.str().size(), 100u);
    ConfigChanges changes;
    changes.donor = changes.written = untied(232);
    changes.dtype = Dtype::bf16;
    const OutputConfig result = change(text.str(), changes);
    EXPECT_EQ(result.text, text.str().back() == '\n' ? text.str() : text.str() + "\n");
    EXPECT_THAT(result.warnings, testing::IsEmpty());
}

TEST(OutputConfig, KeepsOrderAndNumbers) {
    ConfigChanges changes;
    changes.dtype = Dtype::bf16;
    changes.donor = changes.written = untied(64);
    EXPECT_EQ(
        Json::parse(change(llama, changes).text).dump(),
        R"({"architectures":["LlamaForCausalLM"],"num_hidden_layers":3,"vocab_size":64,"rms_norm_eps":1e-05,)"
        R"("eos_token_id":[1,2,3],"rope_theta":500000.0,"big":9007199254740993,"tie_word_embeddings":false,"torch_dtype":"bfloat16"})");
}

TEST(OutputConfig, InfinityAsPythonWritesItStays) {
    ConfigChanges changes;
    changes.dtype = Dtype::f16;
    const OutputConfig result =
        change(R"({"time_step_limit": [0.0, Infinity], "dtype": "bfloat16", "s": "NaN"})", changes);
    EXPECT_THAT(result.text, HasSubstr("    Infinity\n"));
    EXPECT_THAT(result.text, HasSubstr(R"("s": "NaN")"));
    EXPECT_THAT(result.text, HasSubstr(R"("dtype": "float16")"));
    EXPECT_THAT(result.text, testing::Not(HasSubstr("torch_dtype")));
}

TEST(OutputConfig, DtypeGoesWhereTheDonorHasIt) {
    ConfigChanges changes;
    changes.dtype = Dtype::f16;
    EXPECT_EQ(Json::parse(change(R"({"a":1})", changes).text).dump(), R"({"a":1,"torch_dtype":"float16"})");
    EXPECT_EQ(Json::parse(change(R"({"transformers_version":"5.1.0"})", changes).text).dump(),
              R"({"transformers_version":"5.1.0","dtype":"float16"})");
    EXPECT_EQ(
        Json::parse(
            change(
                R"({"dtype":"float32","text_config":{"dtype":"float32","dtypes":"x"},"vision_config":{"torch_dtype":null},"other":{"dtype":"float32"}})",
                changes)
                .text)
            .dump(),
        R"({"dtype":"float16","text_config":{"dtype":"float16","dtypes":"x"},"vision_config":{"torch_dtype":"float16"},"other":{"dtype":"float32"}})");
    EXPECT_EQ(Json::parse(change(R"({"dtype":"float32"})", {}).text).dump(), R"({"dtype":"float32"})")
        << "unknown: left alone";
}

TEST(OutputConfig, AStaleLayerCountIsCorrected) {
    ConfigChanges changes;
    changes.tower = "model.layers";
    changes.layers = 2;
    const auto stays = [&](const std::string& config) {
        const OutputConfig result = change(config, changes);
        return Json::parse(result.text) == Json::parse(config) && result.warnings.empty();
    };
    OutputConfig result = change(R"({"num_hidden_layers":3,"layer_types":["a","b","c"],"n":1})", changes);
    EXPECT_EQ(Json::parse(result.text).dump(), R"({"num_hidden_layers":2,"layer_types":["a","b"],"n":1})");
    EXPECT_THAT(result.warnings, ElementsAre("config.json says num_hidden_layers 3, but the tensors have 2 layers "
                                             "(model.layers): a merge corrects it"));
    EXPECT_EQ(Json::parse(change(R"({"n_layer":1})", changes).text).dump(), R"({"n_layer":2})");
    result = change(R"({"num_hidden_layers":1,"layer_types":["a"]})", changes);
    EXPECT_EQ(Json::parse(result.text).dump(), R"({"num_hidden_layers":1,"layer_types":["a"]})");
    EXPECT_THAT(result.warnings, ElementsAre(HasSubstr("left as it is, since layer_types")));

    EXPECT_TRUE(stays(R"({"num_hidden_layers":2})"));
    EXPECT_TRUE(stays(R"({"n":3})"));
    EXPECT_TRUE(stays(R"({"num_hidden_layers":1,"num_nextn_predict_layers":1})"));
    EXPECT_TRUE(stays(R"({"num_layers":3,"is_encoder_decoder":true})"));
    EXPECT_TRUE(stays(R"({"num_hidden_layers":3,"vision_config":{"depth":2}})"));
    EXPECT_TRUE(stays(R"({"text_config":{"num_hidden_layers":3}})"));
    EXPECT_FALSE(stays(R"({"num_hidden_layers":3,"num_nextn_predict_layers":0})"));
    changes.tower = "albert.encoder.albert_layer_groups";
    EXPECT_TRUE(stays(R"({"num_hidden_layers":12})"));
    changes.tower = "h";
    changes.layers = int64_t(1) << 50;
    EXPECT_TRUE(stays(R"({"num_hidden_layers":9007199254740993})"));
    changes = {};
    EXPECT_TRUE(stays(R"({"num_hidden_layers":12})"));
}

TEST(OnlyTower, IsTheOneOfAllLayers) {
    const auto of = [](const std::vector<Shaped>& tensors) {
        const OnlyTower tower = only_tower(tensors);
        return std::pair(tower.name(), tower.layers());
    };
    EXPECT_EQ(of({{"h.0.w", {}}, {"h.3.w", {}}, {"x", {}}}), std::pair(std::string("h"), int64_t(4)));
    EXPECT_EQ(of({{"x", {}}}), std::pair(std::string(), int64_t(0)));
    EXPECT_EQ(of({{"h.9223372036854775807.w", {}}}), std::pair(std::string(), int64_t(0)));
    EXPECT_EQ(of({{"a.0.w", {}}, {"b.0.w", {}}, {"a.1.w", {}}}), std::pair(std::string(), int64_t(0)));
    EXPECT_EQ(of({{"a.0.w", {}}, {"b.0.w", {}}, {"c.1.w", {}}}), std::pair(std::string(), int64_t(0)));
}

TEST(OutputConfig, VocabularyFollowsTheRowsWritten) {
    ConfigChanges changes;
    changes.donor = untied(64);
    changes.written = untied(62);
    OutputConfig result = change(llama, changes);
    EXPECT_EQ(Json::parse(result.text)["vocab_size"], 62);
    EXPECT_THAT(result.warnings, testing::IsEmpty());

    changes.donor = untied(62);  // the donor's own config was wrong
    result = change(llama, changes);
    EXPECT_EQ(Json::parse(result.text)["vocab_size"], 62);
    EXPECT_THAT(result.warnings, ElementsAre(HasSubstr("config.json says vocab_size 64")));

    // Nested, with eight rows that vocab_size does not count, as Mllama has it.
    const std::string mllama =
        R"({"architectures":["MllamaForConditionalGeneration"],"text_config":{"vocab_size":64,"num_hidden_layers":1}})";
    const auto rows = [](int64_t embedding, int64_t head) {
        return vocabulary({{"language_model.model.embed_tokens.weight", {embedding, 8}},
                           {"language_model.lm_head.weight", {head, 8}}});
    };
    changes.donor = rows(72, 64);
    changes.written = rows(72, 64);
    EXPECT_EQ(Json::parse(change(mllama, changes).text)["text_config"]["vocab_size"], 64);
    changes.written = rows(70, 62);
    result = change(mllama, changes);
    EXPECT_EQ(Json::parse(result.text)["text_config"]["vocab_size"], 62);
    EXPECT_FALSE(Json::parse(result.text).contains("vocab_size"));
}

TEST(OutputConfig, VocabularyOfOtherModelsIsLeftAlone) {
    ConfigChanges changes;
    changes.donor = changes.written = vocabulary({{"embeddings.word_embeddings.weight", {60, 8}}});
    EXPECT_EQ(Json::parse(change(R"({"architectures":["BertModel"],"vocab_size":64})", changes).text).dump(),
              R"({"architectures":["BertModel"],"vocab_size":64})");
    changes.written = vocabulary({{"a.embed_tokens.weight", {60, 8}}, {"b.embed_tokens.weight", {40, 8}}});
    EXPECT_EQ(Json::parse(change(R"({"architectures":["XForCausalLM"],"vocab_size":64})", changes).text)["vocab_size"],
              64);
    changes.written = changes.donor = vocabulary({{"blocks.0.qkv.weight", {60, 8}}});
    EXPECT_EQ(Json::parse(change(R"({"architectures":["ViTModel"],"num_hidden_layers":1})", changes).text).dump(),
              R"({"architectures":["ViTModel"],"num_hidden_layers":1})");
}

TEST(OutputConfig, TyingFollowsTheTensorsWritten) {
    const auto tie = [](const std::string& config, const VocabularyTensors& donor, const VocabularyTensors& written) {
        ConfigChanges changes;
        changes.donor = donor;
        changes.written = written;
        const Json json = Json::parse(change(config, changes).text);
        return json.contains("tie_word_embeddings") ? json["tie_word_embeddings"].dump() : "absent";
    };
    const std::string start = R"({"architectures":["LlamaForCausalLM"])";
    const std::string yes = start + R"(,"tie_word_embeddings":true})", no = start + R"(,"tie_word_embeddings":false})";
    EXPECT_EQ(tie(yes, tied(8), tied(8)), "true");
    EXPECT_EQ(tie(yes, tied(8), untied(8)), "false") << "another model brought a head";
    EXPECT_EQ(tie(yes, untied(8), untied(8)), "false") << "stored twice: the loader must not ignore the merged head";
    EXPECT_EQ(tie(no, untied(8), untied(8)), "false");
    EXPECT_EQ(tie(no, tied(8), tied(8)), "true") << "no head would be loaded";
    EXPECT_EQ(tie(start + "}", tied(8), tied(8)), "absent") << "the default holds";
    EXPECT_EQ(tie(start + "}", untied(8), untied(8)), "absent");
    EXPECT_EQ(tie(start + "}", tied(8), untied(8)), "false");
    EXPECT_EQ(tie(start + "}", untied(8), tied(8)), "true");
    // No language model: nothing is invented, and what is said stays.
    EXPECT_EQ(tie(R"({"architectures":["MistralModel"],"tie_word_embeddings":false})", tied(8), tied(8)), "false");
    EXPECT_EQ(tie(R"({"architectures":["BertModel"]})", tied(8), tied(8)), "absent");
    // T5 scales by this key.
    EXPECT_EQ(
        tie(R"({"architectures":["T5ForConditionalGeneration"],"is_encoder_decoder":true,"tie_word_embeddings":true})",
            untied(8), untied(8)),
        "true");
    // Heads of other names have the embedding's shape.
    const auto named = [](const std::string& head) {
        return vocabulary({{"transformer.wte.weight", {9, 4}}, {head, {9, 4}}});
    };
    EXPECT_EQ(tie(yes, tied(9), named("output.weight")), "false");
    EXPECT_EQ(tie(yes, tied(9), named("embed_out.weight")), "false");
    EXPECT_EQ(tie(yes, tied(9), named("transformer.wpe.weight")), "false") << "same shape: cannot be told from a head";
    EXPECT_EQ(tie(yes, tied(9), named("position_embeddings.weight")), "true");
    EXPECT_EQ(tie(yes, tied(9), named("transformer.h.0.attn.weight")), "true");
}

TEST(OutputConfig, TyingInNestedSettings) {
    ConfigChanges changes;
    changes.donor = tied(8);
    changes.written = untied(8);
    const std::string config =
        R"({"architectures":["XForConditionalGeneration"],"tie_word_embeddings":true,"text_config":{"tie_word_embeddings":true}})";
    EXPECT_EQ(
        Json::parse(change(config, changes).text).dump(),
        R"({"architectures":["XForConditionalGeneration"],"tie_word_embeddings":false,"text_config":{"tie_word_embeddings":false}})");
}

using Sources = std::vector<std::pair<int, int64_t>>;

Json sliced(const std::vector<std::string>& configs, int donor, const Sources& sources,
            std::vector<std::string>* warnings = nullptr) {
    ConfigChanges changes;
    changes.layer_sources = sources;
    const OutputConfig result = output_config(configs, donor, changes);
    if (warnings) *warnings = result.warnings;
    return Json::parse(result.text);
}

TEST(OutputConfig, LayerCountByAnyName) {
    for (const char* key : {"num_hidden_layers", "n_layer", "num_layers", "n_layers"}) {
        const std::string config = std::string(R"({"a":1,")") + key + R"(":2,"z":0})";
        EXPECT_EQ(sliced({config}, 0, {{0, 0}, {0, 1}, {0, 1}}).dump(),
                  std::string(R"({"a":1,")") + key + R"(":3,"z":0})");
    }
    std::vector<std::string> warnings;
    EXPECT_EQ(sliced({R"({"depth":2})"}, 0, {{0, 0}}, &warnings).dump(), R"({"depth":2})");
    EXPECT_THAT(warnings, ElementsAre(HasSubstr("set it to 1 by hand")));
}

TEST(OutputConfig, ListsWithOneEntryALayerFollow) {
    const std::string a =
        R"({"num_hidden_layers":3,"layer_types":["s","f","s"],"eos_token_id":[7,8,9],"no_rope_layers":[1,0,1],"architectures":["A","B","C"],"sizes":[1,2,3],"pair":[1,2]})";
    const std::string b = R"({"num_hidden_layers":2,"layer_types":["x","y"],"no_rope_layers":[0,0],"sizes":[10,20]})";
    EXPECT_EQ(
        sliced({a, b}, 0, {{0, 0}, {1, 1}, {0, 2}, {0, 1}}).dump(),
        R"({"num_hidden_layers":4,"layer_types":["s","y","s","f"],"eos_token_id":[7,8,9],"no_rope_layers":[1,0,1,0],"architectures":["A","B","C"],"sizes":[1,20,3,2],"pair":[1,2]})");
    EXPECT_EQ(sliced({R"({"num_hidden_layers":3,"hybrid_override_pattern":"M-*"})"}, 0,
                     {{0, 2}, {0, 0}, {0, 0}, {0, 1}})["hybrid_override_pattern"],
              "*MM-");
}

TEST(OutputConfig, ListsOfLayerNumbersAreRenumbered) {
    const std::string a =
        R"({"num_hidden_layers":4,"mlp_only_layers":[0,3],"cross_attention_layers":[],"moe_layers":[0,1,2,3]})";
    const std::string b =
        R"({"num_hidden_layers":4,"mlp_only_layers":[],"cross_attention_layers":[2],"moe_layers":[1]})";
    EXPECT_EQ(sliced({a, b}, 0, {{0, 3}, {1, 0}, {1, 2}, {0, 0}, {0, 1}}).dump(),
              R"({"num_hidden_layers":5,"mlp_only_layers":[0,3],"cross_attention_layers":[2],"moe_layers":[0,3,4]})");
}

TEST(OutputConfig, NestedSettingsAreTheTextModels) {
    const std::string config =
        R"({"vision_config":{"num_hidden_layers":2,"layer_types":["v","w"]},"text_config":{"num_hidden_layers":2,"layer_types":["s","f"]}})";
    EXPECT_EQ(
        sliced({config}, 0, {{0, 1}, {0, 0}, {0, 0}}).dump(),
        R"({"vision_config":{"num_hidden_layers":2,"layer_types":["v","w"]},"text_config":{"num_hidden_layers":3,"layer_types":["f","s","s"]}})");
}

TEST(OutputConfig, ModelsWithoutTheSettingGiveTheDonors) {
    std::vector<std::string> warnings;
    const std::string a = R"({"num_hidden_layers":3,"layer_types":["s","f","s"]})", b = R"({"num_hidden_layers":9})";
    EXPECT_EQ(sliced({a, b, ""}, 0, {{0, 0}, {1, 1}, {2, 1}}, &warnings)["layer_types"], Json({"s", "f", "f"}));
    EXPECT_THAT(warnings, ElementsAre(HasSubstr("model 2"), HasSubstr("model 3")));
    EXPECT_THROW(sliced({a, b}, 0, {{1, 3}}), Error);
    EXPECT_THROW(sliced({a}, 0, {{0, 3}}), Error);
    EXPECT_THROW(sliced({a}, 0, {{1, 0}}), Error);
}

TEST(OutputConfig, SettingsByPositionWarn) {
    std::vector<std::string> warnings;
    const std::string config =
        R"({"num_hidden_layers":3,"first_k_dense_replace":1,"decoder_sparse_step":1,"sliding_window_pattern":6})";
    sliced({config}, 0, {{0, 0}, {0, 2}}, &warnings);
    EXPECT_THAT(warnings, ElementsAre(HasSubstr("first_k_dense_replace = 1"), HasSubstr("sliding_window_pattern = 6")));
    sliced({config}, 0, {{0, 0}, {0, 1}, {0, 2}}, &warnings);
    EXPECT_THAT(warnings, testing::IsEmpty()) << "nothing moved";
}

TEST(OutputConfig, InvalidDonorIsAnError) {
    for (const std::string config :
         {"{", "[]", "3", "{\"a\":}", "{\"a\":\"\xff\"}", "{\"a\":1} x", "{\"a\":1e999}", "nonsense"})
        EXPECT_THROW(change(config, {}), Error) << config;
    EXPECT_THROW(change("{\"a\":" + std::string(5000, '[') + std::string(5000, ']') + "}", {}), Error);
    EXPECT_THROW(output_config({}, 0, {}), Error);
    EXPECT_EQ(change("", {}).text, "") << "no config: none is made up";
}

}  // namespace
}  // namespace amalgam
