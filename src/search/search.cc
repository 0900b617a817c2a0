#include "src/search/search.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "src/base/error.h"
#include "src/search/optimisers.h"
#include "src/search/search_journal.h"

namespace amalgam {

namespace {

/// The averages of so many of the best candidates are contenders.
constexpr size_t averaged[] = {5, 10, 20};

std::string hash_of(const std::string& text) {
    return fmt::format("{:016x}", uint64_t(XXH64(text.data(), text.size(), 0)));
}

/// What the trajectory depends on; the budget is not part of it. A journal of another key is not gone on with.
std::string key_of(const SearchInputs& inputs) {
    using Json = nlohmann::json;
    const SearchConfig& config = inputs.config;
    Json all = {recipe_to_toml(config.recipe),
                int(config.space),
                config.optimiser,
                config.options,
                config.seed,
                config.tie_breaker,
                inputs.layers};
    for (const GeneField& gene : config.genes)
        all.push_back(
            {gene.name, gene.low, gene.high, gene.start, gene.sigma, gene.layer_groups, gene.smooth, gene.filters});
    const DataFlow& flow = config.data_flow;
    for (const Recipe& recipe : config.hand_made) all.push_back(recipe_to_toml(recipe));
    all.push_back({config.choose_models, flow.repeats, flow.scales, flow.scale_low, flow.scale_high, flow.cost,
                   flow.most_layers});
    for (const auto* tasks : {&inputs.search, &inputs.validation, &inputs.heldout})
        for (const Task& task : *tasks) {
            all.push_back({task.name, int(task.metric), task.weight, task.items.size()});
            for (const TaskItem& item : task.items) all.push_back({item.prompt, item.answer, item.choices, item.right});
        }
    return hash_of(all.dump());
}

Recipe plain_source(const SearchConfig& config, const std::string& model) {
    Recipe recipe;
    recipe.path = config.path;
    recipe.method = "passthrough";
    recipe.models = {{model, std::nullopt, {}, -1, 0}};
    recipe.dtype = config.recipe.dtype;
    return recipe;
}

Recipe uniform_merge(const SearchConfig& config) {
    Recipe recipe;
    recipe.path = config.path;
    recipe.method = "linear";
    recipe.dtype = config.recipe.dtype;
    for (const SourceEntry& entry : config.recipe.models)
        recipe.models.push_back({entry.model, std::nullopt, {{"weight", {{{"", {1.0}}}, 0}}}, -1, 0});
    return recipe;
}

class Search {
  public:
    Search(const SearchInputs& inputs, SearchWorld& world, const std::vector<std::string>& records)
        : inputs_(inputs),
          config_(inputs.config),
          world_(world),
          journal_(records, key_of(inputs), world.append),
          controller_(
              *world.groups, world.controller,
              [this](const SearchJob& job, const JobResult& result) { finished(job, result); },
              [this](int group, const std::string& reason) { journal_.group_lost(group, reason, now()); }),
          start_(world.groups->now()) {}

    SearchResult run();

  private:
    struct Entry {
        Asked asked;
        Recipe recipe;
        std::string text;  ///< of the recipe
    };
    struct Phase {
        std::string name;
        const RecipeSpace* space = nullptr;
        int64_t budget = 0;  ///< of counted_
        std::vector<Contender> contenders;
    };

    double now() const { return world_.groups->now() - start_; }
    double objective(const Answer& answer, double penalty) const {
        return answer.score + config_.tie_breaker * answer.likelihood - penalty;
    }
    bool is_interrupted() const { return world_.interrupted && world_.interrupted(); }
    bool out_of_time() const { return config_.seconds > 0 && journal_.seconds_before() + now() >= config_.seconds; }

    void finished(const SearchJob& job, const JobResult& result);
    void ask(std::vector<Entry> entries);
    const Known* answer_to(const Entry& entry) const { return journal_.find(entry.asked.hash, entry.asked.set); }
    Entry entry(const std::string& phase, const std::string& origin, Recipe recipe, std::vector<double> genome,
                ItemSet set) const;
    std::vector<Entry> generation_entries(Phase& phase, const Optimiser& optimiser,
                                          const std::vector<Candidate>& candidates);
    bool run_generation(Phase& phase, Optimiser& optimiser);
    void run_phase(Phase& phase, uint64_t stream);
    int64_t count_means(const Phase& phase, const Optimiser& optimiser) const;
    void score_means(Phase& phase, const Optimiser& optimiser, int64_t count);
    Contender choose(Phase& phase);
    void report_on(Contender& contender, bool search_too);
    std::unique_ptr<RecipeSpace> path_space(const std::string& first) const;
    void write_start(const RecipeSpace& space);
    bool ended() const { return !reason_.empty(); }

