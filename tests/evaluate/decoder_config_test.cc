#include "src/evaluate/decoder_config.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "src/base/error.h"

namespace amalgam {
namespace {

using Json = nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

Json small(const std::string& family = "llama") {
    return {{"model_type", family},
            {"vocab_size", 50},
            {"hidden_size", 16},
            {"intermediate_size", 24},
            {"num_hidden_layers", 4},
            {"num_attention_heads", 4},
            {"num_key_value_heads", 2},
            {"max_position_embeddings", 64},
            {"rms_norm_eps", 1e-6},
            {"head_dim", 4},
            {"architectures", {"whatever"}}};
}

DecoderConfig parse(const Json& json, bool allow_unknown = false) {
    return parse_decoder_config(json.dump(), allow_unknown);
}

void expect_refused(const Json& changes, const std::string& what, const std::string& family = "llama") {
    Json json = small(family);
    json.update(changes);
    try {
        parse(json);
        ADD_FAILURE() << "accepted: " << changes;
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr(what)) << changes;
    }
}

TEST(DecoderConfig, ReadsSizesAndDefaults) {
    const DecoderConfig config = parse(small());
    EXPECT_EQ(config.vocabulary, 50);
    EXPECT_EQ(config.kv_heads, 2);
    EXPECT_EQ(config.head_dim, 4);
    EXPECT_FALSE(config.tied);
    EXPECT_EQ(config.attention_scale, 0.5f);
    EXPECT_THAT(config.windows, ElementsAre(0, 0, 0, 0));
    EXPECT_THAT(config.rope.frequencies, ElementsAre(1.0f, 0.01f));
    EXPECT_THAT(config.end_ids, ElementsAre());
}

TEST(DecoderConfig, ReadsBothFormsOfRopeAlike) {
    const Json scaling = {{"rope_type", "llama3"},
                          {"factor", 8.0},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 4.0},
                          {"original_max_position_embeddings", 32}};
    Json old_form = small(), new_form = small();
    old_form["rope_theta"] = 5e5;
    old_form["rope_scaling"] = scaling;
    old_form["torch_dtype"] = "bfloat16";
    new_form["rope_parameters"] = scaling;
    new_form["rope_parameters"]["rope_theta"] = 5e5;
    new_form["dtype"] = "bfloat16";
    EXPECT_EQ(parse(old_form).rope.frequencies, parse(new_form).rope.frequencies);
    // Wave lengths are 6.28 (shorter than 32 / 4: kept) and 4443 (longer than 32: stretched).
    EXPECT_THAT(parse(new_form).rope.frequencies, ElementsAre(1.0f, float(std::pow(5e5, -0.5) / 8)));
    EXPECT_EQ(parse(new_form).context, 256);
}

