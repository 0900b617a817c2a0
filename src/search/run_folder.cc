#include "src/search/run_folder.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/files.h"
#include "src/search/journal.h"

namespace amalgam {
namespace {

using Json = nlohmann::json;

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
constexpr uint64_t most_result_bytes = uint64_t{1} << 30;

/// Of an object, a null if there is none.
const Json& at(const Json& json, const char* key) {
    static const Json none;
    if (!json.is_object()) return none;
    const auto found = json.find(key);
    return found == json.end() ? none : *found;
}

double number(const Json& json, double otherwise = unknown) {
    return json.is_number() ? json.get<double>() : otherwise;
}

int64_t whole(const Json& json, int64_t otherwise = 0) {
    if (json.is_number_integer()) return json.get<int64_t>();
    // What is beyond the range would be undefined.
    const double value = number(json);
    return std::abs(value) < 1e15 ? int64_t(value) : otherwise;
}

int small(const Json& json, int otherwise) {
    const int64_t value = whole(json, otherwise);
    return value >= 0 && value < 1'000'000 ? int(value) : otherwise;
}

std::string text(const Json& json) { return json.is_string() ? json.get<std::string>() : ""; }

std::vector<double> numbers(const Json& json) {
    std::vector<double> values;
    if (json.is_array())
        for (const Json& value : json) values.push_back(number(value));
    return values;
}

std::vector<std::pair<std::string, double>> named_numbers(const Json& json) {
    std::vector<std::pair<std::string, double>> values;
    if (json.is_object())
        for (const auto& [name, value] : json.items())
            if (value.is_number()) values.emplace_back(name, number(value));
    return values;
}

std::vector<RunGene> genes_of(const Json& json) {
    std::vector<RunGene> genes;
    for (const Json& gene : json)
        genes.push_back(
            {text(at(gene, "name")), text(at(gene, "kind")), number(at(gene, "low")), number(at(gene, "high"))});
    return genes;
}

RunStart start_of(const Json& json) {
    RunStart start;
    start.key = text(at(json, "key"));
    start.space = text(at(json, "space"));
    start.optimiser = text(at(json, "optimiser"));
    const Json& options = at(json, "options");
    start.options = options.empty() ? "" : options.dump(-1, ' ', true, Json::error_handler_t::replace);
    start.seed = at(json, "seed").is_number_unsigned() ? at(json, "seed").get<uint64_t>() : 0;
    start.evaluations = whole(at(json, "evaluations"));
    start.population = whole(at(json, "population"));
    start.tie_breaker = number(at(json, "tie_breaker"));
    start.time = number(at(json, "time"));
    start.genes = genes_of(at(json, "genes"));
    for (const Json& task : at(json, "tasks"))
        start.tasks.push_back({text(at(task, "name")), text(at(task, "metric")), whole(at(task, "items")),
                               std::max<int64_t>(0, whole(at(task, "heldout_items")))});
    for (const Json& source : at(json, "sources")) start.sources.push_back(text(source));
    start.search_items = text(at(at(json, "key_parts"), "search items"));
    start.heldout_items = text(at(json, "heldout"));
    return start;
}

RunEvaluation evaluation_of(const Json& json, double session_start) {
    RunEvaluation evaluation;
    evaluation.id = whole(at(json, "id"));
    evaluation.generation = whole(at(json, "generation"));
    evaluation.candidate = whole(at(json, "candidate"));
    evaluation.duplicate_of = whole(at(json, "duplicate_of"));
    evaluation.group = small(at(json, "group"), -1);
    evaluation.attempt = small(at(json, "attempt"), 1);
    evaluation.phase = text(at(json, "phase"));
    evaluation.origin = text(at(json, "origin"));
    evaluation.set = text(at(json, "set"));
    evaluation.recipe_hash = text(at(json, "recipe_hash"));
    evaluation.error = text(at(json, "error"));
    evaluation.score = number(at(json, "score"));
    const Json& ok = at(json, "ok");
    evaluation.ok = ok.is_boolean() ? ok.get<bool>() : std::isfinite(evaluation.score);
    evaluation.objective = number(at(json, "objective"));
    evaluation.started = session_start + number(at(json, "started"));
    evaluation.ended = session_start + number(at(json, "ended"));
    evaluation.genome = numbers(at(json, "genome"));
    for (const Json& task : at(json, "tasks"))
        evaluation.tasks.push_back(
            {number(at(task, "score")), number(at(task, "likelihood")), text(at(task, "items"))});
    return evaluation;
}

RunGeneration generation_of(const Json& json, double session_start) {
    RunGeneration generation;
    generation.phase = text(at(json, "phase"));
    generation.generation = whole(at(json, "generation"));
    generation.evaluations = whole(at(json, "evaluations"));
    generation.best = number(at(json, "best"));
    generation.median = number(at(json, "median"));
    generation.time = session_start + number(at(json, "time"));
    generation.mean_genome = numbers(at(json, "mean_genome"));
    generation.facts = named_numbers(at(json, "facts"));
    return generation;
}

RunScores scores_of(const Json& json, const std::string& name, const Json& items) {
    RunScores scores;
    scores.name = name;
    scores.origin = text(at(json, "origin"));
    scores.chosen_on = text(at(json, "chosen_on"));
    scores.answer = text(at(json, "answer"));
    scores.search = number(at(json, "search"));
    scores.heldout = number(at(json, "heldout"));
    const std::vector<double> interval = numbers(at(json, "interval"));
    scores.low = interval.size() == 2 ? interval[0] : unknown;
    scores.high = interval.size() == 2 ? interval[1] : unknown;
    scores.p = number(at(json, "p"));
    scores.heldout_items = text(items);
    scores.genome = named_numbers(at(json, "genome"));
    return scores;
}

RunResult result_of(const Json& json) {
    RunResult result;
    result.evaluations = whole(at(json, "evaluations"));
    result.seconds = number(at(json, "seconds"));
    result.reason = text(at(json, "reason"));
    const Json& items = at(at(json, "items"), "heldout");
    result.best = scores_of(at(json, "best"), "best", at(items, "best"));
    if (const Json& sources = at(json, "sources"); sources.is_object())
        for (const auto& [name, source] : sources.items())
            result.sources.push_back(scores_of(source, name, at(at(items, "sources"), name.c_str())));
    using Place = std::pair<const char*, std::optional<RunScores>*>;
    for (const auto& [name, place] : std::initializer_list<Place>{
             {"uniform", &result.uniform}, {"constant", &result.constant}, {"random", &result.random}})
        if (at(json, name).is_object()) *place = scores_of(at(json, name), name, at(items, name));
    for (const Json& task : at(json, "tasks")) {
        const std::vector<double> interval = numbers(at(task, "interval"));
        result.tasks.push_back({text(at(task, "name")), text(at(task, "metric")), number(at(task, "weight")),
                                number(at(task, "search")), number(at(task, "heldout")),
                                interval.size() == 2 ? interval[0] : unknown,
                                interval.size() == 2 ? interval[1] : unknown});
    }
    return result;
}

}  // namespace

bool RunEvaluation::counts() const {
    return set == "search" && duplicate_of == 0 &&
           (origin == "drawn" || origin == "injected" || origin == "mean" || origin == "average");
}

const std::vector<RunGene>& Run::genes(const std::string& phase) const {
    const auto found =
        std::find_if(phases.begin(), phases.end(), [&](const RunPhase& one) { return one.name == phase; });
    return found == phases.end() ? start.genes : found->genes;
}

RunFolder::RunFolder(std::string path) : path_(std::move(path)) {
    while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
    const auto files = disk_files();
    const FileStatus folder = files->status(path_);
    check(folder.kind != FileKind::missing, "{}: there is no such folder", printable(path_));
    check(folder.kind == FileKind::folder, "{}: is no folder; give the one that `amalgam evolve` writes",
          printable(path_));
    check(files->status(path_ + "/journal.jsonl").kind == FileKind::file,
          "{}: has no journal.jsonl, so no search was begun here; give the folder that `amalgam evolve` writes",
          printable(path_));
    refresh();
}

void RunFolder::refresh() {
    const JournalEnd end =
        read_journal(path_ + "/journal.jsonl", offset_, [this](std::string_view line) { add(line); });
    offset_ = end.offset;
    run_.torn = end.torn;
}

void RunFolder::add(std::string_view line) {
    const Json json = Json::parse(line, nullptr, false);
    const std::string kind = text(at(json, "kind"));
    if (kind == "start") {
        run_.start = start_of(json);
    } else if (kind == "resumed") {
        // A session begins where the last one left off; with the first, nothing was done before.
        session_start_ = run_.seconds;
        run_.ended = false;
        run_.groups = small(at(json, "groups"), 0);
        take_resumed(json);
        if (!run_.evaluations.empty())
            run_.sessions.push_back({int(run_.sessions.size()) + 1, -1, session_start_, "started again"});
    } else if (kind == "evaluation") {
        RunEvaluation evaluation = evaluation_of(json, session_start_);
        evaluation.session = int(run_.sessions.size());
        if (std::isfinite(evaluation.ended)) run_.seconds = std::max(run_.seconds, evaluation.ended);
        run_.groups = std::max(run_.groups, evaluation.group + 1);
        run_.evaluations.push_back(std::move(evaluation));
    } else if (kind == "phase") {
        run_.phases.push_back({text(at(json, "name")), genes_of(at(json, "genes"))});
    } else if (kind == "generation") {
        run_.generations.push_back(generation_of(json, session_start_));
    } else if (kind == "group_lost") {
        run_.lost_groups.push_back({int(run_.sessions.size()), small(at(json, "group"), -1),
                                    session_start_ + number(at(json, "time")), text(at(json, "reason"))});
    } else if (kind == "end") {
        run_.ended = true;
        run_.end_reason = text(at(json, "reason"));
        run_.end_seconds = number(at(json, "seconds"));
    } else {
        ++run_.unreadable;
    }
}

/// A search may be gone on with for more evaluations, and with other held-out items.
void RunFolder::take_resumed(const nlohmann::json& json) {
    run_.start.evaluations = whole(at(json, "evaluations"), run_.start.evaluations);
    if (!at(json, "heldout").is_string()) return;
    run_.start.heldout_items = text(at(json, "heldout"));
    const std::vector<double> items = numbers(at(json, "heldout_items"));
    for (size_t task = 0; task < run_.start.tasks.size(); ++task)
        run_.start.tasks[task].heldout_items =
            task < items.size() ? std::max<int64_t>(0, whole(at(json, "heldout_items")[task])) : 0;
}

std::optional<RunResult> RunFolder::result() const {
    const std::string path = path_ + "/result.json";
    const auto files = disk_files();
    if (files->status(path).kind != FileKind::file) return std::nullopt;
    const Json json = Json::parse(files->read_all(path, most_result_bytes), nullptr, false);
    check(json.is_object(),
          "{}: is no JSON object; remove it, and `amalgam evolve` with the same folder writes it anew",
          printable(path));
    return result_of(json);
}

std::string RunFolder::file(const std::string& name, uint64_t limit) const {
    const auto files = disk_files();
    const FileStatus found = files->status(path_ + "/" + name);
    if (found.kind != FileKind::file) return "";
    return files->read(path_ + "/" + name, 0, std::min(found.bytes, limit));
}

std::vector<double> item_scores(std::string_view characters) {
    const bool graded = characters.find_first_of("23456789") != characters.npos;
    std::vector<double> scores;
    scores.reserve(characters.size());
    for (char letter : characters) {
        const double digit = letter >= '0' && letter <= '9' ? letter - '0' : 0;
        scores.push_back(!graded ? digit : digit == 0 ? 0 : digit == 9 ? 1 : (digit + 0.5) / 10);
    }
    return scores;
}

}  // namespace amalgam
