// Paths through layers: what a genome becomes, what its scales are, and that a search finds a planted one.
#include <gmock/gmock.h>

#include <cmath>

#include "src/base/error.h"
#include "tests/search/function_groups.h"

namespace amalgam {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;

SearchConfig path_config(const std::string& settings) {
    return parse_search(
        "[merge]\nmerge_method = \"linear\"\nmodels = [\"m/one\", \"m/two\"]\nparameters.weight = 1.0\n"
        "[search]\nspace = \"dfs\"\n" +
            settings + "\n[[tasks]]\nsearch = \"s\"\nheldout = \"h\"\n",
        "search.toml");
}

/// "0.2" for layer 2 of the first model; with what its o_proj is multiplied by.
std::vector<std::pair<std::string, double>> layers_of(const Recipe& recipe) {
    std::vector<std::pair<std::string, double>> layers;
    for (const OutputSlice& slice : recipe.slices) {
        const SourceEntry& source = slice.sources[0];
        const int model = source.model == "m/one" ? 0 : 1;
        const auto scale = source.parameters.find("scale");
        for (int64_t layer = source.layer_range->first; layer < source.layer_range->second; ++layer)
            layers.emplace_back(fmt::format("{}.{}", model, layer),
                                scale == source.parameters.end() ? 1 : scale->second.entries[0].gradient[0]);
    }
    return layers;
}

std::string path_text(const Recipe& recipe) {
    std::string text;
    for (const auto& [layer, scale] : layers_of(recipe)) text += (text.empty() ? "" : " ") + layer;
    return text;
}

std::vector<double> genome_of(const RecipeSpace& space, const std::vector<std::pair<std::string, double>>& values) {
    std::vector<double> genome;
    size_t found = 0;
    for (const Gene& gene : space.genes()) {
        double value = gene.kind == Gene::Kind::binary ? 0 : gene.start;
        for (const auto& [name, given] : values)
            if (name == gene.name) value = given, ++found;
        genome.push_back(value);
    }
    EXPECT_EQ(found, values.size());
    return genome;
}

const std::vector<PathModel> models = {{"m/one", 3}, {"m/two", 2}};

TEST(PathSpace, EndsAreThoseOfTheFirstModel) {
    const SearchConfig config = path_config("data_flow.repeats = 2\n");
    const auto space = make_path_space(config, models);
    EXPECT_EQ(space->genes().size(), 9u);
    EXPECT_EQ(space->genes()[0].name, "0:0.1");
    EXPECT_EQ(path_text(space->recipe(genome_of(*space, {}))), "0.0 0.2");
    EXPECT_EQ(path_text(space->recipe(genome_of(*space, {{"0:1.1", 1}, {"1:0.0", 1}, {"1:0.2", 1}}))),
              "0.0 1.1 0.0 0.2");
    // The same layer twice in a row, and neighbours.
    EXPECT_EQ(path_text(space->recipe(genome_of(*space, {{"0:0.1", 1}, {"0:0.2", 1}, {"1:1.1", 1}}))),
              "0.0 0.1 0.2 1.1 0.2");
    // In the first generation, 70 of 100 are on, or 30: normal numbers of deviation 0.2, rounded.
    EXPECT_NEAR(space->genes()[0].start, 0.5 + 0.2 * 0.52440051270804078, 1e-12);
    EXPECT_NEAR(space->genes()[2].start, 0.5 - 0.2 * 0.52440051270804078, 1e-12);
}

TEST(PathSpace, EndsMayBeFree) {
    const SearchConfig config = path_config("data_flow = { fixed_ends = false, most_layers = 2, cost = 0.25 }\n");
    const auto space = make_path_space(config, {{"m/one", 1}, {"m/two", 3}});
    EXPECT_EQ(space->genes().size(), 4u);
    EXPECT_EQ(path_text(space->recipe(genome_of(*space, {}))), "0.0");
    EXPECT_EQ(path_text(space->recipe(genome_of(*space, {{"0:1.1", 1}}))), "1.1");
    const std::vector<double> all(4, 1);
    EXPECT_EQ(path_text(space->recipe(all)), "0.0 1.0");
    EXPECT_EQ(space->penalty(all), 0.25);
}

TEST(PathSpace, ScalesOfSlotsAddUpAlongThePath) {
    const SearchConfig config = path_config("data_flow.scales = true\n");
    const auto space = make_path_space(config, models);
    const auto genome = genome_of(
        *space, {{"0:1.0", 1}, {"0:0.0.scale", 0.8}, {"0:1.0.scale", 1.25}, {"0:1.1.scale", 0.5}, {"end.scale", 0.5}});
    const auto layers = layers_of(space->recipe(genome));
    ASSERT_EQ(layers.size(), 3u);
    EXPECT_THAT(layers[0], testing::Pair("0.0", DoubleNear(1 / 0.8, 1e-15)));
    EXPECT_THAT(layers[1], testing::Pair("1.0", DoubleNear(1, 1e-15)));
    EXPECT_THAT(layers[2], testing::Pair("0.2", DoubleNear(2, 1e-15)));
    // Slots: 0.1 0.2 1.0 1.1; scales of 0.0 0.1 0.2 1.0 1.1 and the end.
    EXPECT_THAT(space->idle(genome), ElementsAre(0, 0, 0, 0, 0, 1, 1, 0, 1, 0));
    // What is idle does not matter.
    auto other = genome;
    other[5] = 1.5;
    EXPECT_EQ(recipe_to_toml(space->recipe(other)), recipe_to_toml(space->recipe(genome)));
}

TEST(PathSpace, ScalesOfLowRankAreOfBothLayers) {
    const SearchConfig config =
        path_config("data_flow = { scales = \"low-rank\", scale_rank = 2, scale_high = 1.75 }\n");
    const auto space = make_path_space(config, models);
    EXPECT_EQ(space->genes().size(), 4u + 2 * (6 + 5));
    const auto genome = genome_of(*space, {{"0:1.1", 1},
                                           {"scale.u[embedding][0]", 0.5},
                                           {"scale.v[0.0][0]", 0.5},
                                           {"scale.u[0.0][0]", 0.5},
                                           {"scale.u[0.0][1]", -0.25},
                                           {"scale.v[1.1][0]", -0.5},
                                           {"scale.v[1.1][1]", 0.5},
                                           {"scale.u[1.1][1]", 0.8},
                                           {"scale.v[0.2][1]", 0.8}});
    const auto layers = layers_of(space->recipe(genome));
    ASSERT_EQ(layers.size(), 3u);
    EXPECT_DOUBLE_EQ(layers[0].second, 1 / 1.25);
    EXPECT_DOUBLE_EQ(layers[1].second, 1 / (1.25 * (1 - 0.25 - 0.125)));
    EXPECT_DOUBLE_EQ(layers[2].second, 1 / (1.25 * 0.625 * 1.64));
    const std::vector<bool> idle = space->idle(genome);
    for (size_t gene = 0; gene < idle.size(); ++gene) {
        const std::string& name = space->genes()[gene].name;
        const bool part = gene < 4 || name.starts_with("scale.u[e") || name.starts_with("scale.u[0.0") ||
                          name.starts_with("scale.u[1.1") || name.starts_with("scale.v[0.0") ||
                          name.starts_with("scale.v[1.1") || name.starts_with("scale.v[0.2");
        EXPECT_EQ(idle[gene], !part) << name;
    }
}

TEST(PathSpace, ScalesOfANetworkAreThoseOfItsFormula) {
    const SearchConfig config =
        path_config("data_flow = { scales = \"network\", scale_hidden = 3, scale_low = 0.25 }\n");
    const auto space = make_path_space(config, models);
    ASSERT_EQ(space->genes().size(), 4u + 3 * 8 + 3 * 4 + 4);
    for (const auto& [layer, scale] : layers_of(space->recipe(genome_of(*space, {})))) EXPECT_EQ(scale, 1);
    auto genome = genome_of(*space, {{"0:1.1", 1}});
    for (size_t i = 4; i < genome.size(); ++i) genome[i] = std::sin(double(3 * i));
    // Depth and model of where it comes from and goes to, and the place among 6 slots.
    const double links[3][7] = {{-1, 0, 0, -1, 1, 0, -1}, {-1, 1, 0, 1, 0, 1, 2 * 4 / 5. - 1}, {1, 0, 1, 1, 1, 0, 1}};
    const auto layers = layers_of(space->recipe(genome));
    ASSERT_EQ(layers.size(), 3u);
    double product = 1;
    for (size_t step = 0; step < 3; ++step) {
        const double* weight = &genome[4];
        double first[3], second[3];
        for (double& out : first) {
            out = 0;
            for (double value : links[step]) out += *weight++ * value;
            out = std::tanh(out + *weight++);
        }
        for (double& out : second) {
            out = 0;
            for (double value : first) out += *weight++ * value;
            out = std::tanh(out + *weight++);
        }
        double out = 0;
        for (double value : second) out += *weight++ * value;
        out = std::tanh(out + *weight++);
        product *= 1 + out * (out > 0 ? 0.5 : 0.75);
        EXPECT_NEAR(layers[step].second, 1 / product, 1e-12) << step;
    }
    EXPECT_THAT(space->idle(genome), testing::Each(false));
}

TEST(PathSpace, SaysWhatItDoesNotUnderstand) {
    const auto message = [](const std::string& settings) {
        try {
            path_config(settings);
        } catch (const Error& error) {
            return std::string(error.what());
        }
        return std::string();
    };
    EXPECT_EQ(message("data_flow.scales = \"none\""), "");
    EXPECT_EQ(message("data_flow.scales = false"), "");
    EXPECT_THAT(message("data_flow.scales = \"slot\""), HasSubstr("did you mean \"slots\""));
    EXPECT_THAT(message("data_flow = { scales = true, scale_low = 1, scale_high = 1 }"), HasSubstr("both 1"));
    EXPECT_THAT(message("data_flow.likely = 1"), HasSubstr("0.01 to 0.99"));
    EXPECT_THAT(message("data_flow.scale_rank = 0"), HasSubstr("scale_rank=0"));
}

TEST(IdleGenes, LeaveTheMeanWhereItIs) {
    std::vector<Gene> genes(3);
    for (const char* name : {"cma", "sep-cma"}) {
        const auto idle = make_optimiser(name, genes, {}), plain = make_optimiser(name, genes, {});
        for (int generation = 0; generation < 4; ++generation) {
            const double before = idle->mean()[1];
            const auto candidates = idle->ask();
            std::vector<Outcome> outcomes, all;
            for (const Candidate& each : candidates) {
                outcomes.push_back({.objectives = {each.genome[0] - each.genome[2]}, .idle = {false, true, false}});
                all.push_back({.objectives = outcomes.back().objectives});
            }
            const double first = idle->mean()[0];
            idle->tell(outcomes);
            EXPECT_EQ(idle->mean()[1], before) << name;
            if (generation > 0) continue;
            EXPECT_GT(idle->mean()[0], first) << name;
            // The first step of the other genes is the same as if all had a part, and so is sigma.
            plain->tell(all);
            EXPECT_EQ(idle->mean()[0], plain->mean()[0]);
            EXPECT_EQ(idle->mean()[2], plain->mean()[2]);
            EXPECT_NE(idle->mean()[1], plain->mean()[1]);
            EXPECT_EQ(idle->facts(), plain->facts());
        }
        EXPECT_THROW(idle->tell(std::vector<Outcome>(idle->ask().size(), {.objectives = {1}, .idle = {true}})), Error);
    }
}

/// Twice the layers that are common to both paths in order, by all layers of both; less for scales that are off.
double likeness(const Recipe& recipe, const std::vector<std::pair<std::string, double>>& planted) {
    const auto layers = layers_of(recipe);
    std::vector<std::vector<double>> common(layers.size() + 1, std::vector<double>(planted.size() + 1));
    for (size_t i = 0; i < layers.size(); ++i)
        for (size_t j = 0; j < planted.size(); ++j) {
            const double off = std::log(layers[i].second * planted[j].second);
            const double match = layers[i].first == planted[j].first ? common[i][j] + 1 - std::min(0.5, off * off) : 0;
            common[i + 1][j + 1] = std::max({match, common[i][j + 1], common[i + 1][j]});
        }
    return 2 * common.back().back() / double(layers.size() + planted.size());
}

/// Searches 23 switches, for scales too if `settings` says so: two models of 6 layers, in two passes.
Contender found_path(const std::string& settings, const std::vector<std::pair<std::string, double>>& planted) {
    SearchInputs inputs = task_inputs(path_config("data_flow.repeats = 2\n" + settings));
    inputs.sources = {{"m/one", 6}, {"m/two", 6}};
    FunctionGroups groups(
        [&](const Recipe& recipe, ItemSet) { return recipe.slices.empty() ? 0 : likeness(recipe, planted); });
    std::vector<std::string> journal;
    return run(inputs, groups, journal).best;
}

TEST(Search, FindsAPlantedPath) {
    const std::vector<std::pair<std::string, double>> planted = {
        {"0.0", 1}, {"0.1", 1}, {"1.1", 1}, {"1.2", 1}, {"1.3", 1}, {"0.3", 1}, {"0.4", 1}, {"1.4", 1}, {"0.5", 1}};
    for (int seed = 1; seed <= 10; ++seed) {
        const Contender best =
            found_path(fmt::format("evaluations = 1000\noptions.restarts = \"ipop\"\nseed = {}\n", seed), planted);
        EXPECT_EQ(path_text(best.recipe), "0.0 0.1 1.1 1.2 1.3 0.3 0.4 1.4 0.5") << "seed " << seed;
        EXPECT_EQ(best.search.score, 1);
    }
    // As many points drawn anywhere do not find it.
    const Contender random = found_path("evaluations = 1000\noptimiser = \"random\"\n", planted);
    EXPECT_LT(random.search.score, 0.95);
}

TEST(Search, FindsAPlantedPathAndItsScales) {
    // Of the stream, layer after layer.
    const std::vector<std::pair<std::string, double>> planted = {
        {"0.0", 0.8}, {"1.1", 0.9}, {"1.2", 1.2}, {"0.3", 1.0}, {"0.5", 1.3}};
    for (int seed = 1; seed <= 3; ++seed) {
        const Contender best = found_path(
            fmt::format("data_flow.scales = true\nevaluations = 2500\noptions.restarts = \"ipop\"\nseed = {}\n", seed),
            planted);
        EXPECT_EQ(path_text(best.recipe), "0.0 1.1 1.2 0.3 0.5") << "seed " << seed;
        EXPECT_GT(best.search.score, 0.998) << "seed " << seed;
        const auto layers = layers_of(best.recipe);
        for (size_t i = 0; i < std::min(layers.size(), planted.size()); ++i)
            EXPECT_NEAR(layers[i].second * planted[i].second, 1, 0.1) << "seed " << seed << ", layer " << i;
    }
}

}  // namespace
}  // namespace amalgam
