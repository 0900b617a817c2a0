// What a search file says: what its models are called, and what is refused or warned of before anything is opened.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/search/model_names.h"
#include "tests/search/function_groups.h"

namespace amalgam {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string search_text(const std::string& models, const std::string& settings) {
    return "[merge]\nmerge_method = \"task_arithmetic\"\nbase_model = \"b\"\nmodels = [" + models + "]\n[search]\n" +
           settings + "[[tasks]]\nsearch = \"s\"\nheldout = \"h\"\n";
}

const std::string weights = "genes.weight = { low = -1, high = 2 }\n";

/// "" if there is nothing to object to.
std::string refusal(const std::string& text) {
    try {
        parse_search(text, "search.toml");
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

TEST(ModelNames, AreTheShortestDistinctEndings) {
    EXPECT_THAT(model_names({"m/one", "./two/", "/z//three//", "four"}), ElementsAre("one", "two", "three", "four"));
    EXPECT_THAT(model_names({"m/a/final", "m/b/final", "c"}), ElementsAre("a/final", "b/final", "c"));
    EXPECT_THAT(model_names({"run1/x/final", "run2/x/final", "y/final"}),
                ElementsAre("run1/x/final", "run2/x/final", "y/final"));
    // An ending of another one's path is the whole path.
    EXPECT_THAT(model_names({"final", "a/final", "/a/final"}), ElementsAre("final", "a/final", "/a/final"));
    EXPECT_THAT(model_names({"org1/x@main", "org1/x@other"}), ElementsAre("x@main", "x@other"));
    EXPECT_THAT(model_names({"a/x", "a/./x/", "b/x"}), ElementsAre("a/x", "a/x#2", "b/x"));
    EXPECT_THAT(model_names({"/", ".", ""}), ElementsAre("/", "", "#2"));
}

TEST(ModelNames, TellGenesAndSourcesApart) {
    const SearchInputs inputs = task_inputs(
        parse_search(search_text("\"m/a/final\", \"m/b/final\"", "evaluations = 20\nchoose_models = true\n" + weights),
                     "search.toml"));
    FunctionGroups groups([](const Recipe&, ItemSet) { return 0.5; });
    std::vector<std::string> journal;
    const SearchResult result = run(inputs, groups, journal);
    const auto names = ElementsAre("a/final.weight", "b/final.weight", "a/final.takes_part", "b/final.takes_part");
    EXPECT_THAT(result.gene_names, names);
    const auto json = nlohmann::json::parse(result_json(inputs, result));
    EXPECT_EQ(json["best"]["genome"].size(), 4u);
    EXPECT_THAT(std::vector<std::string>({json["sources"].begin().key(), std::prev(json["sources"].end()).key()}),
                ElementsAre("a/final", "b/final"));
    EXPECT_EQ(json["items"]["heldout"]["sources"].size(), 2u);
    EXPECT_THAT(nlohmann::json::parse(journal[0])["sources"], ElementsAre("a/final", "b/final"));
}

TEST(SearchConfig, AModelTwiceIsASlipButOnAPath) {
    EXPECT_THAT(refusal(search_text("\"m/a\", \"m/b\", \"./m//a/\"", weights)),
                HasSubstr("search.toml:4: merge.models: ./m//a/ is there twice"));
    EXPECT_THAT(refusal(search_text("\"m/a\", \"m/b\", \"m/a\"", "space = \"dfs\"\n" + weights)), "");
}

TEST(SearchConfig, WholeNumbersBeginAtOne) {
    const auto text = [](const std::string& gene) {
        return "[merge]\nmerge_method = \"karcher\"\nmodels = [\"m/a\", \"m/b\"]\n[search]\ngenes.max_iter = { " +
               gene + " }\n[[tasks]]\nsearch = \"s\"\n";
    };
    EXPECT_EQ(parse_search(text("low = 1, high = 4"), "search.toml").genes[0].start, 3);
    EXPECT_EQ(parse_search(text("low = 1, high = 2"), "search.toml").genes[0].start, 2);
    EXPECT_THAT(refusal(text("low = 1.5, high = 4")),
                HasSubstr("search.toml:5: search.genes.max_iter.low=1.5: max_iter takes whole numbers"));
}

}  // namespace
}  // namespace amalgam
