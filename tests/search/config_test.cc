// What a search file says: what its models are called, and what is refused or warned of before anything is opened.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/search/budget.h"
#include "src/search/model_names.h"
#include "tests/search/function_groups.h"

namespace amalgam {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

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

TEST(SearchConfig, WhatIsForAnotherSpaceIsSaid) {
    const auto warnings = [](const std::string& settings) {
        return parse_search(search_text("\"m/a\", \"m/b\"", settings + weights), "search.toml").warnings;
    };
    const std::string idle =
        "layer_groups = 2\nfilters = [\"mlp\"]\nsmooth = true\npairs = true\nchoose_models = true\n";
    EXPECT_THAT(warnings(idle), IsEmpty());
    EXPECT_THAT(warnings("data_flow = { repeats = 1, likely = 0.7, evaluations = 0 }\n"), IsEmpty());
    EXPECT_THAT(warnings("evaluations = 9\ndata_flow.repeats = 2\n"),
                ElementsAre("search.toml:7: search.data_flow has no effect on space = \"ps\""));
    EXPECT_THAT(warnings("space = \"dfs\"\ndata_flow.evaluations = 9\n" + idle),
                ElementsAre(HasSubstr(":13: search.genes has"), HasSubstr(":12: search.choose_models has"),
                            HasSubstr(":8: search.layer_groups has"), HasSubstr(":9: search.filters has"),
                            HasSubstr(":10: search.smooth has"), HasSubstr(":11: search.pairs has"),
                            "search.toml:7: search.data_flow.evaluations has no effect on space = \"dfs\"",
                            HasSubstr(":3: merge.base_model has")));
    EXPECT_THAT(warnings("space = \"dfs\"\nlayer_groups = 1\nfilters = []\nsmooth = false\npairs = false\n").size(), 2);
    EXPECT_THAT(warnings("space = \"ps-dfs\"\ndata_flow = { repeats = 2, evaluations = 9 }\n" + idle), IsEmpty());
}

TEST(SearchConfig, APathNeedsEvaluationsAndLayers) {
    const auto said = [](const std::string& settings) {
        return refusal(search_text("\"m/a\", \"m/b\"", "evaluations = 20\n" + settings + weights));
    };
    EXPECT_THAT(said("space = \"ps-dfs\"\n"), HasSubstr("search.data_flow.evaluations=0: of the evaluations of"));
    EXPECT_THAT(
        said("space = \"ps-dfs\"\ndata_flow.evaluations = 20\n"),
        HasSubstr("search.toml:8: search.data_flow.evaluations=20: of the evaluations of space = \"ps-dfs\", so "
                  "many are for the path: it must be above 0 and below search.evaluations=20"));
    EXPECT_EQ(said("space = \"ps-dfs\"\ndata_flow.evaluations = 19\n"), "");
    EXPECT_THAT(said("space = \"dfs\"\ndata_flow.most_layers = 1\n"),
                HasSubstr("search.toml:8: search.data_flow.most_layers=1: fixed ends are two layers"));
    EXPECT_EQ(said("space = \"dfs\"\ndata_flow = { most_layers = 1, fixed_ends = false }\n"), "");
    EXPECT_THAT(refusal(search_text("\"m/a\", \"m/b\"", weights) + "weight = -1\n"),
                HasSubstr("search.toml:10: tasks.weight: must be a number from 0"));
}

TEST(SearchBudget, WarnsOfAGenerationThatIsNeverWhole) {
    const auto warnings = [](const std::string& settings) {
        SearchInputs inputs =
            task_inputs(parse_search(search_text("\"m/a\", \"m/b\"", settings + weights), "search.toml"));
        inputs.sources = {{"m/a", 4}, {"m/b", 4}};
        return check_budget(inputs);
    };
    EXPECT_THAT(warnings("evaluations = 24\noptions.population = 23\n"), IsEmpty());
    // One of them is for the mean.
    EXPECT_THAT(warnings("evaluations = 24\noptions.population = 24\n"),
                ElementsAre("search.toml: a generation has 24 candidates, but there are evaluations for 23: cma never "
                            "learns from them; set search.evaluations to more, or search.options.population to less"));
    EXPECT_THAT(warnings("evaluations = 24\noptions.population = 24\nmean_genome = false\n"), IsEmpty());
    EXPECT_THAT(warnings("evaluations = 24\noptions.population = 100\noptimiser = \"random\"\n"), IsEmpty());
    const std::string both = "space = \"ps-dfs\"\nevaluations = 44\noptions.population = 20\n";
    EXPECT_THAT(warnings(both + "data_flow.evaluations = 22\n"), IsEmpty());
    EXPECT_THAT(warnings(both + "data_flow.evaluations = 12\n"), ElementsAre(HasSubstr("evaluations for 11")));
    EXPECT_THAT(warnings(both + "data_flow.evaluations = 30\n"), ElementsAre(HasSubstr("evaluations for 13")));
    EXPECT_THROW(warnings("options.population = 2\n"), Error);
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
