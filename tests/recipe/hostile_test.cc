// Text made to break the reader: an error in bounded time and memory, never a crash. Run under the sanitizers too.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <random>

#include "src/base/error.h"
#include "src/recipe/recipe.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

std::string error_of(const std::string& text, const std::string& path) {
    try {
        parse_recipe(text, path);
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

std::string repeated(const std::string& text, size_t count) {
    std::string result;
    result.reserve(text.size() * count);
    for (size_t i = 0; i < count; ++i) result += text;
    return result;
}

TEST(Hostile, TooLarge) {
    const std::string text(17 << 20, '#');
    EXPECT_THAT(error_of(text, "r.yaml"), HasSubstr("a recipe has at most"));
    EXPECT_THAT(error_of(text, "r.toml"), HasSubstr("a recipe has at most"));
}

TEST(Hostile, TooDeep) {
    EXPECT_THAT(error_of("a = " + repeated("[", 100000), "r.toml"), HasSubstr("nested more than"));
    EXPECT_THAT(error_of("a = " + repeated("{a=", 100000), "r.toml"), HasSubstr("nested more than"));
    EXPECT_THAT(error_of(repeated("a.", 1000000) + "a = 1", "r.toml"), HasSubstr("a key of more than"));
    EXPECT_THAT(error_of("[" + repeated("\"=\".", 1000000) + "a]\n", "r.toml"), HasSubstr("a key of more than"));
    EXPECT_THAT(error_of("[" + repeated("' '.", 1000000) + "a]\n", "r.toml"), HasSubstr("a key of more than"));
    EXPECT_THAT(error_of("a: " + repeated("[", 100000), "r.yaml"), HasSubstr("nested more than"));
    EXPECT_THAT(error_of(repeated("{a: ", 100000), "r.yaml"), HasSubstr("nested more than"));
    EXPECT_THAT(error_of(repeated("- ", 100000) + "a", "r.yaml"), HasSubstr("nested more than"));
}

TEST(Hostile, NumbersWithDotsAreNoDeepKeys) {
    const std::string many = "merge_method = 'linear'\nmodels = [{model = '" + repeated("../", 100) +
                             "a', parameters = {weight = [" + repeated("0.5, ", 2000) + "1.0]}}]\n# " +
                             repeated("a.", 500);
    EXPECT_EQ(error_of(many, "r.toml"), "no error");
}

TEST(Hostile, AliasBombs) {
    std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
    for (int i = 1; i < 12; ++i) {
        std::string items;
        for (int k = 0; k < 10; ++k) items += "*a" + std::to_string(i - 1) + (k < 9 ? ", " : "");
        text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + items + "]\n";
    }
    EXPECT_THAT(error_of(text, "r.yaml"), HasSubstr("aliases count each time"));
    EXPECT_THAT(error_of("a: &a [*a]\n", "r.yaml"), HasSubstr("r.yaml"));
    std::string deep = "a0: &a0 [x]\n";
    for (int i = 1; i < 200; ++i) deep += fmt::format("a{}: &a{} [*a{}]\n", i, i, i - 1);
    EXPECT_THAT(error_of(deep, "r.yaml"), HasSubstr("nested more than"));
    std::string merges = "a0: &a0 {x: 1}\n";
    for (int i = 1; i < 60; ++i)
        merges += fmt::format("a{}: &a{} {{<<: [*a{}, *a{}], y{}: 1}}\n", i, i, i - 1, i - 1, i);
    EXPECT_THAT(error_of(merges, "r.yaml"), HasSubstr("r.yaml:"));
}

// Not a benchmark: each of these took minutes or gigabytes with some parser.
TEST(Hostile, LongTextsEndSoon) {
    const std::vector<std::string> texts = {
        repeated("a: 1\n", 100000),
        repeated("- a\n", 125000),
        repeated("[],", 125000),
        repeated("? ", 125000),
        repeated("&a ", 75000),
        repeated("!", 250000),
        repeated("\"", 250001),
        repeated("a b", 125000),
        repeated("a: b: ", 50000),
        repeated("\n", 500000),
        repeated("'", 250001),
        "a: |\n" + repeated("  x\n", 100000),
        "{" + repeated("a,", 100000),
        repeated("*a ", 75000),
        repeated("%TAG ! a\n", 25000),
        repeated("---\n", 75000),
        "a = " + repeated("1", 250000),
        "a = \"" + repeated("\\u0041", 50000) + "\"",
        "a = [" + repeated("1,", 150000) + "]",
        repeated("[[a]]\n", 50000),
        repeated("[a]\nb=1\n", 1000),
        "a = '''" + repeated("'\n", 125000),
        repeated("{", 250000),
        repeated("a.b=1\n", 50000),
        repeated("\xff", 25000),
        repeated("a\t", 125000),
        repeated("- ? ", 50000),
    };
    for (const std::string& text : texts)
        for (const char* path : {"r.yaml", "r.toml"}) {
            const std::clock_t start = std::clock();
            EXPECT_NE(error_of(text, path), "no error");
            EXPECT_LT(double(std::clock() - start) / CLOCKS_PER_SEC, 20) << path << " " << text.substr(0, 20);
        }
}

TEST(Hostile, MutatedRecipes) {
    const std::string toml =
        "merge_method = \"ties\"\nbase_model = \"b\"\n[parameters]\nlambda = [0.5, 1]\n[[models]]\nmodel = \"a\"\n"
        "parameters = { weight = [{ filter = \"mlp\", value = 0.5 }, { value = 1 }] }\n";
    const std::string yaml =
        "merge_method: ties\nbase_model: b\nparameters: {lambda: [0.5, 1]}\nmodels:\n  - model: &x a\n    parameters:\n"
        "      weight:\n        - filter: mlp\n          value: 0.5\n        - value: 1\n  - {model: *x, parameters: "
        "{weight: 1}}\n";
    const std::string letters = "{}[]:,=#\"'\n \t.-+*&?|>%@!<~0a\\\xc3\x00z";
    std::mt19937_64 random(20260);
    int good = 0, bad = 0;
    for (int i = 0; i < 4000; ++i) {
        std::string text = i % 2 ? toml : yaml;
        for (int k = 0; k < 1 + int(random() % 4); ++k) {
            const size_t at = random() % text.size();
            switch (random() % 4) {
                case 0: text[at] = letters[random() % letters.size()]; break;
                case 1: text.erase(at, 1 + random() % 8); break;
                case 2: text.insert(at, 1, letters[random() % letters.size()]); break;
                default: text.insert(at, text.substr(random() % text.size(), random() % 20));
            }
        }
        RecipeOptions options;
        options.allow_unknown = random() % 2;
        if (random() % 4 == 0)
            options.set = {text.substr(random() % text.size(), random() % 30) + "=" +
                           text.substr(random() % text.size(), 9)};
        try {
            const Recipe recipe = parse_recipe(text, i % 3 ? (i % 2 ? "r.toml" : "r.yaml") : "r", options);
            parse_recipe(recipe_to_toml(recipe), "r.toml");
            ++good;
        } catch (const Error&) {
            ++bad;
        }
    }
    EXPECT_GT(good, 50);
    EXPECT_GT(bad, 50);
}

}  // namespace
}  // namespace amalgam
