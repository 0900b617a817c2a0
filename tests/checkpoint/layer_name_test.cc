#include <gmock/gmock.h>

#include <algorithm>

#include "src/checkpoint/checkpoint.h"

namespace amalgam {
namespace {

void expect_layer(std::string_view name, const std::string& tower, int64_t layer, const std::string& rest) {
    const LayerName found = layer_name(name);
    EXPECT_EQ(found.tower, tower) << name;
    EXPECT_EQ(found.layer, layer) << name;
    EXPECT_EQ(found.rest, rest) << name;
}

TEST(LayerName, IsTheFirstNumberOfTheName) {
    expect_layer("model.layers.17.self_attn.q_proj.weight", "model.layers", 17, "self_attn.q_proj.weight");
    expect_layer("bert.encoder.layer.0.attention.self.query.weight", "bert.encoder.layer", 0,
                 "attention.self.query.weight");
    expect_layer("vision_tower.blocks.3.norm1.weight", "vision_tower.blocks", 3, "norm1.weight");
    expect_layer("model.layers.2.mlp.experts.63.w1.weight", "model.layers", 2, "mlp.experts.63.w1.weight");
    expect_layer("h.007.ln", "h", 7, "ln");
    expect_layer("0.weight", "", 0, "weight");
    expect_layer("layers.5", "layers", 5, "");
}

TEST(LayerName, NamesWithoutANumberHaveNone) {
    for (const char* name : {"", ".", "..", "model.embed_tokens.weight", "layer1.weight", "a.1b.c", "a.-1.c", "a.+1.c",
                             "a. 1.c", "a.\xd9\xa1.c"})
        expect_layer(name, "", -1, "");
}

TEST(LayerName, MoreDigitsThanANumberHoldsAreAName) {
    expect_layer("a.9223372036854775807.b", "a", INT64_MAX, "b");
    expect_layer("a.9223372036854775808.b", "", -1, "");
    expect_layer("a.99999999999999999999.4.b", "a.99999999999999999999", 4, "b");
}

TEST(NaturalLess, NumbersCompareAsNumbers) {
    EXPECT_TRUE(natural_less("layers.2.a", "layers.10.a"));
    EXPECT_FALSE(natural_less("layers.10.a", "layers.2.a"));
    EXPECT_TRUE(natural_less("layers.10.a", "layers.10.b"));
    EXPECT_TRUE(natural_less("a", "a1"));
    EXPECT_TRUE(natural_less("a2b", "a2c"));
    EXPECT_TRUE(natural_less("a99999999999999999999998", "a99999999999999999999999"));
    EXPECT_FALSE(natural_less("a", "a"));
}

/// Any two different names have one order, and it is transitive: all triples of a set that has every kind of corner.
TEST(NaturalLess, IsATotalOrder) {
    const std::vector<std::string> names = {"",
                                            "0",
                                            "00",
                                            "1",
                                            "01",
                                            "10",
                                            "a",
                                            "a0",
                                            "a00",
                                            "a1",
                                            "a01",
                                            "a10",
                                            "a1b",
                                            "a01b",
                                            "a.1",
                                            "a-1",
                                            "a:1",
                                            "a.10",
                                            "a1.0",
                                            "a1.",
                                            "a1a",
                                            "A",
                                            "b",
                                            "\xff",
                                            "a\xff",
                                            "9",
                                            "/",
                                            ":",
                                            "7",
                                            "007",
                                            "a7z",
                                            "a007",
                                            "a07z",
                                            "1a1",
                                            "1a01",
                                            "01a1",
                                            std::string(1, '\0')};
    for (const auto& a : names) {
        EXPECT_FALSE(natural_less(a, a));
        for (const auto& b : names) {
            EXPECT_EQ(natural_less(a, b) + natural_less(b, a), a == b ? 0 : 1) << a << " " << b;
            for (const auto& c : names)
                EXPECT_TRUE(!natural_less(a, b) || !natural_less(b, c) || natural_less(a, c))
                    << a << " " << b << " " << c;
        }
    }
}

}  // namespace
}  // namespace amalgam
