#include "src/search/search_journal.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/base/error.h"

namespace amalgam {

namespace {

using Json = nlohmann::json;

/// Graded items have all their bits besides their digits.
Json tasks_json(const Answer& answer) {
    Json tasks = Json::array();
    for (const TaskScores& task : answer.tasks) {
        tasks.push_back({{"score", task.score}, {"likelihood", task.likelihood}, {"items", item_digits(task.items)}});
        if (is_graded(task.items)) tasks.back()["graded"] = task.items;
    }
    return tasks;
}

Answer answer_of(const Json& record) {
    Answer answer;
    answer.score = record.at("score");
    answer.likelihood = record.at("likelihood");
    answer.raced_out = record.value("raced_out", false);
    for (const Json& task : record.at("tasks")) {
        TaskScores scores{task.at("score"), task.at("likelihood"), {}};
        if (task.contains("graded"))
            scores.items = task["graded"].get<std::vector<double>>();
        else
            scores.items = items_of_digits(task.at("items").get_ref<const std::string&>());
        answer.tasks.push_back(std::move(scores));
    }
    return answer;
}

Json asked_json(const Asked& asked, double objective) {
    Json json = {{"kind", "evaluation"},
                 {"id", asked.id},
                 {"phase", asked.phase},
                 {"generation", asked.generation},
                 {"candidate", asked.candidate},
                 {"origin", asked.origin},
                 {"set", item_set_name(asked.set)},
                 {"genome", asked.genome},
                 {"recipe_hash", asked.hash}};
    if (objective == objective) json["objective"] = objective;
    return json;
}

std::string place_of(const std::string& phase, int64_t generation, int64_t candidate) {
    return fmt::format("{} {} {}", phase, generation, candidate);
}

ItemSet set_of(const std::string& name) {
    for (ItemSet set : {ItemSet::search, ItemSet::validation, ItemSet::heldout})
        if (name == item_set_name(set)) return set;
    fail("unknown item set {}", printable(name, 100));
}

}  // namespace

Json genes_json(const std::vector<Gene>& genes) {
    constexpr const char* kinds[] = {"continuous", "integer", "binary"};
    Json json = Json::array();
    for (const Gene& gene : genes)
        json.push_back({{"name", gene.name}, {"low", gene.low}, {"high", gene.high}, {"kind", kinds[int(gene.kind)]}});
    return json;
}

void check_same_search(const std::vector<std::string>& records, const SearchKey& key) {
    if (records.empty()) return;
    const Json start = Json::parse(records[0], nullptr, false);
    check(start.is_object() && start.value("kind", Json()) == "start",
          "the journal does not begin with a start: it is not that of a search");
    if (start.value("key", Json()) == key.text()) return;
    std::vector<std::string> others;
    const Json parts = start.value("key_parts", Json::object());
    for (const auto& [name, hash] : key.parts)
        if (parts.value(name, Json()) != hash) others.push_back(name);
    fail("the search in this folder is another one, with other {}; choose another folder, or remove this one",
         fmt::join(others, " and other "));
}

/// Answers on other held-out items are none.
void SearchJournal::take_heldout(const std::string& hash) {
    if (hash != heldout_)
        std::erase_if(known_, [](const auto& known) { return known.first.second == int(ItemSet::heldout); });
    heldout_ = hash;
}

SearchJournal::SearchJournal(const std::vector<std::string>& records, const SearchKey& key, Append append)
    : append_(std::move(append)) {
    check_same_search(records, key);
    double last = 0;
    for (size_t line = 0; line < records.size(); ++line) {
        try {
            const Json json = Json::parse(records[line]);
            const std::string kind = json.at("kind");
            if (kind == "start") {
                begun_ = true;
                heldout_ = json.value("heldout", std::string());
            } else if (kind == "resumed") {
                seconds_before_ += last;
                last = 0;
                take_heldout(json.value("heldout", heldout_));
            } else if (kind == "evaluation") {
                next_id_ = std::max(next_id_, json.at("id").get<int64_t>() + 1);
                if (json.contains("ended")) last = std::max(last, json["ended"].get<double>());
                if (json.contains("duplicate_of")) {
                    written_.insert(place_of(json.at("phase"), json.at("generation"), json.at("candidate")));
                    continue;
                }
                Known known;
                known.id = json.at("id");
                known.valid = json.at("ok");
                if (known.valid)
                    known.answer = answer_of(json);
                else
                    known.error = json.at("error");
                known.seconds = json.at("ended").get<double>() - json.at("started").get<double>();
                const ItemSet set = set_of(json.at("set"));
                if (set == ItemSet::search)
                    candidates_[json.at("phase")].push_back({known.id, json.at("phase"), json.at("origin"),
                                                             json.at("generation"), json.at("candidate"), set,
                                                             json.at("genome"), json.at("recipe_hash")});
                known_[{json.at("recipe_hash"), int(set)}] = std::move(known);
            } else if (kind == "phase") {
                written_.insert(place_of(json.at("name"), -1, -1));
            } else if (kind == "generation") {
                written_.insert(place_of(json.at("phase"), json.at("generation"), -1));
                GenerationFacts& facts = generations_[{json.at("phase"), json.at("generation")}];
                if (json.contains("missing"))
                    for (const Json& each : json["missing"])
                        facts.missing.push_back({each.at("candidate"), each.at("recipe_hash")});
                facts.late = json.value("late", std::vector<std::vector<double>>());
                facts.guess = json.value("guess", std::vector<double>());
            }
        } catch (const Json::exception& error) {
            fail("record {} of the journal cannot be read: {}", line + 1, error.what());
        }
    }
    take_heldout(key.heldout);
    seconds_before_ += last;
}

const Known* SearchJournal::find(const std::string& hash, ItemSet set) const {
    const auto found = known_.find({hash, int(set)});
    return found == known_.end() ? nullptr : &found->second;
}

std::map<std::string, int64_t> SearchJournal::failures() const {
    std::map<std::string, int64_t> counts;
    for (const auto& [place, known] : known_)
        if (place.second == int(ItemSet::search) && !known.valid) ++counts[known.error];
    return counts;
}

void SearchJournal::phase(const std::string& name, const std::vector<Gene>& genes) {
    if (!written_.insert(place_of(name, -1, -1)).second) return;
    append_(Json{{"kind", "phase"}, {"name", name}, {"genes", genes_json(genes)}}.dump(), true);
}

const GenerationFacts* SearchJournal::find_generation(const std::string& phase, int64_t generation) const {
    const auto found = generations_.find({phase, generation});
    return found == generations_.end() ? nullptr : &found->second;
}

void SearchJournal::evaluated(const Asked& asked, const Known& known, double objective, const JobResult& job) {
    Json json = asked_json(asked, objective);
    json["ok"] = known.valid;
    if (known.valid) {
        json["score"] = known.answer.score;
        json["likelihood"] = known.answer.likelihood;
        if (known.answer.raced_out) json["raced_out"] = true;
        json["tasks"] = tasks_json(known.answer);
    } else {
        json["error"] = known.error;
    }
    json["group"] = job.group;
    json["started"] = job.started;
    json["ended"] = job.ended;
    json["attempt"] = job.attempt;
    append_(json.dump(-1, ' ', false, Json::error_handler_t::replace), false);
    known_[{asked.hash, int(asked.set)}] = known;
}

void SearchJournal::duplicate(const Asked& asked, const Known& known, double objective) {
    if (!written_.insert(place_of(asked.phase, asked.generation, asked.candidate)).second) return;
    Json json = asked_json(asked, objective);
    json["duplicate_of"] = known.id;
    json["ok"] = known.valid;
    if (known.valid) json["score"] = known.answer.score;
    append_(json.dump(-1, ' ', false, Json::error_handler_t::replace), false);
}

void SearchJournal::generation(const std::string& phase, int64_t generation, const std::vector<double>& objectives,
                               const GenerationFacts& facts, const Optimiser& optimiser, int64_t evaluations,
                               double seconds) {
    if (!written_.insert(place_of(phase, generation, -1)).second) return;
    std::vector<double> sorted;
    for (double value : objectives)
        if (value == value) sorted.push_back(value);
    std::sort(sorted.begin(), sorted.end());
    Json numbers = Json::object();
    for (const auto& [name, value] : optimiser.facts()) numbers[name] = value;
    Json json = {{"kind", "generation"},
                 {"phase", phase},
                 {"generation", generation},
                 {"mean_genome", optimiser.mean()},
                 {"facts", std::move(numbers)},
                 {"evaluations", evaluations},
                 {"time", seconds}};
    for (const auto& each : facts.missing)
        json["missing"].push_back({{"candidate", each.candidate}, {"recipe_hash", each.hash}});
    if (!facts.late.empty()) json["late"] = facts.late;
    if (!facts.guess.empty()) json["guess"] = facts.guess;
    if (!sorted.empty()) {
        json["best"] = sorted.back();
        json["median"] = sorted[sorted.size() / 2];
    }
    append_(json.dump(), false);
}

void SearchJournal::group_lost(int group, const std::string& reason, double seconds) {
    append_(Json{{"kind", "group_lost"}, {"group", group}, {"reason", reason}, {"time", seconds}}.dump(), true);
}

void SearchJournal::end(const std::string& reason, int64_t evaluations, double seconds) {
    append_(Json{{"kind", "end"}, {"reason", reason}, {"evaluations", evaluations}, {"seconds", seconds}}.dump(), true);
}

}  // namespace amalgam
