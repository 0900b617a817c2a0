// The course of a search does not depend on how many score, how long that takes, or how often it is killed.
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "src/base/error.h"
#include "src/search/race.h"
#include "src/search/search.h"
#include "tests/search/simulated_groups.h"

namespace amalgam {
namespace {

using Json = nlohmann::json;

struct Killed {};

constexpr int items = 96;

SearchInputs inputs_with(const std::string& settings, const std::string& merge = "") {
    SearchInputs inputs;
    inputs.config = parse_search(
        "[merge]\nmerge_method = \"task_arithmetic\"\nbase_model = \"b\"\nmodels = [\"m/one\", \"m/two\"]\n" + merge +
            "[search]\nlayer_groups = 2\ngenes.weight = { low = -1, high = 2, start = 0.5, sigma = 0.3 }\n" + settings +
            "[[tasks]]\nsearch = \"s\"\nheldout = \"h\"\n",
        "search.toml");
    Task task;
    task.name = "t";
    task.items.resize(items);
    for (int number = 0; number < items; ++number) task.items[size_t(number)].answer = {number};
    inputs.search = inputs.heldout = {task};
    inputs.layers = 4;
    return inputs;
}

/// The nearer to a planted recipe, the more items are right.
ItemResult judge(const Recipe& recipe, int number) {
    double distance = 2;
    if (recipe.method == "task_arithmetic") {
        const double wanted[2][2] = {{0.2, 1.1}, {0.9, -0.3}};
        distance = 0;
        for (size_t model = 0; model < 2; ++model)
            for (size_t group : {0u, 1u})
                distance += std::pow(
                    recipe.models[model].parameters.at("weight").entries[0].gradient[2 * group] - wanted[model][group],
                    2);
    }
    const double hard = double(number * 37 % items) / items;
    ItemResult item;
    item.score = std::exp(-distance) > hard ? 1 : 0;
    item.log_likelihoods = {-distance - hard};
    item.tokens = 1;
    return item;
}

/// Scores as a group of ranks does, from `judge`; counts what it was asked.
struct Scorer {
    explicit Scorer(const SearchInputs& search)
        : inputs(search), rounds(rounds_of(search.search, search.config.racing)) {}
    std::string operator()(const std::string& text) {
        const Instruction instruction = decode_instruction(text);
        EXPECT_TRUE(seen.insert(instruction.recipe + std::to_string(int(instruction.set))).second || repeats)
            << "evaluated twice";
        const Recipe recipe = parse_recipe(instruction.recipe, "candidate.toml");
        Race race(inputs.search, instruction.cut, rounds.size(), inputs.config.racing_level);
        Evaluation all;
        for (size_t round = 0; round < rounds.size(); ++round) {
            Evaluation part;
            part.tasks.push_back({"t", Metric::exact_match, 1, 0, 0, 0, {}});
            for (const TaskItem& item : rounds[round][0].items)
                part.tasks[0].items.push_back(judge(recipe, item.answer[0]));
            asked += part.tasks[0].items.size();
            if (round == 0) all.tasks = {{"t", Metric::exact_match, 1, 0, 0, 0, {}}};
            add_items(all, part);
            if (round + 1 < rounds.size() && race.is_over(all)) break;
        }
        return encode_answer(race.answer(all));
    }
    const SearchInputs& inputs;
    std::vector<std::vector<Task>> rounds;
    std::set<std::string> seen;
    size_t asked = 0;
    bool repeats = false;  ///< idle groups may repeat what takes long
};

/// What is left of a search: its journal and state.
struct Folder {
    std::vector<std::string> journal;
    std::optional<SearchState> state;
};

using Duration = SimulatedGroups::Duration;
double one_second(int, const SearchJob&) { return 1; }

/// Throws Killed when the journal has `most` records.
SearchResult run(const SearchInputs& inputs, Scorer& scorer, Folder& folder, int groups = 1,
                 Duration duration = one_second, size_t most = SIZE_MAX) {
    SimulatedGroups pool(groups, std::move(duration), [&](const std::string& text) { return scorer(text); });
    SearchWorld world;
    world.groups = &pool;
    world.controller.quorum = inputs.config.quorum;
    world.append = [&](const std::string& record, bool) {
        if (folder.journal.size() >= most) throw Killed();
        folder.journal.push_back(record);
    };
    world.save = [&](const SearchState& state) { folder.state = state; };
    world.saved = folder.state;
    const std::vector<std::string> before = folder.journal;
    return run_search(inputs, world, before);
}

/// By candidate: genome, objective.
std::map<std::string, std::string> trajectory(const Folder& folder) {
    std::map<std::string, std::string> course;
    for (const std::string& record : folder.journal) {
        const Json json = Json::parse(record);
        if (json["kind"] != "evaluation") continue;
        course[fmt::format("{} {} {} {}", json["phase"].dump(), json["generation"].dump(), json["candidate"].dump(),
                           json["recipe_hash"].dump() + json["set"].dump())] =
            json["genome"].dump() + json.value("objective", Json()).dump();
    }
    return course;
}

const std::string racing = "evaluations = 120\nracing = 16\nracing_level = 0.2\n";
const std::string guided = "evaluations = 90\nsurrogate = true\npairs = true\n";

TEST(SearchCourse, IsTheSameForAnyGroupsAndDurations) {
    for (const std::string& settings :
         {std::string("evaluations = 120\n"), racing, std::string("evaluations = 90\noptimiser = \"de\"\n"),
          std::string("evaluations = 90\noptimiser = \"random\"\nracing = 16\n"), guided}) {
        const SearchInputs inputs = inputs_with(settings);
        Folder alone;
        Scorer scorer(inputs);
        const SearchResult wanted = run(inputs, scorer, alone);
        EXPECT_TRUE(wanted.complete);
        for (int groups : {1, 2, 3, 7}) {
            std::mt19937 random(static_cast<unsigned>(groups));
            Folder folder;
            Scorer other(inputs);
            other.repeats = true;
            const SearchResult result = run(inputs, other, folder, groups, [&](int, const SearchJob&) {
                return random() % 20 == 0 ? 30. : 0.5 + double(random() % 100) / 100;
            });
            EXPECT_EQ(trajectory(folder), trajectory(alone)) << settings << groups;
            EXPECT_EQ(result.best.genome, wanted.best.genome);
            EXPECT_EQ(result.best.heldout, wanted.best.heldout);
        }
    }
}

TEST(SearchCourse, GoesOnAfterEveryKill) {
    for (const std::string& settings : {std::string("evaluations = 60\n"), racing, guided}) {
        const SearchInputs inputs = inputs_with(settings);
        Folder alone;
        Scorer once(inputs);
        const SearchResult wanted = run(inputs, once, alone);
        const auto course = trajectory(alone);
        std::mt19937 random(3);
        for (int way = 0; way < 3; ++way) {  // with the state, without, with a state that is damaged
            Folder folder;
            Scorer scorer(inputs);
            scorer.repeats = true;  // an answer may be lost with the kill
            std::optional<SearchResult> result;
            for (size_t kills = 0; !result; ++kills) {
                ASSERT_LT(kills, 100u);
                if (way == 1) folder.state.reset();
                if (way == 2 && folder.state) folder.state->optimiser += "x 1\n";
                try {
                    result = run(inputs, scorer, folder, 1 + int(kills % 3), one_second,
                                 folder.journal.size() + 1 + random() % 23);
                } catch (const Killed&) {
                }
            }
            EXPECT_EQ(trajectory(folder), course) << way;
            EXPECT_EQ(result->best.genome, wanted.best.genome);
            EXPECT_EQ(result->evaluations, wanted.evaluations);
            EXPECT_EQ(Json::parse(result_json(inputs, *result))["best"],
                      Json::parse(result_json(inputs, wanted))["best"]);
            std::set<std::string> evaluated;
            for (const std::string& record : folder.journal) {
                const Json json = Json::parse(record);
                if (json["kind"] != "evaluation" || json.contains("duplicate_of")) continue;
                EXPECT_TRUE(evaluated.insert(json["recipe_hash"].dump() + json["set"].dump()).second)
                    << "in the journal twice";
            }
        }
    }
}

TEST(SearchCourse, TheStateSavesTheWayThroughTheJournal) {
    const SearchInputs inputs = inputs_with(racing);
    Folder folder;
    Scorer scorer(inputs);
    EXPECT_THROW(run(inputs, scorer, folder, 1, one_second, 100), Killed);
    ASSERT_TRUE(folder.state);
    EXPECT_GT(folder.state->generation, 5);
    EXPECT_EQ(folder.state->genes.size(), 4u);
    EXPECT_EQ(folder.state->genomes.size(), folder.state->objectives.size());
    // A state of another search, or one ahead of what is left of the journal, is not used.
    Folder other = folder;
    other.state->key = "other";
    Folder shorter = folder;
    shorter.journal.resize(20);
    scorer.repeats = true;
    const SearchResult wanted = run(inputs, scorer, folder);
    EXPECT_EQ(run(inputs, scorer, other).best.genome, wanted.best.genome);
    EXPECT_EQ(run(inputs, scorer, shorter).best.genome, wanted.best.genome);
    EXPECT_EQ(trajectory(shorter), trajectory(folder));
}

TEST(SearchCourse, RacingSavesItemsAndNoOneWinsWhoWasSentOff) {
    const SearchInputs whole = inputs_with("evaluations = 200\n"),
                       raced = inputs_with("evaluations = 200\nracing = 12\n");
    Folder first, second;
    Scorer all(whole), some(raced);
    const SearchResult wanted = run(whole, all, first), result = run(raced, some, second);
    EXPECT_LT(double(some.asked), 0.95 * double(all.asked));
    EXPECT_GT(result.best.search.score, 0.9);
    EXPECT_GT(wanted.best.search.score, 0.9);
    EXPECT_FALSE(result.best.search.raced_out);
    EXPECT_EQ(result.best.search.tasks[0].items.size(), size_t(items));
    int sent_off = 0;
    int64_t generation = 0;
    for (const std::string& record : second.journal) {
        const Json json = Json::parse(record);
        if (json["kind"] != "evaluation" || !json.contains("tasks")) continue;
        const bool part = json["tasks"][0]["items"].get<std::string>().size() < items;
        EXPECT_EQ(json.contains("raced_out"), part);
        generation = json["generation"];
        EXPECT_FALSE(part && generation == 0) << "there is nobody to race against";
        sent_off += part;
        EXPECT_TRUE(!part || json["score"].get<double>() < result.best.search.score);
    }
    EXPECT_GT(sent_off, 10);
}

TEST(SearchCourse, LateAnswersTakePartInALaterGeneration) {
    const SearchInputs inputs =
        inputs_with("evaluations = 200\nquorum = 0.75\nsurrogate = true\noptions = { population = 12 }\n");
    const auto slow = [](int, const SearchJob& job) { return job.id % 10 == 3 ? 4.5 : 1; };
    Folder folder;
    Scorer scorer(inputs);
    scorer.repeats = true;
    EXPECT_THROW(run(inputs, scorer, folder, 12, slow, 120), Killed);
    int missing = 0, late = 0;
    for (const std::string& record : folder.journal) {
        const Json json = Json::parse(record);
        if (json.contains("missing")) missing += int(json["missing"].size());
        if (json.contains("late")) late += int(json["late"].size());
    }
    EXPECT_GT(missing, 3);
    EXPECT_GT(late, 1);
    EXPECT_LE(late, missing);
    // With the journal alone, and with the state: what was is what it was.
    Folder replayed = folder;
    replayed.state.reset();
    for (Folder* each : {&folder, &replayed}) {
        const auto before = trajectory(*each);
        Scorer again(inputs);
        again.repeats = true;
        const SearchResult result = run(inputs, again, *each, 12, slow);
        EXPECT_TRUE(result.complete);
        EXPECT_LE(result.evaluations, 200);
        EXPECT_GT(result.best.search.score, 0.85);
        const auto after = trajectory(*each);
        for (const auto& [place, what] : before) EXPECT_EQ(after.at(place), what) << place;
    }
}

TEST(SearchCourse, PairsComeFirstAndGuessesAreInTheJournal) {
    const SearchInputs inputs = inputs_with(guided);
    Folder folder;
    Scorer scorer(inputs);
    const SearchResult result = run(inputs, scorer, folder);
    EXPECT_GT(result.best.search.score, 0.85);
    std::set<std::vector<double>> injected;
    int guesses = 0;
    for (const std::string& record : folder.journal) {
        const Json json = Json::parse(record);
        if (json["kind"] == "evaluation" && json["origin"] == "injected" && json["phase"] == "ps") {
            injected.insert(json["genome"].get<std::vector<double>>());
            // The one pair of two models.
            EXPECT_TRUE(json["generation"] != 0 || json["genome"] == Json({1, 1, 1, 1}));
        }
        if (json["kind"] != "generation" || !json.contains("guess")) continue;
        ++guesses;
        EXPECT_TRUE(injected.contains(json["guess"].get<std::vector<double>>()));
    }
    EXPECT_GT(guesses, 3);
}

TEST(SearchCourse, LateAnswersAreJournaledForOptimisersThatTakeNoHints) {
    const SearchInputs inputs =
        inputs_with("evaluations = 120\nquorum = 0.75\noptimiser = \"random\"\noptions = { population = 12 }\n");
    Folder folder;
    Scorer scorer(inputs);
    scorer.repeats = true;
    run(inputs, scorer, folder, 12, [](int, const SearchJob& job) { return job.id % 10 == 3 ? 4.5 : 1; });
    using Place = std::pair<int64_t, int64_t>;  // generation, candidate
    std::set<Place> given_up, late;
    for (const std::string& record : folder.journal) {
        const Json json = Json::parse(record);
        if (json["kind"] == "generation" && json.contains("missing"))
            for (const Json& candidate : json["missing"]) given_up.emplace(json["generation"], candidate["candidate"]);
        if (json["kind"] != "evaluation" || json["phase"] == "end") continue;
        const Place place(json["generation"], json["candidate"]);
        if (given_up.contains(place)) late.insert(place);
    }
    EXPECT_GT(given_up.size(), 3u);
    EXPECT_GT(late.size(), given_up.size() / 2);
}

}  // namespace
}  // namespace amalgam
