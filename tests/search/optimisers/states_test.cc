// States of optimisers: the same bits go on, and no text crashes a program.
#include <gmock/gmock.h>

#include <cmath>

#include "src/base/error.h"
#include "src/search/optimisers.h"
#include "tests/search/optimisers/sample.h"

namespace amalgam {
namespace {

struct Case {
    std::string optimiser;
    OptimiserSettings settings;
};

std::vector<Case> cases() {
    std::vector<Case> found;
    for (const OptimiserInfo& info : all_optimisers()) found.push_back({std::string(info.name), {}});
    for (std::string name : {"cma", "sep-cma"}) {
        Case noisy{name, {}};
        noisy.settings.learning_rate_adaptation = true;
        noisy.settings.restarts = Restarts::bipop;
        found.push_back(noisy);
    }
    for (Case& one : found) one.settings.seed = 11;
    return found;
}

std::vector<Gene> mixed_genes() {
    std::vector<Gene> genes = sample::bounded_genes(6, 0, 1);
    genes[3] = {
        .name = "count", .kind = Gene::Kind::integer, .low = 0, .high = 4, .start = 2, .sigma = 1, .group = "b"};
    genes[4] = {.name = "switch", .kind = Gene::Kind::binary, .start = 0.5, .sigma = 0.5, .group = "b"};
    return genes;
}

std::unique_ptr<Optimiser> make(const Case& one) { return make_optimiser(one.optimiser, mixed_genes(), one.settings); }

/// Two objectives, failures and missing ones, from the candidate alone.
std::vector<Outcome> judge(const std::vector<Candidate>& candidates, int64_t generation) {
    std::vector<Outcome> outcomes;
    for (const Candidate& candidate : candidates) {
        const double value = sample::rastrigin(candidate.genome);
        outcomes.push_back({.objectives = {-std::floor(value / 10), -value}});
        outcomes.back().valid = (generation + int64_t(outcomes.size())) % 11 != 0;
        outcomes.back().missing = (generation + int64_t(outcomes.size())) % 13 == 0;
    }
    return outcomes;
}

void advance(Optimiser& optimiser, int generations) {
    for (int i = 0; i < generations && optimiser.stopped().empty(); ++i)
        optimiser.tell(judge(optimiser.ask(), optimiser.generation()));
}

bool same(const std::vector<Candidate>& a, const std::vector<Candidate>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Candidate& one, const Candidate& other) {
        return one.genome == other.genome && one.raw == other.raw && one.injected == other.injected;
    });
}

TEST(OptimiserStates, GoOnToTheSameBits) {
    for (const Case& one : cases())
        for (int stop : {0, 1, 7, 40}) {
            const std::unique_ptr<Optimiser> first = make(one), second = make(one);
            first->inject({{0.1, 0.2, 0.3, 4, 1, 0.9}, {1, 1, 1, 1, 1, 1}});
            advance(*first, stop);
            second->load(first->save());
            EXPECT_EQ(second->save(), first->save());
            EXPECT_EQ(second->generation(), first->generation());
            EXPECT_EQ(second->stopped(), first->stopped());
            for (int i = 0; i < 30 && first->stopped().empty(); ++i) {
                ASSERT_TRUE(same(first->ask(), second->ask())) << one.optimiser << " " << stop;
                advance(*first, 1);
                advance(*second, 1);
            }
            EXPECT_EQ(second->save(), first->save()) << one.optimiser << " " << stop;
            EXPECT_EQ(second->mean(), first->mean());
        }
}

TEST(OptimiserStates, GoOnFromBetweenAskAndTell) {
    for (const Case& one : cases()) {
        const std::unique_ptr<Optimiser> first = make(one), second = make(one);
        advance(*first, 3);
        first->inject({{0.1, 0.2, 0.3, 4, 1, 0.9}});
        const std::vector<Candidate> asked = first->ask();
        first->inject({{0.9, 0.2, 0.3, 4, 1, 0.9}});
        second->load(first->save());
        EXPECT_TRUE(same(second->ask(), asked)) << one.optimiser;
        advance(*first, 2);
        advance(*second, 2);
        EXPECT_TRUE(same(second->ask(), first->ask())) << one.optimiser;
        EXPECT_EQ(second->save(), first->save());
    }
}