    const SearchInputs& inputs_;
    const SearchConfig& config_;
    SearchWorld& world_;
    SearchJournal journal_;
    SearchController controller_;
    double start_;
    std::map<int64_t, Entry> asked_;                                ///< on their way, by id
    std::map<std::string, double> penalties_;                       ///< by hash
    std::set<std::string> counted_;                                 ///< hashes of candidates that took from the budget
    std::map<std::string, std::pair<int64_t, size_t>> first_seen_;  ///< generation and place, by hash
    std::string reason_;                                            ///< why it has to end now, without a result
    std::string optimiser_end_;                                     ///< why the optimiser ended by itself
    bool in_phase_ = false;                                         ///< candidates are asked for, which time may end
    SearchResult result_;
};

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
    entry.asked.hash = hash_of(entry.text);
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
        job.instruction = encode_instruction({each.text, each.asked.set});
        job.cost = double(each.recipe.slices.empty() ? 1 : each.recipe.slices.size());
        asked_[job.id] = std::move(each);
        jobs.push_back(std::move(job));
    }
    if (jobs.empty()) return;
    controller_.run(jobs, [&] { return is_interrupted() || (in_phase_ && out_of_time()); });
    asked_.clear();
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

/// False if the budget or the time ended within it: what it found counts, but there is no update.
bool Search::run_generation(Phase& phase, Optimiser& optimiser) {
    const int64_t generation = optimiser.generation();
    const std::vector<Candidate> candidates = optimiser.ask();
    const std::vector<Entry> entries = generation_entries(phase, optimiser, candidates);
    ask(entries);

    std::vector<Outcome> outcomes(candidates.size());
    std::vector<double> objectives(candidates.size(), NAN);
    bool whole = entries.size() == candidates.size();
    for (size_t number = 0; number < entries.size(); ++number) {
        const Asked& asked = entries[number].asked;
        const Known* known = answer_to(entries[number]);
        outcomes[number].missing = !known;
        outcomes[number].valid = known && known->valid;
        if (outcomes[number].valid) objectives[number] = objective(known->answer, penalties_.at(asked.hash));
        outcomes[number].objectives = {objectives[number]};
        if (!known) {
            whole = whole && config_.quorum < 1;
            continue;
        }
        const std::pair place(generation, number);
        if (first_seen_.emplace(asked.hash, place).first->second != place) {
            journal_.duplicate(asked, *known, objectives[number]);
        } else if (known->valid) {
            phase.contenders.push_back({"best", asked.origin, entries[number].recipe, asked.genome, objectives[number],
                                        known->answer, std::nullopt, ""});
        }
    }
    if (!whole || ended()) return false;
    optimiser.tell(outcomes);
    journal_.generation(phase.name, generation, objectives, optimiser, int64_t(counted_.size()), now());
    return true;
}

void Search::run_phase(Phase& phase, uint64_t stream) {
    OptimiserSettings settings;
    settings.seed = config_.seed + stream;
    for (const auto& [name, value] : config_.options)
        set_option(settings, find_optimiser(config_.optimiser), name, value);
    const std::unique_ptr<Optimiser> optimiser = make_optimiser(config_.optimiser, phase.space->genes(), settings);
    journal_.phase(phase.name, phase.space->genes());
    std::vector<std::vector<double>> hand_made;
    if (phase.name == "ps")
        for (const Recipe& recipe : config_.hand_made) hand_made.push_back(phase.space->genome(recipe));
    if (!hand_made.empty()) optimiser->inject(hand_made);
    const int64_t means = count_means(phase, *optimiser);
    phase.budget -= means;
    in_phase_ = true;
    while (!ended() && !out_of_time() && int64_t(counted_.size()) < phase.budget && optimiser->stopped().empty())
        if (!run_generation(phase, *optimiser)) break;
    in_phase_ = false;
    optimiser_end_ = optimiser->stopped();
    phase.budget += means;
    if (!ended() && means > 0) score_means(phase, *optimiser, means);
}

/// Evaluations that are left for the distribution's mean and for averages of the best candidates, of which there are many more.
int64_t Search::count_means(const Phase& phase, const Optimiser& optimiser) const {
    const int64_t budget = phase.budget - int64_t(counted_.size());
    if (!config_.mean_genome || optimiser.mean().empty() || budget < 2) return 0;
    return 1 + std::count_if(std::begin(averaged), std::end(averaged),
                             [&](size_t best) { return budget >= 8 * int64_t(best); });
}

/// A candidate that is the best by luck does worse on other items; a mean of many has the luck of none.
void Search::score_means(Phase& phase, const Optimiser& optimiser, int64_t count) {
    std::vector<const Contender*> sorted;
    for (const Contender& each : phase.contenders) sorted.push_back(&each);
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const Contender* a, const Contender* b) { return a->objective > b->objective; });
    std::vector<std::pair<const char*, std::vector<double>>> genomes{{"mean", optimiser.mean()}};
    for (size_t best : averaged) {
        if (int64_t(genomes.size()) == count || sorted.size() < 4 * best) break;
        std::vector<double> genome(sorted[0]->genome.size(), 0);
        for (size_t place = 0; place < best; ++place)
            for (size_t gene = 0; gene < genome.size(); ++gene)
                genome[gene] += sorted[place]->genome[gene] / double(best);
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
        if (known && known->valid)
            phase.contenders.push_back({"best", made.asked.origin, made.recipe, made.asked.genome,
                                        objective(known->answer, penalties_.at(made.asked.hash)), known->answer,
                                        std::nullopt, ""});
    }
}

