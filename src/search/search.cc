#include "src/search/search.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/log.h"
#include "src/search/pareto.h"
#include "src/search/search_course.h"

namespace amalgam {

namespace {

constexpr size_t most_in_front = 100;

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

}  // namespace

Contender Search::contender(const Phase& phase, const Scored& scored) const {
    return {"best",
            scored.origin,
            phase.space->recipe(scored.genome),
            scored.genome,
            scored.objective,
            journal_.find(scored.hash, ItemSet::search)->answer,
            std::nullopt,
            ""};
}

/// What no other candidate beats in all tasks, the best first.
std::vector<Contender> Search::front(const Phase& phase) const {
    std::vector<Contender> front;
    std::vector<Key> keys;
    if (inputs_.search.size() < 2) return front;
    for (const Scored& each : phase.contenders) {
        Key key;
        for (const TaskScores& task : journal_.find(each.hash, ItemSet::search)->answer.tasks)
            key.push_back(task.score);
        const auto beaten = [&](const Key& other) { return other == key || dominates(other, key); };
        if (front.size() >= most_in_front || std::any_of(keys.begin(), keys.end(), beaten)) continue;
        for (size_t place = keys.size(); place-- > 0;)
            if (dominates(key, keys[place])) {
                keys.erase(keys.begin() + int64_t(place));
                front.erase(front.begin() + int64_t(place));
            }
        keys.push_back(key);
        front.push_back(contender(phase, each));
    }
    return front;
}

/// Of candidates that failed, the reason of most.
std::string Search::frequent_failure() const {
    const std::map<std::string, int64_t> failures = journal_.failures();
    if (failures.empty()) return "the budget was over before the first";
    const auto most = std::max_element(failures.begin(), failures.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    int64_t all = 0;
    for (const auto& [reason, count] : failures) all += count;
    return fmt::format("{} of {} failed so: {}", most->second, all, most->first);
}

/// The best on the validation items, or on those searched on. Of equals, a mean, else the first.
Contender Search::choose(Phase& phase) {
    if (phase.contenders.empty()) fail("no candidate could be scored: {}", frequent_failure());
    std::sort(phase.contenders.begin(), phase.contenders.end(), is_better);
    result_.front = front(phase);
    if (inputs_.validation.empty()) {
        Contender first = contender(phase, phase.contenders.front());
        first.chosen_by = first.objective;
        return first;
    }
    std::vector<Contender> finalists;
    for (const Scored& each : phase.contenders)
        if (int(finalists.size()) < config_.finalists || is_mean(each)) finalists.push_back(contender(phase, each));
    std::vector<Entry> entries;
    for (const Contender& each : finalists)
        entries.push_back(entry(phase.name, "finalist", each.recipe, each.genome, ItemSet::validation));
    ask(entries);
    size_t best = finalists.size();
    std::string failure = reason_;
    for (size_t number = 0; number < finalists.size(); ++number) {
        const Known* known = answer_to(entries[number]);
        if (known && !known->valid) failure = known->error;
        if (!known || !known->valid) continue;
        const double value = objective(known->answer, penalties_[entries[number].asked.hash]);
        finalists[number].chosen_by = value;
        if (best == finalists.size() || value > finalists[best].chosen_by) best = number;
    }
    check(best < finalists.size() || ended(), "no finalist could be scored on the validation items: {}", failure);
    return finalists[best < finalists.size() ? best : 0];
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
    Json tasks = Json::array();
    for (size_t task = 0; task < inputs_.search.size(); ++task)
        tasks.push_back({{"name", inputs_.search[task].name},
                         {"metric", metric_name(inputs_.search[task].metric)},
                         {"items", inputs_.search[task].items.size()},
                         {"heldout_items", inputs_.heldout.empty() ? 0 : inputs_.heldout[task].items.size()}});
    journal_.start(Json{{"kind", "start"},
                        {"version", 1},
                        {"time", world_.date},
                        {"key", key_.text()},
                        {"key_parts", key_.parts},
                        {"heldout", key_.heldout},
                        {"space", result_.space},
                        {"optimiser", config_.optimiser},
                        {"seed", config_.seed},
                        {"evaluations", config_.evaluations},
                        {"options", config_.options},
                        {"tie_breaker", config_.tie_breaker},
                        {"genes", genes_json(space.genes())},
                        {"tasks", std::move(tasks)},
                        {"sources", config_.model_names}}
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
            std::vector<Contender> before = std::move(result_.front);
            Contender path = choose(second);
            if (path.chosen_by > result_.best.chosen_by) {
                result_.best = std::move(path);
                result_.gene_names.clear();
                for (const Gene& gene : paths->genes()) result_.gene_names.push_back(gene.name);
            } else {
                result_.front = std::move(before);
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
        // What was searched for is found all the same.
        if (!result_.best.error.empty() && !ended())
            log_warning("the winner cannot be scored on held-out items: {}", result_.best.error);
        for (size_t model = 0; model < config_.recipe.models.size(); ++model) {
            const Recipe plain = plain_source(config_, config_.recipe.models[model].model);
            result_.sources.push_back({config_.model_names[model], "source", plain, {}, 0, {}, std::nullopt, ""});
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

SearchResult run_search(const SearchInputs& inputs, SearchWorld& world, const std::vector<std::string>& records) {
    return Search(inputs, world, records).run();
}

}  // namespace amalgam