TEST(OptimiserStates, BelongToTheirGenesAndSettings) {
    for (const Case& one : cases()) {
        const std::unique_ptr<Optimiser> optimiser = make(one);
        advance(*optimiser, 2);
        const std::string state = optimiser->save();
        Case other = one;
        other.settings.seed = 12;
        EXPECT_THROW(make(other)->load(state), Error);
        std::vector<Gene> genes = mixed_genes();
        genes[0].high = 0.9;
        EXPECT_THROW(make_optimiser(one.optimiser, genes, one.settings)->load(state), Error);
        EXPECT_THROW(make({one.optimiser == "cma" ? "sep-cma" : "cma", one.settings})->load(state), Error);
    }
}

/// Loads a text; what was accepted must work, what was refused must have left no trace.
void try_state(const Case& one, const std::string& before, const std::string& text) {
    const std::unique_ptr<Optimiser> optimiser = make(one);
    optimiser->load(before);
    try {
        optimiser->load(text);
    } catch (const Error&) {
        ASSERT_EQ(optimiser->save(), before);
        return;
    }
    for (int i = 0; i < 3 && optimiser->stopped().empty(); ++i)
        optimiser->tell(judge(optimiser->ask(), optimiser->generation()));
    optimiser->save();
}

TEST(OptimiserStates, DamagedTextsAreErrorsOrHarmless) {
    for (const Case& one : cases()) {
        const std::unique_ptr<Optimiser> optimiser = make(one);
        advance(*optimiser, 4);
        optimiser->inject({{0.1, 0.2, 0.3, 4, 1, 0.9}});
        const std::string state = optimiser->save();
        for (size_t length = 0; length < state.size(); length += 1 + state.size() / 60)
            EXPECT_THROW(make(one)->load(state.substr(0, length)), Error);
        EXPECT_THROW(make(one)->load(state + "more 1 2\n"), Error);
        // One number of a line replaced.
        const std::vector<std::string> numbers{
            "-1", "0", "1e308", "-1e308", "1e-320", "nan", "inf", "9223372036854775807", "99999999999999999999",
            "2",  "x", ""};
        size_t which = 0;
        for (size_t begin = 0; begin < state.size();) {
            const size_t end = state.find('\n', begin);
            std::vector<size_t> blanks;
            for (size_t place = begin; place < end; ++place)
                if (state[place] == ' ') blanks.push_back(place);
            for (size_t pick : {size_t(0), size_t(1), blanks.size() / 2, blanks.size() - 1}) {
                if (pick >= blanks.size()) continue;
                const size_t from = blanks[pick] + 1, to = std::min(end, state.find(' ', from));
                for (int turn = 0; turn < 3; ++turn)
                    try_state(one, state, state.substr(0, from) + numbers[which++ % numbers.size()] + state.substr(to));
            }
            begin = end + 1;
        }
    }
}

TEST(OptimiserStates, ToldWrongThings) {
    for (const Case& one : cases()) {
        const std::unique_ptr<Optimiser> optimiser = make(one);
        const size_t count = optimiser->ask().size();
        EXPECT_THROW(optimiser->tell(std::vector<Outcome>(count + 1, {.objectives = {1}})), Error);
        EXPECT_THROW(optimiser->tell(std::vector<Outcome>(count, {.objectives = {}})), Error);
        EXPECT_THROW(optimiser->inject({{1, 2}}), Error);
        EXPECT_EQ(optimiser->generation(), 0);
        optimiser->tell(std::vector<Outcome>(count, {.objectives = {1}}));
        EXPECT_EQ(optimiser->generation(), 1);
        const size_t next = optimiser->ask().size();
        EXPECT_THROW(optimiser->tell(std::vector<Outcome>(next, {.objectives = {1, 2}})), Error);
    }
}

}  // namespace
}  // namespace amalgam
