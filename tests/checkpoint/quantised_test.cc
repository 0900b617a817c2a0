#include <gmock/gmock.h>

#include "src/base/error.h"
#include "src/checkpoint/checkpoint.h"
#include "tests/base/memory_files.h"
#include "tests/checkpoint/small_checkpoint.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using testing::ThrowsMessage;

class Quantised : public testing::Test {
  protected:
    void model(const std::vector<SmallTensor>& tensors, const std::string& config = "{}") {
        files_.contents = {{"m/model.safetensors", small_safetensors(tensors)}, {"m/config.json", config}};
    }
    template <class Matcher>
    void expect_refused(Matcher matcher) {
        EXPECT_THAT([&] { open_checkpoint(files_, "m"); },
                    ThrowsMessage<Error>(AllOf(StartsWith("m: the checkpoint is quantised: "), matcher,
                                               HasSubstr("dequantise it first"))));
        EXPECT_NO_THROW(open_checkpoint(files_, "m", false));
    }
    void expect_accepted() { EXPECT_NO_THROW(open_checkpoint(files_, "m")); }

    MemoryFiles files_;
};

TEST_F(Quantised, TensorsOfEveryKnownSchemeAreNamed) {
    struct Scheme {
        std::vector<SmallTensor> tensors;
        std::string evidence;
    };
    const std::vector<Scheme> schemes = {
        {{{"l.0.q.qweight", "I32"}, {"l.0.q.qzeros", "I32"}, {"l.0.q.scales", "F16"}, {"l.0.q.g_idx", "I32"}},
         "'l.0.q.g_idx' (I32), 'l.0.q.qweight' (I32)"},
        {{{"q.weight", "F8_E4M3"}, {"q.weight_scale_inv", "F32"}},
         "1 tensor of a quantised model: 'q.weight_scale_inv' (F32)"},
        {{{"q.weight", "F8_E4M3"}, {"q.weight_scale", "BF16"}, {"q.input_scale", "F32"}},
         "'q.input_scale' (F32), 'q.weight_scale' (BF16)"},
        {{{"q.weight", "F8_E5M2"}, {"q.scale_inv", "F32"}}, "'q.scale_inv'"},
        {{{"q.weight", "F8_E4M3"}, {"q.scale_weight", "F32"}}, "'q.scale_weight'"},
        {{{"experts.up", "F8_E4M3"}, {"experts.up_scale", "F32"}}, "'experts.up_scale'"},
        {{{"experts.up_blocks", "U8"}, {"experts.up_scales", "U8"}}, "'experts.up_scales'"},
        {{{"weight", "I8"}, {"weight_scale", "F32"}}, "'weight_scale'"},
        {{{"q.weight_packed", "I32"}, {"q.weight_shape", "I64"}}, "'q.weight_packed'"},
        {{{"q.weight", "I8"}, {"q.SCB", "F32"}}, "'q.SCB'"},
        {{{"q.weight", "U8"},
          {"q.weight.absmax", "U8"},
          {"q.weight.quant_map", "F32"},
          {"q.weight.quant_state.bitsandbytes__nf4", "U8"}},
         "3 tensors of a quantised model: 'q.weight.absmax'"},
        {{{"q.weight", "BF16"}, {"q.weight.absmax", "U8"}}, "'q.weight.absmax'"},
    };
    for (const Scheme& scheme : schemes) {
        SCOPED_TRACE(scheme.evidence);
        model(scheme.tensors);
        expect_refused(AllOf(HasSubstr(scheme.evidence), Not(HasSubstr("config.json"))));
    }
}

TEST_F(Quantised, ManyTensorsAreCounted) {
    std::vector<SmallTensor> tensors;
    for (int i = 0; i < 50; ++i) tensors.push_back({fmt::format("l.{}.qweight", i), "I32"});
    model(tensors);
    expect_refused(AllOf(HasSubstr("50 tensors"), HasSubstr("...")));
}

TEST_F(Quantised, TheConfigSaysSo) {
    for (const char* method : {"gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors", "mxfp4"}) {
        model({{"a"}}, fmt::format(R"({{"quantization_config":{{"quant_method":"{}","bits":4}}}})", method));
        expect_refused(
            AllOf(HasSubstr(fmt::format("config.json has quantization_config with quant_method = '{}'", method)),
                  HasSubstr("remove the entry")));
    }
    model({{"a"}}, R"({"quantization_config":{}, "limit":Infinity})");
    expect_refused(HasSubstr("config.json has quantization_config"));
    model({{"a"}}, R"({"text_config":{"compression_config":{"format":"x\u001b"}}})");
    expect_refused(HasSubstr("text_config.compression_config with format = 'x\\x1b'"));
}

TEST_F(Quantised, WhatOnlyLooksLikeItIsAccepted) {
    model({{"q.weight", "F8_E4M3"}, {"k.weight", "F8_E5M2"}});
    expect_accepted();
    model({{"q.weight", "BF16"},
           {"q.weight_scale", "BF16"},
           {"q.input_scale", "F32"},
           {"q.scale", "F32"},
           {"logit_scale", "F32"}});
    expect_accepted();
    model({{"ln.scale", "F32"}, {"g_idx", "F32"}, {"qweight", "BF16"}, {"weight_zero_point", "F32"}});
    expect_accepted();
    model({{"mask", "BOOL"}, {"mask_scale", "F32"}, {"position_ids", "I64"}});
    expect_accepted();
    model({{"a"}},
          R"({"quantization_config":null,"text_config":{"quantization_config":null},"x":["quantization_config"]})");
    expect_accepted();
}

}  // namespace
}  // namespace amalgam