bool is_mean(const Contender& contender) { return contender.origin == "mean" || contender.origin == "average"; }

/// The best on the validation items, or on those searched on. Of equals, a mean, else the first.
Contender Search::choose(Phase& phase) {
    check(!phase.contenders.empty(), "no candidate could be scored: the journal has the reasons");
    std::stable_sort(phase.contenders.begin(), phase.contenders.end(), [](const Contender& a, const Contender& b) {
        if (a.objective != b.objective) return a.objective > b.objective;
        return is_mean(a) && !is_mean(b);
    });
    if (inputs_.validation.empty()) return phase.contenders.front();
    std::vector<Contender> finalists;
    for (const Contender& each : phase.contenders)
        if (int(finalists.size()) < config_.finalists || is_mean(each)) finalists.push_back(each);
    std::vector<Entry> entries;
    for (const Contender& each : finalists)
        entries.push_back(entry(phase.name, "finalist", each.recipe, each.genome, ItemSet::validation));
    ask(entries);
    size_t best = finalists.size();
    double most = 0;
    for (size_t number = 0; number < finalists.size(); ++number) {
        const Known* known = answer_to(entries[number]);
        if (!known || !known->valid) continue;
        const double value = objective(known->answer, penalties_[entries[number].asked.hash]);
        if (best < finalists.size() && value <= most) continue;
        best = number;
        most = value;
    }
    check(best < finalists.size(), "no finalist could be scored on the validation items: the journal has the reasons");
    return finalists[best];
}

/// Fills in what a contender scores, or why it cannot be scored: a source that is broken must not cost the winner.
void Search::report_on(Contender& contender, bool search_too) {
    std::vector<Entry> entries;
    if (search_too) entries.push_back(entry("end", contender.origin, contender.recipe, {}, ItemSet::search));
    if (!inputs_.heldout.empty())
        entries.push_back(entry("end", contender.origin, contender.recipe, {}, ItemSet::heldout));
    ask(entries);
    for (const Entry& each : entries) {
        const Known* known = answer_to(each);
        if (!known || !known->valid) {
            contender.error = known ? known->error : reason_;
            return;
        }
        if (each.asked.set == ItemSet::heldout)
            contender.heldout = known->answer;
        else
            contender.search = known->answer;
    }
}

