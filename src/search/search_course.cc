#include "src/search/search_course.h"
#include "src/search/surrogate.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "src/base/error.h"
#include "src/base/log.h"
#include "src/search/budget.h"
#include "src/search/optimisers.h"

namespace amalgam {

namespace {

constexpr double state_seconds = 2;  ///< between two states that are kept

}  // namespace

void Search::finished(const SearchJob& job, const JobResult& result) {
    const Entry& entry = asked_.at(job.id);
    Known known;
    known.id = job.id;
    known.valid = result.valid;
    known.error = result.error;
    known.seconds = result.ended - result.started;
    double value = NAN;
    if (known.valid) {
        try {
            known.answer = decode_answer(result.answer);
            value = objective(known.answer, penalties_[entry.asked.hash]);
        } catch (const Error& error) {
            known.error = error.what();
            known.valid = false;
        }
        if (known.valid && !std::isfinite(value)) {
            known.valid = false;
            known.error = "the score is not a number";
        }
    }
    journal_.evaluated(entry.asked, known, value, result);
}

Search::Entry Search::entry(const std::string& phase, const std::string& origin, Recipe recipe,
                            std::vector<double> genome, ItemSet set) const {
    Entry entry;
    entry.asked.phase = phase;
    entry.asked.origin = origin;
    entry.asked.set = set;
    entry.asked.genome = std::move(genome);
    entry.text = recipe_to_toml(recipe);
    entry.asked.hash = text_hash(entry.text);
    entry.recipe = std::move(recipe);
    return entry;
}

/// Has what is not known evaluated; the answers are in the journal then.
void Search::ask(std::vector<Entry> entries) {
    std::vector<SearchJob> jobs;
    std::set<std::pair<std::string, ItemSet>> here;
    for (Entry& each : entries) {
        if (answer_to(each) || !here.insert({each.asked.hash, each.asked.set}).second) continue;
        SearchJob job;
        job.id = each.asked.id = journal_.next_id();
        job.genome = each.asked.genome;
        job.instruction = encode_instruction({each.text, each.asked.set, cut_for(each)});
        job.cost = each.recipe.slices.empty() ? 1 : 0;
        for (const OutputSlice& slice : each.recipe.slices)
            if (const auto& range = slice.sources[0].layer_range) job.cost += double(range->second - range->first);
        asked_[job.id] = std::move(each);
        jobs.push_back(std::move(job));
    }
    if (jobs.empty()) return;
    const auto results = controller_.run(jobs, [&] { return is_interrupted() || (in_phase_ && out_of_time()); });
    // Those that were given up may be answered yet.
    for (size_t number = 0; number < jobs.size(); ++number)
        if (results[number]) asked_.erase(jobs[number].id);
    if (is_interrupted()) reason_ = "interrupted";
}

/// What a generation asks, as far as the budget goes.
std::vector<Search::Entry> Search::generation_entries(Phase& phase, const Optimiser& optimiser,
                                                      const std::vector<Candidate>& candidates) {
    std::vector<Entry> entries;
    for (size_t number = 0; number < candidates.size(); ++number) {
        const Candidate& each = candidates[number];
        Entry made = entry(phase.name, each.injected ? "injected" : "drawn", phase.space->recipe(each.genome),
                           each.genome, ItemSet::search);
        made.asked.generation = optimiser.generation();
        made.asked.candidate = int64_t(number);
        if (!counted_.contains(made.asked.hash)) {
            if (int64_t(counted_.size()) >= phase.budget) break;
            counted_.insert(made.asked.hash);
        }
        penalties_[made.asked.hash] = phase.space->penalty(each.genome);
        entries.push_back(std::move(made));
    }
    return entries;
}

/// The scores to race against; none if there are none so far.
std::vector<std::vector<double>> Search::cut_for(const Entry& entry) const {
    std::vector<std::vector<double>> cut;
    const bool races = entry.asked.origin == "drawn" || entry.asked.origin == "injected";
    if (!races || cut_.empty()) return cut;
    for (const TaskScores& task : journal_.find(cut_, ItemSet::search)->answer.tasks) cut.push_back(task.items);
    return cut;
}

/// Answers of groups that a quorum did not wait for.
void Search::take_late_answers() {
    for (const JobResult& result : controller_.late()) {
        if (!asked_.contains(result.id)) continue;
        SearchJob job;
        job.id = result.id;
        finished(job, result);
        asked_.erase(result.id);
    }
}

/// Candidates whose answers came too late for their generation take places in this one; in a generation that an earlier run
/// ended, those that did then.
void Search::inject_late(Phase& phase, Optimiser& optimiser, GenerationFacts& facts) {
    if (config_.quorum == 1) return;
    take_late_answers();
    if (optimiser.mean().empty()) return;
    const GenerationFacts* recorded = journal_.find_generation(phase.name, optimiser.generation());
    const auto answered = [&](const auto& given_up) {
        const Known* known = journal_.find(given_up.first, ItemSet::search);
        if (recorded)
            return std::find(recorded->late.begin(), recorded->late.end(), given_up.second) != recorded->late.end();
        return known && known->is_whole();
    };
    const auto first = std::stable_partition(phase.given_up.begin(), phase.given_up.end(), std::not_fn(answered));
    for (auto each = first; each != phase.given_up.end(); ++each) facts.late.push_back(std::move(each->second));
    phase.given_up.erase(first, phase.given_up.end());
    if (recorded) facts.late = recorded->late;
    if (!facts.late.empty()) optimiser.inject(facts.late);
}

/// What a model of the objective takes for the best place takes part in this generation.
void Search::inject_guess(const Phase& phase, Optimiser& optimiser, GenerationFacts& facts) const {
    if (!config_.surrogate || !find_optimiser(config_.optimiser).learns_from_guests || optimiser.mean().empty()) return;
    if (const GenerationFacts* recorded = journal_.find_generation(phase.name, optimiser.generation())) {
        facts.guess = recorded->guess;
    } else if (!optimiser.has_waiting()) {  // what a guess knows would be old when its turn comes
        std::vector<const Scored*> latest;
        for (const Scored& each : phase.contenders) latest.push_back(&each);
        std::sort(latest.begin(), latest.end(), [](auto* a, auto* b) { return a->place < b->place; });
        const size_t count = std::min(latest.size(), surrogate_memory);
        std::vector<ScoredGenome> recent;
        for (size_t k = latest.size() - count; k < latest.size(); ++k)
            recent.push_back({latest[k]->genome, latest[k]->objective});
        facts.guess = surrogate_guess(phase.space->genes(), std::move(recent), optimiser.mean());
    }
    if (!facts.guess.empty()) optimiser.inject({facts.guess});
}

/// A candidate that was evaluated in the search, for the first time.
void Search::note(Phase& phase, const Asked& asked, const Known& known) {
    counted_.insert(asked.hash);
    const double penalty = phase.space->penalty(asked.genome);
    penalties_[asked.hash] = penalty;
    first_seen_.emplace(asked.hash, std::pair(asked.generation, size_t(asked.candidate)));
    if (known.is_whole()) contend(phase, asked, known);
}

void Search::contend(Phase& phase, const Asked& asked, const Known& known) const {
    phase.contenders.push_back({asked.hash,
                                asked.origin,
                                asked.genome,
                                {asked.generation, asked.candidate},
                                objective(known.answer, penalties_.at(asked.hash))});
}

/// Whether the optimiser trades tasks against each other.
bool Search::has_front() const {
    return inputs_.search.size() > 1 && find_optimiser(config_.optimiser).many_objectives;
}

std::vector<double> Search::task_objectives(const Answer& answer, double penalty) const {
    std::vector<double> objectives;
    for (const TaskScores& task : answer.tasks)
        objectives.push_back(task.score + config_.tie_breaker * task.likelihood - penalty);
    return objectives;
}

/// What became of each candidate of a generation, and its objective.
std::vector<Outcome> Search::outcomes_of(Phase& phase, int64_t generation, const std::vector<Entry>& entries,
                                         std::vector<double>& objectives, GenerationFacts& facts) {
    const size_t count = objectives.size();
    std::vector<Outcome> outcomes(count);
    const GenerationFacts* recorded = journal_.find_generation(phase.name, generation);
    for (size_t number = 0; number < count; ++number) {
        Outcome& outcome = outcomes[number];
        outcome.objectives.assign(has_front() ? inputs_.search.size() : 1, NAN);
        outcome.missing = true;
        if (number >= entries.size()) continue;
        const Asked& asked = entries[number].asked;
        const Known* known = answer_to(entries[number]);
        const bool given_up = recorded && std::any_of(recorded->missing.begin(), recorded->missing.end(),
                                                      [&](const auto& each) { return each.hash == asked.hash; });
        if (!known || given_up) {
            facts.missing.push_back({int64_t(number), asked.hash});
            phase.given_up.emplace_back(asked.hash, asked.genome);
            continue;
        }
        outcome.missing = false;
        outcome.idle = phase.space->idle(asked.genome);
        outcome.valid = known->valid;
        if (known->valid) {
            const double penalty = penalties_.at(asked.hash);
            objectives[number] = objective(known->answer, penalty);
            outcome.objectives =
                has_front() ? task_objectives(known->answer, penalty) : std::vector{objectives[number]};
        }
        const auto seen = first_seen_.find(asked.hash);
        if (seen == first_seen_.end())
            note(phase, asked, *known);
        else if (seen->second != std::pair(generation, number))
            journal_.duplicate(asked, *known, objectives[number]);
    }
    return outcomes;
}

/// The next generation races against the last one's candidate in the middle.
void Search::choose_cut(const std::vector<Entry>& entries, const std::vector<double>& objectives) {
    if (config_.racing == 0) return;
    std::vector<std::pair<double, size_t>> order;
    for (size_t number = 0; number < entries.size(); ++number)
        if (std::isfinite(objectives[number])) order.emplace_back(-objectives[number], number);
    std::sort(order.begin(), order.end());
    order.resize(std::min(order.size(), objectives.size() / 2));
    while (!order.empty() && !answer_to(entries[order.back().second])->is_whole()) order.pop_back();
    if (!order.empty()) cut_ = entries[order.back().second].asked.hash;
}

/// False if the budget or the time ended within it: what it found counts, but there is no update.
bool Search::run_generation(Phase& phase, Optimiser& optimiser) {
    GenerationFacts facts;
    inject_late(phase, optimiser, facts);
    inject_guess(phase, optimiser, facts);
    const int64_t generation = optimiser.generation();
    const std::vector<Candidate> candidates = optimiser.ask();
    const std::vector<Entry> entries = generation_entries(phase, optimiser, candidates);
    ask(entries);
    std::vector<double> objectives(candidates.size(), NAN);
    const std::vector<Outcome> outcomes = outcomes_of(phase, generation, entries, objectives, facts);
    const bool whole =
        entries.size() == candidates.size() && (facts.missing.empty() || (config_.quorum < 1 && !out_of_time()));
    if (!whole || ended()) return false;
    optimiser.tell(outcomes);
    journal_.generation(phase.name, generation, objectives, facts, optimiser, int64_t(counted_.size()), now());
    choose_cut(entries, objectives);
    save(phase, optimiser, candidates, objectives);
    return true;
}

void Search::save(const Phase& phase, const Optimiser& optimiser, const std::vector<Candidate>& candidates,
                  const std::vector<double>& objectives) {
    if (!world_.save || now() < saved_at_ + state_seconds) return;
    SearchState state;
    state.key = key_.text();
    state.phase = phase.name;
    state.generation = optimiser.generation();
    state.evaluations = int64_t(counted_.size());
    state.optimiser = optimiser.save();
    state.cut = cut_;
    for (const Gene& gene : phase.space->genes()) state.genes.push_back(gene.name);
    state.mean = optimiser.mean();
    for (const Candidate& candidate : candidates) state.genomes.push_back(candidate.genome);
    state.objectives = objectives;
    world_.save(state);
    saved_at_ = now();
}

/// Goes to where an earlier run was, if it left that; else the journal leads there.
void Search::restore(Phase& phase, Optimiser& optimiser) {
    if (!world_.saved || world_.saved->key != key_.text() || world_.saved->phase != phase.name) return;
    const SearchState& state = *world_.saved;
    if (!journal_.find_generation(phase.name, state.generation - 1)) return;
    if (!state.cut.empty() && !journal_.find(state.cut, ItemSet::search)) return;
    try {
        optimiser.load(state.optimiser);
    } catch (const Error& error) {
        log_warning("the state of the search is not used, its journal is gone through instead: {}", error.what());
        return;
    }
    cut_ = state.cut;
    for (const Asked& asked : journal_.evaluated_in(phase.name))
        if ((asked.origin == "drawn" || asked.origin == "injected") && asked.generation < state.generation)
            note(phase, asked, *journal_.find(asked.hash, asked.set));
    for (int64_t generation = 0; generation < state.generation; ++generation)
        if (const GenerationFacts* facts = journal_.find_generation(phase.name, generation))
            for (const auto& each : facts->missing) counted_.insert(each.hash);
}

void Search::run_phase(Phase& phase, uint64_t stream) {
    OptimiserSettings settings;
    settings.seed = config_.seed + stream;
    for (const auto& [name, value] : config_.options)
        set_option(settings, find_optimiser(config_.optimiser), name, value);
    const std::unique_ptr<Optimiser> optimiser = make_optimiser(config_.optimiser, phase.space->genes(), settings);
    journal_.phase(phase.name, phase.space->genes());
    std::vector<std::vector<double>> hand_made;
    if (phase.name == "ps") {
        for (const Recipe& recipe : config_.hand_made) hand_made.push_back(phase.space->genome(recipe));
        if (config_.pairs)
            for (const Recipe& recipe : pairs_of_models(config_.recipe))
                hand_made.push_back(phase.space->genome(recipe));
    }
    if (!hand_made.empty()) optimiser->inject(hand_made);
    const int64_t means = count_means(config_, *optimiser, phase.budget - int64_t(counted_.size()));
    phase.budget -= means;
    cut_.clear();
    restore(phase, *optimiser);
    in_phase_ = true;
    while (!ended() && !out_of_time() && int64_t(counted_.size()) < phase.budget && optimiser->stopped().empty())
        if (!run_generation(phase, *optimiser)) break;
    in_phase_ = false;
    optimiser_end_ = optimiser->stopped();
    phase.budget += means;
    if (!ended() && means > 0) score_means(phase, *optimiser, means);
}

/// A candidate that is the best by luck does worse on other items; a mean of many has the luck of none.
void Search::score_means(Phase& phase, const Optimiser& optimiser, int64_t count) {
    std::sort(phase.contenders.begin(), phase.contenders.end(), is_better);
    const std::vector<Scored>& sorted = phase.contenders;
    std::vector<std::pair<const char*, std::vector<double>>> genomes{{"mean", optimiser.mean()}};
    for (size_t best : averaged) {
        if (int64_t(genomes.size()) == count || sorted.size() < 4 * best) break;
        std::vector<double> genome(sorted[0].genome.size(), 0);
        for (size_t place = 0; place < best; ++place)
            for (size_t gene = 0; gene < genome.size(); ++gene)
                genome[gene] += sorted[place].genome[gene] / double(best);
        for (size_t gene = 0; gene < genome.size(); ++gene)
            if (phase.space->genes()[gene].kind != Gene::Kind::continuous) genome[gene] = std::round(genome[gene]);
        genomes.emplace_back("average", std::move(genome));
    }
    std::vector<Entry> entries;
    for (auto& [origin, genome] : genomes) {
        Entry made = entry(phase.name, origin, phase.space->recipe(genome), genome, ItemSet::search);
        made.asked.generation = optimiser.generation();
        made.asked.candidate = int64_t(entries.size());
        penalties_[made.asked.hash] = phase.space->penalty(genome);
        counted_.insert(made.asked.hash);
        entries.push_back(std::move(made));
    }
    ask(entries);
    for (const Entry& made : entries) {
        const Known* known = answer_to(made);
        if (known && known->is_whole()) contend(phase, made.asked, *known);
    }
}

}  // namespace amalgam
