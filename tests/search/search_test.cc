#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "tests/search/function_groups.h"
#include "tests/search/simulated_groups.h"

namespace amalgam {
namespace {

using testing::HasSubstr;

SearchInputs planted(const std::string& settings) {
    return task_inputs(parse_search(
        "[merge]\nmerge_method = \"task_arithmetic\"\nbase_model = \"b\"\nmodels = [\"m/one\", \"m/two\"]\n"
        "[search]\nlayer_groups = 2\ngenes.weight = { low = -1, high = 2, start = 0.5, sigma = 0.2 }\n" +
            settings + "[[tasks]]\nsearch = \"s\"\nheldout = \"h\"\n",
        "search.toml"));
}

/// Distance of the weights to a planted recipe's; sources and their uniform merge score 0.
double closeness(const Recipe& recipe) {
    if (recipe.method != "task_arithmetic") return 0;
    const double wanted[2][2] = {{0.2, 1.1}, {0.9, -0.3}};
    double distance = 0;
    for (size_t model = 0; model < 2; ++model) {
        const std::vector<double>& gradient = recipe.models[model].parameters.at("weight").entries[0].gradient;
        EXPECT_EQ(gradient.size(), 4u);
        EXPECT_EQ(gradient[0], gradient[1]);
        EXPECT_EQ(gradient[2], gradient[3]);
        for (size_t group : {0u, 1u}) distance += std::pow(gradient[2 * group] - wanted[model][group], 2);
    }
    return 1 - distance;
}

TEST(Search, FindsAPlantedRecipe) {
    const SearchInputs inputs = planted("evaluations = 300\n");
    FunctionGroups groups([](const Recipe& recipe, ItemSet) { return closeness(recipe); });
    std::vector<std::string> journal;
    const SearchResult result = run(inputs, groups, journal);
    EXPECT_TRUE(result.complete);
    EXPECT_LE(result.evaluations, 300);
    EXPECT_GT(result.best.search.score, 1 - 1e-3);
    EXPECT_THAT(result.best.genome,
                testing::ElementsAre(testing::DoubleNear(0.2, 0.03), testing::DoubleNear(1.1, 0.03),
                                     testing::DoubleNear(0.9, 0.03), testing::DoubleNear(-0.3, 0.03)));
    // All is known the second time.
    const int asked = groups.asked;
    const size_t records = journal.size();
    const SearchResult again = run(inputs, groups, journal);
    EXPECT_EQ(groups.asked, asked);
    EXPECT_EQ(again.best.genome, result.best.genome);
    EXPECT_EQ(journal.size(), records + 1);  // its end
}

TEST(Search, GuessesOfAModelNeedFewerEvaluations) {
    double plain = 0, guided = 0;  // what is left to the planted recipe
    for (const char* seed : {"0", "1", "2", "3", "4"})
        for (const char* surrogate : {"false", "true"}) {
            const SearchInputs inputs =
                planted(std::string("evaluations = 80\nseed = ") + seed + "\nsurrogate = " + surrogate + "\n");
            FunctionGroups groups([](const Recipe& recipe, ItemSet) { return closeness(recipe); });
            std::vector<std::string> journal;
            (surrogate[0] == 't' ? guided : plain) += 1 - run(inputs, groups, journal).best.search.score;
        }
    EXPECT_LT(guided, 0.5 * plain);
}

TEST(Search, PairsAreTheFirstCandidates) {
    const auto inputs = [](const std::string& low, const std::string& more) {
        return task_inputs(parse_search(
            "[merge]\nmerge_method = \"ties\"\nbase_model = \"b\"\nmodels = [\"m/one\", \"m/two\", \"m/three\"]\n"
            "[search]\npairs = true\nevaluations = 20\n" +
                more + "genes.weight = { low = " + low +
                ", high = 2 }\ngenes.density = { low = 0.2, high = 0.8, start = 0.6 }\n[[tasks]]\nsearch = \"s\"\n"
                "heldout = \"h\"\n",
            "search.toml"));
    };
    // Genes: the weight of each model, the density of each. Numbers keep to their range.
    for (const auto& [low, none] : {std::pair("0", 0.), {"-1", 0.}, {"0.25", 0.25}}) {
        FunctionGroups groups([](const Recipe&, ItemSet) { return 0.5; });
        std::vector<std::string> journal;
        run(inputs(low, ""), groups, journal);
        std::vector<std::vector<double>> first;
        for (const std::string& record : journal) {
            const auto json = nlohmann::json::parse(record);
            if (json["kind"] == "evaluation" && json["origin"] == "injected") first.push_back(json["genome"]);
        }
        EXPECT_THAT(first, testing::ElementsAre(std::vector{1., 1., none, 0.6, 0.6, 0.6},
                                                std::vector{1., none, 1., 0.6, 0.6, 0.6},
                                                std::vector{none, 1., 1., 0.6, 0.6, 0.6}));
    }
    EXPECT_NO_THROW(inputs("0", "space = \"dfs\"\n"));  // has no use for them
    try {
        parse_search(
            "[merge]\nmerge_method = \"ties\"\nbase_model = \"b\"\nmodels = [\"m/one\", \"m/two\"]\nparameters.weight "
            "= 0.5\n[search]\n"
            "pairs = true\ngenes.density = {}\n[[tasks]]\nsearch = \"s\"\nheldout = \"h\"\n",
            "search.toml");
        ADD_FAILURE() << "pairs without weights";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("add genes.weight"));
    }
}

TEST(Search, GuessesDoNotPileUpBehindPairs) {
    std::string models;
    for (int model = 0; model < 9; ++model) models += fmt::format("\"m/{}\", ", model);
    for (const char* optimiser : {"cma", "greedy-soup"}) {
        const SearchInputs inputs = task_inputs(parse_search(
            "[merge]\nmerge_method = \"task_arithmetic\"\nbase_model = \"b\"\nmodels = [" + models +
                "]\n[search]\npairs = true\nsurrogate = true\nevaluations = 160\noptimiser = \"" + optimiser +
                "\"\noptions = { population = 8 }\ngenes.weight = { low = -1, high = 2, start = 0.5, sigma = 0.2 }\n"
                "[[tasks]]\nsearch = \"s\"\nheldout = \"h\"\n",
            "search.toml"));
        FunctionGroups groups([](const Recipe& recipe, ItemSet) {
            double score = 1;
            for (const SourceEntry& model : recipe.models) {
                const auto weight = model.parameters.find("weight");
                if (weight != model.parameters.end()) score -= std::pow(weight->second.entries[0].gradient[0] - 0.3, 2);
            }
            return score;
        });
        std::vector<std::string> journal;
        run(inputs, groups, journal);
        std::map<int64_t, int> injected;
        int guesses = 0;
        for (const std::string& record : journal) {
            const auto json = nlohmann::json::parse(record);
            if (json["kind"] == "evaluation" && json["origin"] == "injected" && json["phase"] == "ps")
                ++injected[json["generation"]];
            guesses += json["kind"] == "generation" && json.contains("guess");
        }
        if (optimiser[0] == 'g') {
            EXPECT_EQ(guesses, 0);
            continue;
        }
        EXPECT_GT(guesses, 5);
        for (const auto& [generation, count] : injected)
            EXPECT_EQ(count, generation < 4 ? 8 : generation == 4 ? 36 - 4 * 8 : 1) << generation;
    }
}

TEST(Search, AveragesOfTheBestAreContenders) {
    const SearchInputs inputs = planted("evaluations = 103\n");
    // Luck that another set of items does not bring again.
    FunctionGroups groups([](const Recipe& recipe, ItemSet set) {
        const double value = closeness(recipe);
        return value + (set == ItemSet::search ? 0.1 * std::sin(1e6 * value) : 0);
    });
    std::vector<std::string> journal;
    const SearchResult result = run(inputs, groups, journal);
    EXPECT_EQ(result.evaluations, 103);
    std::vector<std::pair<double, std::vector<double>>> drawn;
    std::vector<std::vector<double>> averages;
    for (const std::string& line : journal) {
        const auto record = nlohmann::json::parse(line.substr(line.find('{')));
        if (record["kind"] != "evaluation" || record["set"] != "search") continue;
        const auto genome = record["genome"].get<std::vector<double>>();
        if (record["origin"] == "drawn") drawn.emplace_back(-record["score"].get<double>(), genome);
        if (record["origin"] == "average") averages.push_back(genome);
    }
    EXPECT_EQ(drawn.size(), 100u);
    std::sort(drawn.begin(), drawn.end());
    ASSERT_EQ(averages.size(), 2u);  // of 5 and 10; 20 are too many of 103
    for (size_t gene = 0; gene < 4; ++gene) {
        double of_five = 0, of_ten = 0;
        for (size_t place = 0; place < 10; ++place) {
            of_five += place < 5 ? drawn[place].second[gene] / 5 : 0;
            of_ten += drawn[place].second[gene] / 10;
        }
        EXPECT_NEAR(averages[0][gene], of_five, 1e-9);
        EXPECT_NEAR(averages[1][gene], of_ten, 1e-9);
    }
}

TEST(Search, OneThatHasNoScoreCostsNobodyTheWinner) {
    const SearchInputs inputs = planted("evaluations = 30\n");
    int number = 0;
    FunctionGroups groups([&](const Recipe& recipe, ItemSet) {
        if (recipe.method == "passthrough" && recipe.models[0].model == "m/two") fail("broken");
        if (recipe.method == "task_arithmetic" && ++number % 3 == 0) return double(NAN);
        return closeness(recipe);
    });
    std::vector<std::string> journal;
    const SearchResult result = run(inputs, groups, journal);
    EXPECT_TRUE(result.complete);
    EXPECT_EQ(result.sources[0].error, "");
    EXPECT_EQ(result.sources[1].error, "broken");
    const auto json = nlohmann::json::parse(result_json(inputs, result));
    EXPECT_EQ(json["sources"]["two"]["error"], "broken");
    EXPECT_TRUE(json["sources"]["one"].contains("heldout"));
    EXPECT_TRUE(json["best"].contains("heldout"));
}

TEST(Search, TasksAreTradedAgainstEachOther) {
    SearchInputs inputs = planted("evaluations = 400\noptimiser = \"nsga2\"\noptions = { population = 20 }\n");
    inputs.search.push_back(inputs.search[0]);
    inputs.search[1].name = "u";
    inputs.heldout = inputs.search;
    // The best weight for one task is 0, for the other 1.
    SimulatedGroups groups(
        3, [](int, const SearchJob&) { return 1.; },
        [](const std::string& text) {
            const Recipe recipe = parse_recipe(decode_instruction(text).recipe, "candidate.toml");
            double weight = 5;
            if (recipe.method == "task_arithmetic")
                weight = recipe.models[0].parameters.at("weight").entries[0].gradient[0];
            const double one = 1 - weight * weight / 100, two = 1 - (weight - 1) * (weight - 1) / 100;
            return encode_answer({(one + two) / 2, 0, {{one, 0, {one}}, {two, 0, {two}}}});
        });
    SearchWorld world;
    world.groups = &groups;
    world.append = [](const std::string&, bool) {};
    const SearchResult result = run_search(inputs, world, {});
    const auto json = nlohmann::json::parse(result_json(inputs, result));
    ASSERT_GE(result.front.size(), 8u);
    EXPECT_EQ(json["front"].size(), result.front.size());
    std::vector<double> weights;
    for (const Contender& each : result.front) {
        weights.push_back(each.genome[0]);
        for (const Contender& other : result.front)
            EXPECT_FALSE(other.search.tasks[0].score > each.search.tasks[0].score &&
                         other.search.tasks[1].score > each.search.tasks[1].score);
    }
    std::sort(weights.begin(), weights.end());
    EXPECT_THAT(weights.front(), testing::DoubleNear(0, 0.25));
    EXPECT_THAT(weights.back(), testing::DoubleNear(1, 0.25));
    EXPECT_THAT(result.best.genome[0], testing::DoubleNear(0.5, 0.1));
    const nlohmann::json& first = json["front"][0];
    EXPECT_EQ(first["search"], json["best"]["search"]);
    EXPECT_EQ(first["tasks"].size(), 2u);
    EXPECT_EQ(first["genome"].size(), 4u);
}

TEST(Search, TimeEndsIt) {
    const SearchInputs inputs = planted("evaluations = 300\nseconds = 20\n");
    FunctionGroups groups([](const Recipe& recipe, ItemSet) { return closeness(recipe); });
    std::vector<std::string> journal;
    const SearchResult result = run(inputs, groups, journal);
    EXPECT_TRUE(result.complete);
    EXPECT_THAT(result.reason, HasSubstr("20 s"));
    EXPECT_LE(groups.asked,
              20 + 2 + 7);  // the mean, an average; the winner, two sources and the uniform merge on their items
}

TEST(Search, ReadsNoOtherSearchsJournal) {
    std::vector<std::string> journal;
    FunctionGroups groups([](const Recipe& recipe, ItemSet) { return closeness(recipe); });
    run(planted("evaluations = 20\n"), groups, journal);
    const auto message = [&](const SearchInputs& inputs) {
        try {
            run(inputs, groups, journal);
        } catch (const Error& error) {
            return std::string(error.what());
        }
        return std::string();
    };
    EXPECT_THAT(message(planted("evaluations = 20\nseed = 2\n")), HasSubstr("with other seed;"));
    EXPECT_THAT(message(planted("evaluations = 20\ntie_breaker = 0.5\n")), HasSubstr("with other settings;"));
    SearchInputs other = planted("evaluations = 20\n");
    other.fingerprints = {"another model"};
    other.compute = "bfloat16 cpu";
    EXPECT_THAT(message(other), HasSubstr("other arithmetic (--compute, --device) and other models;"));
    const auto change_task = [&](const std::function<void(Task&)>& change) {
        SearchInputs inputs = planted("evaluations = 20\n");
        change(inputs.search[0]);
        return message(inputs);
    };
    EXPECT_THAT(change_task([](Task& task) { task.items[0].answer_text = "7"; }), HasSubstr("other search items;"));
    EXPECT_THAT(change_task([](Task& task) { task.limit = 5; }), HasSubstr("other search items;"));
    EXPECT_THAT(change_task([](Task& task) { task.allowed_ids = {5}; }), HasSubstr("other search items;"));
    EXPECT_THAT(change_task([](Task& task) { task.end_ids = {5}; }), HasSubstr("other search items;"));
    EXPECT_NO_THROW(run(planted("evaluations = 40\n"), groups, journal));
}

TEST(Search, OtherHeldOutItemsAreAskedAnew) {
    double heldout = 0.25;
    std::vector<std::string> journal;
    FunctionGroups groups(
        [&](const Recipe& recipe, ItemSet set) { return set == ItemSet::heldout ? heldout : closeness(recipe); });
    SearchInputs inputs = planted("evaluations = 20\n");
    EXPECT_EQ(run(inputs, groups, journal).best.heldout->score, 0.25);
    const int before = groups.asked;
    inputs.heldout[0].items[0].answer = {8};
    heldout = 0.75;
    EXPECT_EQ(run(inputs, groups, journal).best.heldout->score, 0.75);
    EXPECT_EQ(groups.asked, before + 4);  // the winner, two sources and the uniform merge
}

TEST(Search, SaysWhyNothingHasAScore) {
    std::vector<std::string> journal;
    FunctionGroups groups([](const Recipe&, ItemSet) -> double { fail("the model has a NaN"); });
    try {
        run(planted("evaluations = 20\n"), groups, journal);
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), testing::ContainsRegex("[0-9]+ of [0-9]+ failed so: the model has a NaN"));
    }
}