std::unique_ptr<RecipeSpace> Search::path_space(const std::string& first) const {
    std::vector<PathModel> models = inputs_.sources;
    if (!first.empty()) models.insert(models.begin(), {first, inputs_.layers});
    return make_path_space(config_, std::move(models));
}

void Search::write_start(const RecipeSpace& space) {
    using Json = nlohmann::json;
    Json tasks = Json::array(), sources = Json::array();
    for (size_t task = 0; task < inputs_.search.size(); ++task)
        tasks.push_back({{"name", inputs_.search[task].name},
                         {"metric", metric_name(inputs_.search[task].metric)},
                         {"items", inputs_.search[task].items.size()},
                         {"heldout_items", inputs_.heldout.empty() ? 0 : inputs_.heldout[task].items.size()}});
    for (const SourceEntry& model : config_.recipe.models) sources.push_back(short_name(model.model));
    journal_.start(Json{{"kind", "start"},
                        {"version", 1},
                        {"key", key_of(inputs_)},
                        {"space", result_.space},
                        {"optimiser", config_.optimiser},
                        {"seed", config_.seed},
                        {"evaluations", config_.evaluations},
                        {"options", config_.options},
                        {"tie_breaker", config_.tie_breaker},
                        {"genes", genes_json(space.genes())},
                        {"tasks", std::move(tasks)},
                        {"sources", std::move(sources)}}
                       .dump());
}

SearchResult Search::run() {
    constexpr const char* spaces[] = {"ps", "dfs", "ps-dfs"};
    result_.space = spaces[int(config_.space)];
    result_.groups = world_.groups->count();
    const bool parameters = config_.space != SearchSpace::data_flow;
    std::unique_ptr<RecipeSpace> space = parameters ? make_parameter_space(config_, inputs_.layers) : path_space("");
    if (!journal_.begun()) write_start(*space);
    for (const Gene& gene : space->genes()) result_.gene_names.push_back(gene.name);

    const int64_t later = config_.space == SearchSpace::both ? config_.data_flow.evaluations : 0;
    Phase first{parameters ? "ps" : "dfs", space.get(), config_.evaluations - later, {}};
    run_phase(first, 0);
    if (!ended()) result_.best = choose(first);
    std::unique_ptr<RecipeSpace> paths;
    if (!ended() && later > 0) {
        paths = path_space(world_.write_checkpoint(result_.best.recipe, "ps-best"));
        Phase second{"dfs", paths.get(), config_.evaluations, {}};
        run_phase(second, 1);
        if (!ended()) {
            // The path has to be better than the merge it began with.
            Contender path = choose(second);
            if (path.objective > result_.best.objective) {
                result_.best = std::move(path);
                result_.gene_names.clear();
                for (const Gene& gene : paths->genes()) result_.gene_names.push_back(gene.name);
            }
        }
    }
    result_.evaluations = int64_t(counted_.size());
    if (!ended()) {
        result_.reason = !optimiser_end_.empty() ? optimiser_end_
                         : out_of_time()         ? fmt::format("{} s", config_.seconds)
                                                 : fmt::format("{} evaluations", result_.evaluations);
        if (!inputs_.validation.empty()) result_.chosen_on = "validation";
        report_on(result_.best, false);
        check(result_.best.error.empty() || ended(), "the winner cannot be scored on held-out items: {}",
              result_.best.error);
        for (const SourceEntry& model : config_.recipe.models) {
            result_.sources.push_back(
                {short_name(model.model), "source", plain_source(config_, model.model), {}, 0, {}, std::nullopt, ""});
            report_on(result_.sources.back(), true);
        }
        result_.uniform = {"uniform", "uniform", uniform_merge(config_), {}, 0, {}, std::nullopt, ""};
        report_on(result_.uniform, true);
        result_.complete = !ended();
        result_.constant = best_constant(inputs_.search, inputs_.heldout);
        if (result_.complete) journal_.end(result_.reason, result_.evaluations, journal_.seconds_before() + now());
    }
    if (ended()) result_.reason = reason_;
    result_.seconds = journal_.seconds_before() + now();
    return result_;
}

}  // namespace

SearchResult run_search(const SearchInputs& inputs, SearchWorld& world, const std::vector<std::string>& records) {
    return Search(inputs, world, records).run();
}

}  // namespace amalgam