TEST(DecoderConfig, LinearScalingDividesFrequencies) {
    Json json = small();
    json["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
    EXPECT_THAT(parse(json).rope.frequencies, ElementsAre(0.5f, 0.005f));
}

TEST(DecoderConfig, YarnHasAnAttentionFactor) {
    Json json = small();
    json["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}};
    EXPECT_FLOAT_EQ(parse(json).rope.factor, float(0.1 * std::log(4.0) + 1));
    json["rope_scaling"]["attention_factor"] = 0.7;
    EXPECT_FLOAT_EQ(parse(json).rope.factor, 0.7f);
}

TEST(DecoderConfig, WindowsFollowFamilyAndLayerTypes) {
    Json json = small("mistral");
    json["sliding_window"] = 8;
    EXPECT_THAT(parse(json).windows, ElementsAre(8, 8, 8, 8));
    json["sliding_window"] = nullptr;
    EXPECT_THAT(parse(json).windows, ElementsAre(0, 0, 0, 0));
    json = small("qwen2");
    json["sliding_window"] = 8;
    EXPECT_THAT(parse(json).windows, ElementsAre(0, 0, 0, 0));
    json["use_sliding_window"] = true;
    json["max_window_layers"] = 3;
    EXPECT_THAT(parse(json).windows, ElementsAre(0, 0, 0, 8));
    json["layer_types"] = {"sliding_attention", "full_attention", "full_attention", "full_attention"};
    EXPECT_THAT(parse(json).windows, ElementsAre(8, 0, 0, 0));
    json = small("gemma2");
    json["sliding_window"] = 5;
    EXPECT_THAT(parse(json).windows, ElementsAre(5, 0, 5, 0));
}

TEST(DecoderConfig, FamiliesDiffer) {
    EXPECT_TRUE(parse(small("qwen2")).qkv_bias);
    EXPECT_FALSE(parse(small("qwen2")).output_bias);
    EXPECT_TRUE(parse(small("qwen3")).query_key_norm);
    const DecoderConfig gemma = parse(small("gemma2"));
    EXPECT_TRUE(gemma.tied && gemma.post_norms);
    EXPECT_EQ(gemma.norm_offset, 1);
    EXPECT_EQ(gemma.embedding_scale, 4);
    EXPECT_EQ(gemma.attention_scale, 1.0f / 16);
    EXPECT_EQ(gemma.attention_softcap, 50);
    EXPECT_EQ(gemma.logit_softcap, 30);
    EXPECT_EQ(gemma.activation, Activation::gelu_tanh);
}

TEST(DecoderConfig, EndIdsAreOneOrSeveral) {
    Json json = small();
    json["eos_token_id"] = 2;
    EXPECT_THAT(parse(json).end_ids, ElementsAre(2));
    EXPECT_THAT(parse_end_ids(R"({"eos_token_id": [2, 7], "do_sample": true})"), ElementsAre(2, 7));
    EXPECT_THAT(parse_end_ids("{}"), ElementsAre());
}

TEST(DecoderConfig, RefusesWhatItCannotComputeByName) {
    expect_refused({{"model_type", "mixtral"}}, "model_type is \"mixtral\"");
    expect_refused({{"model_type", "qwen4"}}, "did you mean \"qwen");
    expect_refused({{"hidden_act", "relu"}}, "hidden_act is \"relu\"");
    expect_refused({{"attention_bias", true}}, "attention_bias is true", "mistral");
    expect_refused({{"attention_bias", "yes"}}, "attention_bias is \"yes\"");
    expect_refused({{"rope_scaling", {{"rope_type", "longrope"}}}}, "rope_scaling.rope_type is \"longrope\"");
    expect_refused({{"rope_scaling", {{"type", "dynamic"}, {"factor", 2}}}}, "\"dynamic\"");
    expect_refused({{"rope_scaling", {{"type", "linear"}}}}, "rope_scaling.factor is missing");
    expect_refused({{"rope_scaling", {{"type", "linear"}, {"factor", 2}, {"beta_fast", 3}}}}, "rope_scaling.beta_fast");
    expect_refused({{"rope_scaling", 3}}, "rope_scaling is 3");
    expect_refused({{"layer_types", {"full_attention"}}}, "layer_types");
    expect_refused({{"layer_types", {"full_attention", "full_attention", "full_attention", "chunked_attention"}}},
                   "chunked_attention");
    expect_refused({{"quantization_config", {{"bits", 4}}}}, "quantization_config");
    expect_refused({{"partial_rotary_factor", 0.5}}, "partial_rotary_factor is 0.5");
    expect_refused({{"num_key_value_heads", 3}}, "num_key_value_heads is 3");
    expect_refused({{"head_dim", 5}}, "head_dim is 5");
    expect_refused({{"hidden_size", -16}}, "hidden_size is -16");
    expect_refused({{"hidden_size", 1e30}}, "hidden_size");
    expect_refused({{"vocab_size", nullptr}}, "vocab_size is missing");
    expect_refused({{"rms_norm_eps", 0}}, "rms_norm_eps is 0");
    expect_refused({{"rope_theta", "NaN"}}, "rope_theta");
    expect_refused({{"eos_token_id", -1}}, "eos_token_id");
    expect_refused({{"sliding_window", 8}}, "sliding_window is 8");
    expect_refused({{"residual_multiplier", 0.22}}, "residual_multiplier is 0.22");
    EXPECT_THROW(parse_decoder_config(""), Error);
    EXPECT_THROW(parse_decoder_config("[]"), Error);
    EXPECT_THROW(parse_decoder_config("{\"a\": "), Error);
}

TEST(DecoderConfig, UnknownKeysCanBeAllowed) {
    Json json = small();
    json["residual_multiplier"] = 0.22;
    EXPECT_THAT(parse(json, true).warnings, ElementsAre(HasSubstr("residual_multiplier")));
    json["residual_multiplier"] = nullptr;
    EXPECT_THAT(parse(json).warnings, ElementsAre());
}

}  // namespace
}  // namespace amalgam