TEST(Search, AWinnerNeedsNoHeldOutScore) {
    std::vector<std::string> journal;
    FunctionGroups groups([](const Recipe& recipe, ItemSet set) {
        if (set == ItemSet::heldout) fail("too long");
        return closeness(recipe);
    });
    const SearchInputs inputs = planted("evaluations = 20\n");
    const SearchResult result = run(inputs, groups, journal);
    EXPECT_TRUE(result.complete);
    const auto json = nlohmann::json::parse(result_json(inputs, result));
    EXPECT_EQ(json["best"]["error"], "too long");
    EXPECT_FALSE(json["best"].contains("heldout"));
}

TEST(Search, ValidationChoosesBetweenMergeAndPath) {
    SearchInputs inputs = task_inputs(parse_search(
        "[merge]\nmerge_method = \"task_arithmetic\"\nbase_model = \"b\"\nmodels = [\"m/one\", \"m/two\"]\n"
        "[search]\nspace = \"ps-dfs\"\nevaluations = 40\ndata_flow.evaluations = 20\ngenes.weight = { low = -1, high = "
        "2, start = 0.5, sigma = 0.2 }\n[[tasks]]\nsearch = \"s\"\nvalidation = \"v\"\nheldout = \"h\"\n",
        "search.toml"));
    inputs.validation = inputs.search;
    inputs.sources = {{"m/one", 4}, {"m/two", 4}};
    // Paths are better in the search, or on validation items.
    for (const double validated : {0.1, 0.9}) {
        FunctionGroups groups([&](const Recipe& recipe, ItemSet set) {
            const double path = set == ItemSet::validation ? validated : 1 - validated;
            return recipe.method == "task_arithmetic" ? 0.5 : path;
        });
        SearchWorld world;
        world.groups = &groups;
        world.append = [](const std::string&, bool) {};
        world.write_checkpoint = [](const Recipe&, const std::string&) { return std::string("merged"); };
        const SearchResult result = run_search(inputs, world, {});
        EXPECT_EQ(result.chosen_on, "validation");
        EXPECT_EQ(result.best.recipe.method == "task_arithmetic", validated < 0.5) << validated;
    }
}

TEST(Search, ConstantAnswers) {
    Task numbers;
    numbers.metric = Metric::last_number;
    for (const char* answer : {"it is 7", "so 12", "7.0", "9"}) {
        numbers.items.emplace_back();
        numbers.items.back().answer_text = answer;
    }
    const auto constant = best_constant({numbers}, {numbers});
    ASSERT_TRUE(constant);
    EXPECT_EQ(constant->answer, "7");
    EXPECT_EQ(constant->search.score, 0.5);
    EXPECT_EQ(constant->heldout->score, 0.5);
    // What a language filter forbids is no answer.
    Task words;
    words.allowed_ids = {4, 6};
    for (const int32_t answer : {5, 5, 5, 6, 4, 6}) {
        words.items.emplace_back();
        words.items.back().answer = {answer};
    }
    EXPECT_EQ(best_constant({words}, {})->answer, "6");
    EXPECT_NEAR(best_constant({words}, {})->search.score, 2. / 6, 1e-12);
    words.allowed_ids = {9};
    EXPECT_EQ(best_constant({words}, {})->search.score, 0);
}

}  // namespace
}  // namespace amalgam
