#include <gmock/gmock.h>

#include "src/base/error.h"
#include "src/checkpoint/safetensors.h"

namespace amalgam {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::ThrowsMessage;

std::string map_of(const std::string& entries) { return R"({"weight_map":{)" + entries + "}}"; }

void expect_refused(const std::string& text, const std::string& message) {
    EXPECT_THAT([&] { parse_index(text); }, ThrowsMessage<Error>(HasSubstr(message))) << text;
}

TEST(Index, ReadsTheUsualForm) {
    EXPECT_THAT(
        parse_index(
            R"({"metadata": {"total_size": 12, "total_parameters": 3.5, "more": [{"weight_map": {}}, null, true]},
                               "weight_map": {"b": "model-00002-of-00002.safetensors", "a": "model-00001-of-00002.safetensors"}})"),
        ElementsAre(Pair("a", "model-00001-of-00002.safetensors"), Pair("b", "model-00002-of-00002.safetensors")));
}

TEST(Index, NeedsNothingButTheMap) {
    EXPECT_THAT(parse_index(map_of(R"("a":"x")")), ElementsAre(Pair("a", "x")));
    EXPECT_THAT(parse_index(R"({"metadata":{"total_size":-1e9},"weight_map":{"a":"x"},"other":[[["deep"]]]})"),
                ElementsAre(Pair("a", "x")));
    EXPECT_THAT(parse_index(R"({"metadata":null,"weight_map":{"a":"x"}})"), ElementsAre(Pair("a", "x")));
}

TEST(Index, OneFileHasOneName) {
    EXPECT_THAT(parse_index(map_of(R"("a":"./x","b":"sub//x","c":"sub/./x","d":"sub/x")")),
                ElementsAre(Pair("a", "x"), Pair("b", "sub/x"), Pair("c", "sub/x"), Pair("d", "sub/x")));
    EXPECT_THAT(parse_index(map_of(R"("a":"..x","b":"x..safetensors")")),
                ElementsAre(Pair("a", "..x"), Pair("b", "x..safetensors")));
}

TEST(Index, RefusesPathsThatLeaveTheFolder) {
    expect_refused(map_of(R"("a":"/etc/passwd")"), "absolute");
    expect_refused(map_of(R"("a":"//x")"), "absolute");
    for (const char* path : {"..", "../x", "x/../y", "x/..", "\\u002e./x"})
        expect_refused(map_of(fmt::format(R"("a":"{}")", path)), "'..'");
    expect_refused(map_of(R"("a":"x\u0000.safetensors")"), "control");
    expect_refused(map_of(R"("a":"x\n")"), "control");
}

TEST(Index, RefusesWhatIsNoFileName) {
    expect_refused(map_of(R"("a":"")"), "empty file name");
    expect_refused(map_of(R"("a":"./")"), "not the name of a file");
    for (const auto& [value, what] : {std::pair{"1", "a number"},
                                      {"-1", "a negative number"},
                                      {"null", "null"},
                                      {"true", "true"},
                                      {"{}", "an object"},
                                      {"[]", "an array"},
                                      {R"(["x"])", "an array"},
                                      {"1.5", "a number with"}})
        expect_refused(map_of(fmt::format(R"("a":{})", value)), std::string("has ") + what);
}

TEST(Index, RefusesDuplicates) {
    expect_refused(map_of(R"("a":"x","a":"x")"), "'a' appears twice");
    expect_refused(map_of(R"("a":"x","\u0061":"y")"), "'a' appears twice");
    expect_refused(R"({"weight_map":{"a":"x"},"weight_map":{"b":"x"}})", "weight_map appears twice");
    expect_refused(R"({"weight_map":{"a":"x"},"weight_map":1})", "weight_map appears twice");
}

TEST(Index, RefusesWhatIsNoIndex) {
    expect_refused("", "no text");
    expect_refused("{}", "no weight_map");
    expect_refused(R"({"metadata":{"weight_map":{"a":"x"}}})", "no weight_map");
    expect_refused(R"({"weight_map":{}})", "empty");
    for (const char* value : {"[]", "1", "null", "\"x\"", "true", "-1"}) {
        expect_refused(fmt::format(R"({{"weight_map":{}}})", value), "instead of an object");
        expect_refused(value, "instead of an object");
    }
    expect_refused(R"([{"weight_map":{"a":"x"}}])", "instead of an object");
    expect_refused(map_of(R"("a":"x",)"), "JSON");
    expect_refused(map_of(R"("a":"x")") + "{}", "JSON");
    expect_refused(map_of(R"("a":"x")") + std::string(1, '\0') + "{}", "NUL");
    expect_refused("\xef\xbb\xbf" + map_of(R"("a":"x")"), "byte order mark");
    expect_refused(std::string(100'000, '['), "array");
    expect_refused(R"({"metadata":)" + std::string(100'000, '['), "nested");
}

}  // namespace
}  // namespace amalgam
