#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "jobs/report.h"
#include "jobs/table.h"
#include "src/base/error.h"
#include "src/search/statistics.h"

namespace amalgam {
namespace {

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
constexpr size_t most_items = 200'000;
constexpr size_t most_reasons = 100;

/// Held-out items of a task among those of all tasks.
struct Slice {
    size_t first = 0, count = 0;
};

std::vector<Slice> slices_of(const Run& run) {
    std::vector<Slice> slices;
    size_t first = 0;
    for (const RunTask& task : run.start.tasks) {
        slices.push_back({first, size_t(task.heldout_items)});
        first += slices.back().count;
    }
    return slices;
}

size_t item_count(const Run& run) {
    const std::vector<Slice> slices = slices_of(run);
    return slices.empty() ? 0 : slices.back().first + slices.back().count;
}

double value_of(const RunScores& scores) { return std::isfinite(scores.heldout) ? scores.heldout : scores.search; }

Json contender_json(const RunScores& scores, const char* kind, const std::string& title) {
    return {{"name", scores.name},
            {"kind", kind},
            {"title", title},
            {"search", rounded(scores.search)},
            {"heldout", rounded(scores.heldout)},
            {"low", rounded(scores.low)},
            {"high", rounded(scores.high)},
            {"p", rounded(scores.p, 3)}};
}

/// In the order of the search file, where it is known.
std::vector<const RunScores*> sources_of(const Run& run, const RunResult& result) {
    std::vector<const RunScores*> sources;
    for (const RunScores& source : result.sources) sources.push_back(&source);
    const auto place = [&](const RunScores* source) {
        return std::find(run.start.sources.begin(), run.start.sources.end(), source->name) - run.start.sources.begin();
    };
    std::stable_sort(sources.begin(), sources.end(),
                     [&](const RunScores* a, const RunScores* b) { return place(a) < place(b); });
    return sources;
}

std::string short_text(const std::string& text, size_t limit = 60) { return printable(text, limit); }

Json bar(const std::string& name, const char* kind, double value, double low, double high) {
    return {{"name", name}, {"kind", kind}, {"value", rounded(value)}, {"low", rounded(low)}, {"high", rounded(high)}};
}

/// Bars of one task, of contenders whose items, or whose score of the only task, are known.
void add_bar(Json& bars, const RunScores& scores, const char* kind, const Slice& slice, bool only_task) {
    const std::string name = std::string(kind) == "source" ? scores.name : kind;
    if (only_task) {
        if (std::isfinite(scores.heldout)) bars.push_back(bar(name, kind, scores.heldout, scores.low, scores.high));
        return;
    }
    if (slice.count == 0 || slice.first + slice.count > scores.heldout_items.size()) return;
    const std::vector<double> items =
        item_scores(std::string_view(scores.heldout_items).substr(slice.first, slice.count));
    double sum = 0;
    for (double item : items) sum += item;
    const auto [low, high] = mean_interval(items);
    bars.push_back(bar(name, kind, sum / double(items.size()), low, high));
}

Json heldout_bars(const Run& run, const RunResult& result, size_t number) {
    const RunTaskResult& task = result.tasks[number];
    const bool only_task = result.tasks.size() == 1;
    const std::vector<Slice> slices = slices_of(run);
    const Slice slice = number < slices.size() ? slices[number] : Slice();
    Json bars = Json::array({bar("winner", "best", task.heldout, task.low, task.high)});
    for (const RunScores* source : sources_of(run, result)) add_bar(bars, *source, "source", slice, only_task);
    if (result.uniform) add_bar(bars, *result.uniform, "uniform", slice, only_task);
    if (result.constant) add_bar(bars, *result.constant, "constant", slice, only_task);
    if (result.random) add_bar(bars, *result.random, "random", slice, only_task);
    return bars;
}

Json search_bars(const RunEvaluation* best, size_t number) {
    if (!best || number >= best->tasks.size() || !std::isfinite(best->tasks[number].score)) return Json::array();
    const RunTaskScore& task = best->tasks[number];
    const auto [low, high] = task.items.empty() ? std::pair(unknown, unknown) : mean_interval(item_scores(task.items));
    return Json::array({bar("best so far", "best", task.score, low, high)});
}

/// Items as digits of which those from 5 on are right.
Json item_string(const RunScores& scores, const std::string& name, size_t count) {
    std::string text = scores.heldout_items.substr(0, count);
    const bool graded = text.find_first_of("23456789") != text.npos;
    for (char& letter : text)
        if (!graded || letter < '0' || letter > '9') letter = letter == '1' ? '9' : '0';
    return {{"name", name}, {"text", std::move(text)}, {"graded", graded}};
}

}  // namespace

Json rounded(double value, int digits) {
    if (!std::isfinite(value)) return nullptr;
    return std::stod(fmt::format("{:.{}g}", value, digits));
}

std::string score_text(double score, bool percent) {
    if (!std::isfinite(score)) return "-";
    return percent ? fmt::format("{:.1f} %", std::round(1000 * score) / 10) : fmt::format("{:.4g}", score);
}

std::string times_text(size_t count) { return count == 1 ? "once" : fmt::format("{} times", count); }

bool are_shares(const Run& run, const std::optional<RunResult>& result) {
    const auto fits = [](double score) { return !(score < 0) && !(score > 1); };
    for (const RunEvaluation& evaluation : run.evaluations)
        if (!fits(evaluation.score)) return false;
    return !result || (fits(result->best.heldout) && fits(result->best.search));
}

const RunEvaluation* best_so_far(const Run& run) {
    const RunEvaluation* best = nullptr;
    const auto value = [](const RunEvaluation& one) {
        return std::isfinite(one.objective) ? one.objective : one.score;
    };
    for (const RunEvaluation& evaluation : run.evaluations)
        if (evaluation.counts() && evaluation.ok && std::isfinite(value(evaluation)) &&
            (!best || value(evaluation) > value(*best)))
            best = &evaluation;
    return best;
}

int64_t counted_evaluations(const Run& run) {
    return std::count_if(run.evaluations.begin(), run.evaluations.end(),
                         [](const RunEvaluation& evaluation) { return evaluation.counts(); });
}

Json contenders_json(const Run& run, const std::optional<RunResult>& result) {
    Json list = Json::array();
    if (!result) {
        RunScores scores{"best", "", "", "", unknown, unknown, unknown, unknown, unknown, "", {}};
        if (const RunEvaluation* best = best_so_far(run)) {
            scores.search = best->score;
            list.push_back(contender_json(scores, "best", "best so far"));
        }
        return list;
    }
    list.push_back(contender_json(result->best, "best", "winner"));
    for (const RunScores* source : sources_of(run, *result))
        list.push_back(contender_json(*source, "source", source->name));
    if (result->uniform) list.push_back(contender_json(*result->uniform, "uniform", "uniform merge"));
    if (result->constant) {
        const std::string& answer = result->constant->answer;
        list.push_back(
            contender_json(*result->constant, "constant",
                           "best constant answer" + (answer.empty() ? "" : " (" + short_text(answer) + ")")));
    }
    if (result->random) list.push_back(contender_json(*result->random, "random", "random search"));
    return list;
}

std::string headline_text(const Run& run, const std::optional<RunResult>& result) {
    const bool percent = are_shares(run, result);
    if (!result) {
        const RunEvaluation* best = best_so_far(run);
        return best ? fmt::format(
                          "Best so far: {} on search items, by evaluation {}. Scores on held-out items come at "
                          "the end of a search.",
                          score_text(best->score, percent), best->id)
                    : "No candidate has a score yet.";
    }
    const bool heldout = std::isfinite(result->best.heldout);
    std::string text = fmt::format("The winner scores {} on {} items", score_text(value_of(result->best), percent),
                                   heldout ? "held-out" : "search");
    const RunScores* source = nullptr;
    for (const RunScores& one : result->sources)
        if (!source || value_of(one) > value_of(*source)) source = &one;
    if (source)
        text +=
            fmt::format(", the best source, {}, {}", short_text(source->name), score_text(value_of(*source), percent));
    if (result->uniform) text += fmt::format(", the uniform merge {}", score_text(value_of(*result->uniform), percent));
    return text + (heldout ? ". Held-out items had no part in the search."
                           : ". There were no held-out items: these scores flatter what was chosen by them.");
}

Json tasks_json(const Run& run, const std::optional<RunResult>& result) {
    Json tasks = Json::array();
    const RunEvaluation* best = best_so_far(run);
    const bool heldout = result && std::isfinite(result->best.heldout);
    const size_t count = heldout ? result->tasks.size() : run.start.tasks.size();
    for (size_t number = 0; number < count; ++number) {
        const RunTask task = number < run.start.tasks.size() ? run.start.tasks[number] : RunTask();
        Json json = {
            {"name", task.name},
            {"metric", task.metric},
            {"items", heldout ? task.heldout_items : task.items},
            {"weight", result && number < result->tasks.size() ? rounded(result->tasks[number].weight) : nullptr}};
        if (heldout && !result->tasks[number].name.empty()) json["name"] = result->tasks[number].name;
        json["bars"] = heldout ? heldout_bars(run, *result, number) : search_bars(best, number);
        tasks.push_back(std::move(json));
    }
    return tasks;
}

Json items_json(const Run& run, const std::optional<RunResult>& result) {
    if (!result || result->best.heldout_items.empty()) return nullptr;
    const size_t all = result->best.heldout_items.size(), count = std::min(all, most_items);
    const auto fits = [&](const RunScores& scores) { return scores.heldout_items.size() == all; };
    Json strings = Json::array({item_string(result->best, "winner", count)});
    std::vector<const RunScores*> sources = sources_of(run, *result);
    std::erase_if(sources, [&](const RunScores* source) { return !fits(*source); });
    std::vector<const RunScores*> ranked = sources;
    std::stable_sort(ranked.begin(), ranked.end(), [](const RunScores* a, const RunScores* b) {
        return (std::isfinite(a->heldout) ? a->heldout : -1) > (std::isfinite(b->heldout) ? b->heldout : -1);
    });
    for (const RunScores* source : sources) {
        strings.push_back(item_string(*source, source->name, count));
        strings.back()["second_or_first"] = std::find(ranked.begin(), ranked.begin() + std::min<long>(2, ranked.size()),
                                                      source) != ranked.begin() + std::min<long>(2, ranked.size());
    }
    if (result->uniform && fits(*result->uniform)) strings.push_back(item_string(*result->uniform, "uniform", count));
    Json tasks = Json::array();
    const std::vector<Slice> slices = slices_of(run);
    for (size_t number = 0; number < slices.size() && item_count(run) == all; ++number)
        tasks.push_back({{"name", run.start.tasks[number].name}, {"first", slices[number].first}});
    if (tasks.empty()) tasks.push_back({{"name", "all tasks"}, {"first", 0}});
    Json json = {{"all", all}, {"tasks", std::move(tasks)}, {"contingency", nullptr}};
    if (ranked.size() >= 2) {
        const std::string best = item_string(result->best, "", all)["text"],
                          first = item_string(*ranked[0], "", all)["text"],
                          second = item_string(*ranked[1], "", all)["text"];
        int64_t counts[4][2] = {};
        for (size_t item = 0; item < all; ++item)
            ++counts[2 * (first[item] < '5') + (second[item] < '5')][best[item] >= '5'];
        json["contingency"] = {{"first", ranked[0]->name}, {"second", ranked[1]->name}, {"counts", counts}};
    }
    json["strings"] = std::move(strings);
    return json;
}

Json failures_json(const Run& run) {
    struct Reason {
        int64_t count = 0;
        std::vector<int64_t> ids;
    };
    std::map<std::string, Reason> reasons;
    int64_t count = 0;
    for (const RunEvaluation& evaluation : run.evaluations) {
        if (evaluation.ok || evaluation.duplicate_of != 0) continue;
        ++count;
        Reason& reason = reasons[evaluation.error.empty() ? "no reason is told" : printable(evaluation.error, 400)];
        ++reason.count;
        if (reason.ids.size() < 8) reason.ids.push_back(evaluation.id);
    }
    std::vector<std::pair<std::string, Reason>> sorted(reasons.begin(), reasons.end());
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const auto& a, const auto& b) { return a.second.count > b.second.count; });
    Json list = Json::array();
    for (size_t i = 0; i < std::min(sorted.size(), most_reasons); ++i)
        list.push_back({{"reason", sorted[i].first}, {"count", sorted[i].second.count}, {"ids", sorted[i].second.ids}});
    return {{"count", count}, {"all_reasons", sorted.size()}, {"reasons", std::move(list)}};
}

