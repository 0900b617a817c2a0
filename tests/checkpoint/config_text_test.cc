#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "src/checkpoint/checkpoint.h"

namespace amalgam {
namespace {

TEST(NonFiniteNumbers, BecomeStringsForAParser) {
    const std::string text = R"({"a":[0.0, Infinity],"b":-Infinity,"c":NaN})";
    const auto json = nlohmann::json::parse(quote_nonfinite(text));
    EXPECT_TRUE(json["a"][1].is_string());
    EXPECT_TRUE(json["b"].is_string());
    EXPECT_EQ(restore_nonfinite(json.dump()), R"({"a":[0.0,Infinity],"b":-Infinity,"c":NaN})");
    EXPECT_EQ(restore_nonfinite(quote_nonfinite(text)), text);
}

TEST(NonFiniteNumbers, StringsStayAsTheyAre) {
    for (const char* text :
         {R"({"NaN":"Infinity"})", R"({"a":"\"NaN","b":"\\"})", R"(["x\\\"Infinity"])", "", "\"", "\"\\", "{}"}) {
        EXPECT_EQ(quote_nonfinite(text), text);
        EXPECT_EQ(restore_nonfinite(text), text);
    }
    EXPECT_EQ(restore_nonfinite(R"("amalgam:nonfinite:x")"), R"("amalgam:nonfinite:x")");
    EXPECT_EQ(restore_nonfinite(R"("amalgam:nonfinite:NaN)"), R"("amalgam:nonfinite:NaN)");
}

}  // namespace
}  // namespace amalgam
