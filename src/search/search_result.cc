#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "src/evaluate/evaluate.h"
#include "src/evaluate/metrics.h"
#include "src/search/search_key.h"
#include "src/search/statistics.h"

namespace amalgam {

std::pair<double, double> answer_interval(const Answer& answer, const std::vector<Task>& tasks) {
    std::vector<TaskItems> items;
    for (size_t task = 0; task < tasks.size(); ++task)
        items.push_back({tasks[task].weight, answer.tasks[task].items, {}});
    return weighted_interval(answer.score, items);
}

double answer_difference(const Answer& one, const Answer& other, const std::vector<Task>& tasks) {
    std::vector<TaskItems> items;
    for (size_t task = 0; task < tasks.size(); ++task)
        items.push_back({tasks[task].weight, one.tasks[task].items, other.tasks[task].items});
    return items.size() == 1 ? sign_test(items[0].first, items[0].second) : sign_flip_test(items);
}

namespace {

using Json = nlohmann::json;

/// Scores, the interval of the mean over held-out items, and how sure it is that the winner is another.
Json scores_json(const SearchInputs& inputs, const Answer& search, const std::optional<Answer>& heldout,
                 const Contender* best) {
    Json json = {{"search", search.score}, {"likelihood", search.likelihood}};
    if (!heldout) return json;
    json["heldout"] = heldout->score;
    const auto [low, high] = answer_interval(*heldout, inputs.search);
    json["interval"] = {low, high};
    if (best && best->heldout) json["p"] = answer_difference(*best->heldout, *heldout, inputs.search);
    return json;
}

Json contender_json(const SearchInputs& inputs, const Contender& contender, const Contender& best) {
    if (!contender.error.empty()) return {{"error", contender.error}};
    return scores_json(inputs, contender.search, contender.heldout, &best);
}

std::string digits(const Answer& answer) {
    std::string all;
    for (const TaskScores& task : answer.tasks) all += item_digits(task.items);
    return all;
}

Json tasks_json(const SearchInputs& inputs, const Contender& best, const std::optional<ConstantAnswer>& constant) {
    Json tasks = Json::array();
    for (size_t number = 0; number < inputs.search.size(); ++number) {
        const Task& task = inputs.search[number];
        Json json = {{"name", task.name},
                     {"metric", metric_name(task.metric)},
                     {"weight", task.weight},
                     {"search", best.search.tasks[number].score}};
        if (best.heldout) {
            json["heldout"] = best.heldout->tasks[number].score;
            const TaskScores& heldout = best.heldout->tasks[number];
            const auto [low, high] = weighted_interval(heldout.score, {{{1, heldout.items, {}}}});
            json["interval"] = {low, high};
        }
        if (constant) {
            json["constant"] = {{"search", constant->search.tasks[number].score}};
            if (constant->heldout) json["constant"]["heldout"] = constant->heldout->tasks[number].score;
        }
        tasks.push_back(std::move(json));
    }
    return tasks;
}

bool every_item(const TaskItem&) { return true; }

/// The answer that is right most often, the first of several, among items that count; nothing if none does.
template <class Key, class KeyOf, class Counts = bool (*)(const TaskItem&)>
std::optional<Key> most_frequent(const Task& task, const KeyOf& key_of, const Counts& does_count = every_item) {
    std::map<Key, int64_t> counts;
    for (const TaskItem& item : task.items)
        if (does_count(item)) ++counts[key_of(item)];
    const auto most = std::max_element(counts.begin(), counts.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    return most == counts.end() ? std::nullopt : std::optional<Key>(most->first);
}

/// A task file whose answers have no numbers is refused.
double number_of(const std::shared_ptr<const TokenTable>& tokens, const TaskItem& item) {
    return last_number(item.answer_text.empty() ? tokens->text(item.answer) : item.answer_text).value_or(0);
}

template <class IsRight>
TaskScores constant_scores(const Task& task, const IsRight& is_right) {
    TaskScores scores;
    for (const TaskItem& item : task.items) {
        scores.items.push_back(is_right(item) ? 1 : 0);
        scores.score += scores.items.back() / double(task.items.size());
    }
    return scores;
}

}  // namespace

std::optional<ConstantAnswer> best_constant(const std::vector<Task>& search, const std::vector<Task>& heldout) {
    ConstantAnswer constant;
    if (!heldout.empty()) constant.heldout = Answer();
    double weights = 0;
    for (const Task& task : search) weights += task.weight;
    for (size_t number = 0; number < search.size(); ++number) {
        const Task& task = search[number];
        std::function<bool(const TaskItem&)> is_right;
        if (!constant.answer.empty()) constant.answer += "; ";
        if (task.metric == Metric::exact_match) {
            const auto answer = most_frequent<std::vector<int32_t>>(
                task, [](const TaskItem& item) { return item.answer; },
                [&](const TaskItem& item) { return passes_filter(task, item.answer); });
            constant.answer += answer ? fmt::format("{}", fmt::join(*answer, " ")) : "none that is allowed";
            is_right = [answer](const TaskItem& item) { return answer && item.answer == *answer; };
        } else if (task.metric == Metric::last_number) {
            const auto value =
                most_frequent<double>(task, [&](const TaskItem& item) { return number_of(task.tokens, item); });
            constant.answer += fmt::format("{}", *value);
            is_right = [value, tokens = task.tokens](const TaskItem& item) {
                return number_of(tokens, item) == *value;
            };
        } else if (task.metric == Metric::choice || task.metric == Metric::choice_normalised) {
            const auto right = most_frequent<int64_t>(task, [](const TaskItem& item) { return item.right; });
            constant.answer += fmt::format("choice {}", *right);
            is_right = [right](const TaskItem& item) { return item.right == *right; };
        } else {
            return std::nullopt;
        }
        const auto add = [&](const Task& of, Answer& answer) {
            answer.tasks.push_back(constant_scores(of, is_right));
            answer.score += task.weight / weights * answer.tasks.back().score;
        };
        add(task, constant.search);
        if (!heldout.empty()) add(heldout[number], *constant.heldout);
    }
    return constant;
}

std::string result_json(const SearchInputs& inputs, const SearchResult& result) {
    const Contender& best = result.best;
    Json genome = Json::object();
    for (size_t gene = 0; gene < best.genome.size(); ++gene) genome[result.gene_names[gene]] = best.genome[gene];
    Json winner = scores_json(inputs, best.search, best.heldout, nullptr);
    if (!best.error.empty()) winner["error"] = best.error;
    winner.update({{"name", "best"},
                   {"objective", best.objective},
                   {"origin", best.origin},
                   {"chosen_on", result.chosen_on},
                   {"genome", std::move(genome)},
                   {"recipe", "best.toml"},
                   {"yaml", "best.yaml"},
                   {"checkpoint", "best"}});
    Json sources = Json::object(), items = Json::object();
    for (const Contender& source : result.sources) {
        sources[source.name] = contender_json(inputs, source, best);
        if (source.heldout) items["sources"][source.name] = digits(*source.heldout);
    }
    if (best.heldout) items["best"] = digits(*best.heldout);
    if (result.uniform.heldout) items["uniform"] = digits(*result.uniform.heldout);
    Json json = {{"evaluations", result.evaluations},
                 {"seconds", result.seconds},
                 {"reason", result.reason},
                 {"space", result.space},
                 {"optimiser", inputs.config.optimiser},
                 {"seed", inputs.config.seed},
                 {"tie_breaker", inputs.config.tie_breaker},
                 {"groups", result.groups},
                 {"best", std::move(winner)},
                 {"sources", std::move(sources)},
                 {"uniform", contender_json(inputs, result.uniform, best)},
                 {"tasks", tasks_json(inputs, best, result.constant)},
                 {"items", {{"heldout", std::move(items)}}},
                 {"item_sets",
                  {{"search", items_hash(inputs.search)},
                   {"validation", items_hash(inputs.validation)},
                   {"heldout", items_hash(inputs.heldout)}}}};
    for (const Contender& each : result.front) {
        Json genes = Json::object(), tasks = Json::object();
        for (size_t gene = 0; gene < each.genome.size() && gene < result.gene_names.size(); ++gene)
            genes[result.gene_names[gene]] = each.genome[gene];
        for (size_t task = 0; task < inputs.search.size(); ++task)
            tasks[inputs.search[task].name] = each.search.tasks[task].score;
        json["front"].push_back(
            {{"search", each.search.score}, {"tasks", std::move(tasks)}, {"genome", std::move(genes)}});
    }
    if (result.constant) {
        json["constant"] = scores_json(inputs, result.constant->search, result.constant->heldout, &best);
        json["constant"]["answer"] = result.constant->answer;
        json["constant"].erase("likelihood");
    }
    return json.dump(1) + "\n";
}

}  // namespace amalgam