Json settings_json(const Run& run, const std::optional<RunResult>& result) {
    const RunStart& start = run.start;
    Json rows = Json::array();
    const auto add = [&](const char* name, const std::string& value) {
        if (!value.empty()) rows.push_back({name, value});
    };
    add("search space", start.space);
    add("optimiser", start.optimiser);
    add("population", start.population > 0 ? fmt::format("{}", start.population) : "as the optimiser has it");
    add("seed", fmt::format("{}", start.seed));
    add("budget", start.evaluations > 0 ? plural(start.evaluations, "evaluation") : "");
    add("tie-breaker", std::isfinite(start.tie_breaker)
                           ? fmt::format("{} x mean log-likelihood of the answers", start.tie_breaker)
                           : "");
    std::string genes = fmt::format("{}", start.genes.size());
    for (size_t phase = 1; phase < run.phases.size(); ++phase)
        genes += fmt::format(", then {} ({})", run.phases[phase].genes.size(), run.phases[phase].name);
    add("genes", genes);
    std::string sources;
    for (const std::string& source : start.sources) sources += (sources.empty() ? "" : ", ") + source;
    add("sources", sources);
    for (const RunTask& task : start.tasks)
        add("task", fmt::format("{} ({}): {} to search on, {} held out", task.name, task.metric,
                                plural(task.items, "item"), task.heldout_items));
    if (result) add("the winner was chosen on", result->best.chosen_on + " items");
    if (result)
        add("the winner came", result->best.origin == "mean"      ? "as mean of the distribution"
                               : result->best.origin == "average" ? "as average of the best candidates"
                                                                  : result->best.origin);
    return rows;
}

}  // namespace amalgam
