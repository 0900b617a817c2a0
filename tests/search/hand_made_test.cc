// Recipes made by hand: whose numbers become which genes, and what a search cannot say is said.
#include <gmock/gmock.h>

#include "src/base/error.h"
#include "src/search/hand_made.h"
#include "src/search/recipe_space.h"

namespace amalgam {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// "ties" of three models below /zoo; `settings` are of [search].
SearchConfig search(const std::string& settings, const std::string& merge = "") {
    return parse_search("[zoo]\nroot = \"/zoo\"\n[merge]\nmerge_method = \"ties\"\nbase_model = \"m/base\"\n" + merge +
                            "models = [\"m/one\", \"m/a/last\", \"m/b/last\"]\n[search]\n" + settings +
                            "[[tasks]]\nsearch = \"s\"\nheldout = \"h\"\n",
                        "search.toml");
}

struct Hand {
    std::string head = "merge_method = \"ties\"\nbase_model = \"m/base\"\n";
    std::vector<std::pair<std::string, std::string>> models = {
        {"m/b/last", "weight = 0.2"}, {"one", "weight = 0.3"}, {"/zoo/m/a/last", "weight = 0.4"}};

    Recipe recipe() const {
        std::string text = head;
        for (const auto& [model, parameters] : models)
            text += "[[models]]\nmodel = \"" + model + "\"\nparameters = { " + parameters + " }\n";
        return parse_recipe(text, "hand.toml");
    }
};

std::vector<double> genome(const SearchConfig& config, const Hand& hand) {
    return make_parameter_space(config, 4)->genome(hand_made_candidate(config, hand.recipe()));
}

std::string refusal(const SearchConfig& config, const Hand& hand) {
    try {
        hand_made_candidate(config, hand.recipe());
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

const std::string weights = "genes.weight = { low = -1, high = 2 }\n";

TEST(HandMade, ModelsAreKnownByTheirNamesInAnyOrder) {
    EXPECT_THAT(genome(search(weights), Hand()), ElementsAre(0.3, 0.4, 0.2));
    Hand below = Hand();
    below.head = "merge_method = \"ties\"\nbase_model = \"../other/m/base/\"\n";
    EXPECT_THAT(refusal(search(weights), below),
                HasSubstr("hand.toml: base_model=../other/m/base/ (must be that of [merge], /zoo/m/base)"));
    below.head = "merge_method = \"ties\"\nbase_model = \"../zoo/m/base/\"\n";
    EXPECT_THAT(genome(search(weights), below), ElementsAre(0.3, 0.4, 0.2));
}

TEST(HandMade, SaysWhichModelIsAnother) {
    Hand hand;
    hand.models[1].first = "m/two";
    EXPECT_THAT(refusal(search(weights), hand), HasSubstr("hand.toml:6: model=m/two is none of [merge] (one, a/last"));
    hand.models[1].first = "last";
    EXPECT_THAT(refusal(search(weights), hand), HasSubstr("model=last may be /zoo/m/a/last or /zoo/m/b/last"));
    hand.models[1].first = "b/last";
    EXPECT_THAT(refusal(search(weights), hand), HasSubstr("model=b/last is there twice"));
    hand.models.pop_back();
    hand.models[1].first = "m/one";
    EXPECT_THAT(refusal(search(weights), hand), HasSubstr("/zoo/m/a/last of [merge] is missing"));
    hand = Hand();
    hand.models[0].first = "/elsewhere/m/b/last";
    EXPECT_THAT(refusal(search(weights), hand), HasSubstr("model=/elsewhere/m/b/last is none of"));
}

TEST(HandMade, NumbersOutOfBoundsAreNotMoved) {
    Hand hand;
    hand.models[2].second = "weight = 9.0";
    EXPECT_THAT(refusal(search(weights), hand),
                HasSubstr("hand.toml:11: weight of /zoo/m/a/last=9 (must be in [-1, 2], the bounds of "
                          "search.genes.weight)"));
    hand.models[2].second = "weight = [0, -2, 1]";
    EXPECT_THAT(refusal(search(weights), hand), HasSubstr("=-2 (must be in [-1, 2]"));
    hand.models[2].second = "weight = [{ filter = \"mlp\", value = 0.5 }, { value = 0.1 }]";
    EXPECT_THAT(refusal(search(weights), hand), HasSubstr("for mlp (search.genes.weight has no such filter)"));
    const std::string filtered = "filters = [\"mlp\"]\n" + weights;
    EXPECT_THAT(genome(search(filtered), hand), ElementsAre(0.3, 0.3, 0.5, 0.1, 0.2, 0.2));
}

TEST(HandMade, WhatIsNotSearchedForIsThatOfTheMerge) {
    Hand hand;
    hand.head += "parameters.lambda = 0.5\n";
    EXPECT_THAT(refusal(search(weights), hand), HasSubstr("hand.toml:3: lambda=0.5 (must be 1 as in [merge], or be "
                                                          "searched for: search.genes.lambda)"));
    EXPECT_EQ(refusal(search(weights, "parameters.lambda = 0.5\n"), hand), "");
    EXPECT_THAT(refusal(search(weights, "parameters.density = 0.5\n"), Hand()),
                HasSubstr("density of one=1 (must be 0.5 as in [merge]"));
    // A default is a number like others.
    EXPECT_THAT(genome(search(weights + "genes.density = { low = 0.2, high = 1 }\n"), Hand()),
                ElementsAre(0.3, 0.4, 0.2, 1, 1, 1));
    EXPECT_THAT(refusal(search(weights + "genes.density = { low = 0.2, high = 0.8 }\n"), Hand()),
                HasSubstr("density of one=1 (must be in [0.2, 0.8]"));
    for (const auto& [line, said] : {std::pair("dtype = \"float16\"\n", "dtype=float16 (must be that of [merge], none"),
                                     {"compat = \"paper\"\n", "compat is another"}}) {
        hand = Hand();
        hand.head += line;
        EXPECT_THAT(refusal(search(weights), hand), HasSubstr(said));
        EXPECT_EQ(refusal(search(weights, line), hand), "");
    }
    hand = Hand();
    hand.head = "merge_method = \"task_arithmetic\"\nbase_model = \"m/base\"\n";
    EXPECT_THAT(refusal(search(weights), hand),
                HasSubstr("merge_method=task_arithmetic (must be that of [merge], ties"));
    hand.head = "merge_method = \"ties\"\nbase_model = \"m/one\"\n";
    EXPECT_THAT(refusal(search(weights), hand), HasSubstr("base_model=m/one (must be that of [merge], /zoo/m/base)"));
}

TEST(HandMade, AWeightOfNothingTakesNoPartWhereGenesCannotSayIt) {
    Hand hand;
    hand.models[0].second = "weight = 0";
    EXPECT_THAT(genome(search("choose_models = true\n" + weights), hand), ElementsAre(0.3, 0.4, 0, 1, 1, 1));
    const std::string above = "choose_models = true\ngenes.weight = { low = 0.25, high = 1 }\n";
    EXPECT_THAT(genome(search(above), hand), ElementsAre(0.3, 0.4, 0.25, 1, 1, 0));
    EXPECT_THAT(genome(search("choose_models = true\n", "parameters.weight = 0.5\n"),
                       {hand.head, {{"one", "weight = 0.5"}, {"a/last", "weight = 0"}, {"b/last", "weight = 0.5"}}}),
                ElementsAre(1, 0, 1));
    EXPECT_THAT(refusal(search("genes.weight = { low = 0.25, high = 1 }\n"), hand),
                HasSubstr("=0 (must be in [0.25, 1]"));
}

TEST(HandMade, HaveNoPlaceOnAPath) {
    try {
        search("space = \"dfs\"\nhand_made = [\"hand.toml\"]\n", "parameters.weight = 1\n");
        ADD_FAILURE() << "taken";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("search.toml:10: search.hand_made: recipes made by hand are numbers"));
    }
}

}  // namespace
}  // namespace amalgam
