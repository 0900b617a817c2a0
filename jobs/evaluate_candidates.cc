// amalgam evaluate --recipe and --recipes: merges that are scored in memory.
#include <sys/resource.h>

#include <chrono>
#include <memory>
#include <sstream>

#include "jobs/evaluate.h"
#include "jobs/table.h"
#include "src/base/log.h"
#include "src/recipe/recipe.h"
#include "src/run/evaluator_group.h"
#include "src/run/resources.h"

namespace amalgam {
namespace {

/// The first line of an error; if it only announces others, as a program's last words, the last of them too.
std::string in_one_line(std::string_view text) {
    const std::string_view blanks = " \t\n";
    const std::string_view first = text.substr(0, text.find('\n'));
    text = text.substr(0, text.find_last_not_of(blanks) + 1);
    if (!first.ends_with(':') || text.size() <= first.size()) return std::string(first);
    const std::string_view last = text.substr(text.rfind('\n'));
    return fmt::format("{} {}", first, last.substr(last.find_first_not_of(blanks)));
}

std::string candidate_name(const CandidateLine& line) {
    std::string name = line.recipe;
    for (const std::string& each : line.set) name += " " + each;
    return printable(name, 100);
}

/// Time of the processors, in seconds.
double processor_seconds() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) { return double(time.tv_sec) + 1e-6 * double(time.tv_usec); };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// Scores recipes, and how long that takes.
class RecipeScorer {
  public:
    RecipeScorer(const Arguments& arguments, Files& files, const std::vector<Task>& tasks, Communicator& all,
                 Communicator& group, uint64_t memory, Warnings& warnings)
        : arguments_(arguments),
          warnings_(warnings),
          tasks_(tasks),
          pool_(thread_count(arguments, all)),
          device_(choose_device(arguments, pool_, all, group.size() > 1 ? &group : nullptr)),
          group_(files, pool_, group, settings(memory)) {}

    Scored score(const std::string& path, const std::vector<std::string>& set) {
        const auto start = std::chrono::steady_clock::now();
        const double busy = processor_seconds();
        said_.clear();
        std::string error;
        Recipe recipe;
        try {
            recipe = read_recipe(group_.files(), path, {set, arguments_.has("allow-unknown")});
        } catch (const Error& caught) {
            error = caught.what();
        }
        group_.ranks().agree(error);
        Scored scored = group_.score(recipe, path, tasks_);
        scored.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        idle_ = 1 - (processor_seconds() - busy) / (scored.seconds * pool_.threads());
        return scored;
    }
    Json json(const std::string& path, const std::vector<std::string>& set) {
        const Scored scored = score(path, set);
        Json json = evaluation_json(scored.evaluation, path, scored.compute, *device_);
        if (!said_.empty()) json["warnings"] = said_;
        json["resident"] = scored.resident;
        json["spread"] = scored.spread;
        json["seconds"] = {{"total", scored.seconds},
                           {"merge", scored.merge_seconds},
                           {"weights", scored.weight_seconds},
                           {"forward", scored.forward_seconds}};
        json["idle_share"] = idle_;
        json["tensors"] = {{"folded", scored.counts.folded},
                           {"known", scored.counts.known},
                           {"thresholds_looked_up", scored.counts.thresholds_looked_up},
                           {"thresholds_counted", scored.counts.thresholds_counted}};
        return json;
    }
    const EvaluationDevice& device() const { return *device_; }

  private:
    EvaluatorSettings settings(uint64_t memory) {
        EvaluatorSettings settings;
        settings.memory = memory;
        settings.allow_unknown = arguments_.has("allow-unknown");
        settings.rules = resolve_options(arguments_);
        settings.compute = [this](const DecoderCheckpoint& model) {
            return choose_compute(arguments_, model, device_->has_bfloat16());
        };
        settings.device = device_.get();
        settings.is_guess = !arguments_.has("memory");
        settings.warn = [this](const std::string& warning) {
            warnings_.say(warning);
            said_.push_back(warning);
        };
        return settings;
    }

    const Arguments& arguments_;
    Warnings& warnings_;
    std::vector<std::string> said_;  ///< of the last candidate
    const std::vector<Task>& tasks_;
    ThreadPool pool_;
    std::unique_ptr<EvaluationDevice> device_;
    EvaluatorGroup group_;
    double idle_ = 0;  ///< share of the threads' time in the last call
};

/// Writes what came of the candidates: a line of JSON for each, in the order in which its group scored them. Returns what the
/// whole fails with.
std::string report_list(const Arguments& arguments, const std::vector<CandidateLine>& lines,
                        const CandidateGroups& groups, const std::vector<std::string>& parts) {
    std::vector<std::istringstream> texts;
    for (const std::string& part : parts)
        if (!part.empty()) texts.emplace_back(part);
    Json all = Json::array();
    Table table("lrl");
    table.add({"candidate", "score", ""});
    size_t failed = 0;
    for (size_t number = 0; number < lines.size(); ++number) {
        std::string text;
        std::getline(texts[number % size_t(groups.count)], text);
        Json json = Json::parse(text);
        const bool broken = json.contains("error");
        failed += broken;
        if (groups.warnings && json.contains("warnings"))
            for (const Json& warning : json["warnings"]) groups.warnings->say(warning);
        table.add({candidate_name(lines[number]),
                   broken ? std::string() : fmt::format("{:.4f}", json["score"].get<double>()),
                   broken ? in_one_line(json["error"].get<std::string>()) : std::string()});
        all.push_back(std::move(json));
    }
    write_scores(arguments, {{"candidates", std::move(all)}, {"failed", failed}}, table.text());
    if (failed == lines.size())
        return fmt::format("no candidate has a score ({} failed): the reasons are given with them", failed);
    if (failed > 0) log_warning("{} of {} candidates failed, for the reasons given with them", failed, lines.size());
    return "";
}

}  // namespace

void Warnings::say(const std::string& warning) {
    constexpr size_t most = 20;
    if (said_.size() > most || !said_.insert(warning).second) return;
    if (said_.size() <= most)
        log_warning("{}", warning);
    else
        log_warning("there are more warnings than {}: --json has all of a list's candidates", most);
}

std::vector<CandidateLine> read_list(Files& files, const std::string& path) {
    std::vector<CandidateLine> lines;
    std::istringstream text(files.read_all(path, 256 << 20));
    int number = 0;
    for (std::string line; std::getline(text, line);) {
        ++number;
        while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
        if (line.empty() || line[0] == '#') continue;
        if (line[0] != '{') {
            lines.push_back({line, {}});
            continue;
        }
        try {
            const Json json = Json::parse(line);
            for (const auto& [key, value] : json.items())
                check(key == "recipe" || key == "set", "unknown key {} (valid: recipe, set)", printable(key, 100));
            lines.push_back({json.at("recipe"), json.value("set", std::vector<std::string>())});
        } catch (const std::exception& error) {
            fail("{}:{}: {}", printable(path), number, error.what());
        }
    }
    check(!lines.empty(), "{}: no candidates: give a recipe on each line", printable(path));
    return lines;
}

void check_candidates(const Arguments& arguments) {
    const int given =
        int(!arguments.positionals.empty()) + int(arguments.has("recipe")) + int(arguments.has("recipes"));
    if (given == 0) throw UsageError("MODEL, --recipe or --recipes is missing: what is to be scored?");
    if (given > 1) throw UsageError("MODEL, --recipe and --recipes: give one of them");
    if (arguments.positionals.empty()) return;
    if (arguments.has("group"))
        throw UsageError("--group belongs to --recipe and --recipes: all ranks score one MODEL together");
    for (std::string_view option : {"set", "scratch", "on-mismatch", "integers"})
        if (arguments.has(option))
            throw UsageError(fmt::format(
                "--{} belongs to --recipe and --recipes: a MODEL is scored as it is; leave it out", option));
}

void score_list(const Arguments& arguments, const std::vector<CandidateLine>& lines, const CandidateGroups& groups,
                const ScoreCandidate& score) {
    std::string own;
    for (size_t number = size_t(groups.own); number < lines.size(); number += size_t(groups.count)) {
        const CandidateLine& line = lines[number];
        std::vector<std::string> set = arguments.texts("set");
        set.insert(set.end(), line.set.begin(), line.set.end());
        Json json;
        try {
            json = score(line.recipe, set);
        } catch (const Error& error) {
            json = {{"model", line.recipe}, {"error", error.what()}};
        }
        json["set"] = line.set;
        if (groups.leads) own += json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    }
    // Those that are done first leave their cores to the programs of the others.
    groups.ranks.barrier();
    const std::vector<std::string> parts = groups.ranks.gather(own, 0);
    groups.ranks.agree(groups.ranks.rank() == 0 ? report_list(arguments, lines, groups, parts) : "");
}

void evaluate_candidates(const Arguments& arguments, Files& files, const std::vector<Task>& tasks,
                         Communicator& ranks) {
    const bool list = arguments.has("recipes");
    const int size = int(arguments.integer("group", list ? 1 : ranks.size(), 1, ranks.size()));
    if (ranks.size() % size != 0)
        throw UsageError(fmt::format("--group {}: {} ranks are no multiple of it", size, ranks.size()));
    const int own = ranks.rank() / size;
    const std::unique_ptr<Communicator> group = ranks.range(own * size, (own + 1) * size);
    const uint64_t memory = arguments.bytes("memory", free_memory() / 2 / uint64_t(ranks.node_size()));
    Warnings warnings;
    RecipeScorer scorer(arguments, files, tasks, ranks, *group, memory, warnings);
    if (list) {
        std::vector<CandidateLine> lines;
        std::string error;
        try {
            lines = read_list(files, arguments.text("recipes"));
        } catch (const Error& caught) {
            error = caught.what();
        }
        ranks.agree(error);
        return score_list(arguments, lines, {ranks, ranks.size() / size, own, group->rank() == 0, &warnings},
                          [&](const auto& recipe, const auto& set) { return scorer.json(recipe, set); });
    }
    if (own > 0) return;
    const Scored scored = scorer.score(arguments.text("recipe"), arguments.texts("set"));
    if (ranks.rank() == 0)
        write_scores(arguments,
                     evaluation_json(scored.evaluation, arguments.text("recipe"), scored.compute, scorer.device()),
                     evaluation_text(scored.evaluation));
}

}  // namespace amalgam
