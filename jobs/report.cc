// amalgam report: one page of HTML that holds all of a search.
#include "jobs/report.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <map>
#include <utility>

#include "jobs/commands.h"
#include "jobs/table.h"
#include "src/base/bytes.h"

namespace amalgam {
namespace {

constexpr Positional positionals[] = {{"RUN", "the folder that `amalgam evolve` writes"}};
constexpr Option options[] = {
    {"out", "FILE", "where the page goes; - is standard output [RUN/report.html]"},
    {"against", "RUN",
     "compare with this search, too, such as a random one, or the same one with another seed; repeatable", true},
};
constexpr std::string_view description =
    "The page needs no network and no other file: it can be mailed, or opened years later. It shows the result on "
    "held-out items with intervals, the score over evaluations, tasks and single items, the genome over generations, "
    "what "
    "groups of ranks did when, what failed, and how to do it again. A search that goes on or was killed has a report, "
    "too.";
constexpr std::string_view examples =
    "amalgam report run/\n"
    "amalgam report run/ --against random-run/ --out comparison.html";

std::string escaped(std::string_view text) {
    std::string result;
    for (char letter : text) switch (letter) {
            case '&': result += "&amp;"; break;
            case '<': result += "&lt;"; break;
            case '>': result += "&gt;"; break;
            case '"': result += "&quot;"; break;
            default: result += letter;
        }
    return result;
}

/// JSON for a script element: nothing in it can end the element, whatever names hold.
std::string embedded(const Json& json) {
    std::string result;
    for (char letter : json.dump(-1, ' ', true, Json::error_handler_t::replace)) {
        if (letter == '<' || letter == '>' || letter == '&')
            result += fmt::format("\\u{:04x}", int(letter));
        else
            result += letter;
    }
    return result;
}

std::string last_part(const std::string& path) {
    const size_t slash = path.rfind('/');
    return slash == path.npos || slash + 1 == path.size() ? path : path.substr(slash + 1);
}

std::string time_text(double seconds) {
    if (!(seconds > 0) || seconds > 1e11) return "";
    const auto time = std::time_t(seconds);
    std::tm parts{};
    char text[40];
    if (!::gmtime_r(&time, &parts) || std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &parts) == 0) return "";
    return text;
}

std::string status_text(const Run& run, const std::optional<RunResult>& result) {
    std::string text = fmt::format("{} by {}, {}", run.start.space.empty() ? "search" : run.start.space,
                                   run.start.optimiser.empty() ? "an unknown optimiser" : run.start.optimiser,
                                   plural(counted_evaluations(run), "evaluation"));
    if (run.start.evaluations > 0) text += fmt::format(" of {}", count_text(run.start.evaluations));
    if (const std::string begun = time_text(run.start.time); !begun.empty()) text += ", begun " + begun;
    if (run.ended)
        text += fmt::format(", ended ({})", run.end_reason.empty() ? "no reason is told" : run.end_reason);
    else
        text += ". It has not ended: it goes on, or was interrupted";
    if (run.ended && !result) text += "; result.json is not there";
    return printable(text);
}

Json notes_json(const Run& run) {
    Json notes = Json::array();
    int64_t duplicates = 0;
    for (const RunEvaluation& evaluation : run.evaluations) duplicates += evaluation.duplicate_of != 0;
    if (duplicates > 0)
        notes.push_back(
            fmt::format("{} came up again and took nothing from the budget.", plural(duplicates, "candidate")));
    if (std::isfinite(run.start.tie_breaker) && run.start.tie_breaker > 0)
        notes.push_back(
            fmt::format("The search maximised score + {} x mean log-likelihood of the answers: where scores "
                        "are equal, the likelier answers win. The scores shown are without it.",
                        run.start.tie_breaker));
    if (!run.sessions.empty())
        notes.push_back(
            fmt::format("It was interrupted {}, and went on where it ended.", times_text(run.sessions.size())));
    if (run.torn)
        notes.push_back("The journal's last line is not whole: it is being written, or was cut off by a kill.");
    if (run.unreadable > 0)
        notes.push_back(
            fmt::format("{} of the journal are of no kind that is known here.", plural(run.unreadable, "record")));
    return notes;
}

/// In the order of the search's genes.
std::vector<std::pair<std::string, double>> genome_of(const Run& run, const RunResult& result) {
    std::map<std::string_view, size_t> places;
    for (const RunGene& gene : run.start.genes) places.emplace(gene.name, places.size());
    for (const RunPhase& phase : run.phases)
        for (const RunGene& gene : phase.genes) places.emplace(gene.name, places.size());
    const auto place = [&](const std::pair<std::string, double>& gene) {
        const auto found = places.find(gene.first);
        return found == places.end() ? places.size() : found->second;
    };
    std::vector<std::pair<std::string, double>> genome = result.best.genome;
    std::stable_sort(genome.begin(), genome.end(), [&](const auto& a, const auto& b) { return place(a) < place(b); });
    return genome;
}

Json data_json(const RunFolder& folder, const std::optional<RunResult>& result, const std::vector<OtherRun>& others) {
    const Run& run = folder.run();
    const OtherRun own{printable(last_part(folder.path()), 60), run, result, 0, ""};
    Json data = {{"percent", are_shares(run, result)},
                 {"headline", headline_text(run, result)},
                 {"notes", notes_json(run)},
                 {"seconds", rounded(result && std::isfinite(result->seconds)      ? result->seconds
                                     : run.ended && std::isfinite(run.end_seconds) ? run.end_seconds
                                                                                   : run.seconds)},
                 {"start", {{"evaluations", run.start.evaluations}}},
                 {"counts", {{"evaluations", counted_evaluations(run)}}},
                 {"objective", "The objective is what was maximised: the score, the tie-breaker and penalties."},
                 {"bars_on", result && std::isfinite(result->best.heldout) ? "held-out" : "search"}};
    data["contenders"] = contenders_json(run, result);
    data["tasks"] = tasks_json(run, result);
    data["items"] = items_json(run, result);
    add_progress(data, run, result, others);
    data["comparison"] = comparison_json(own, others);
    data["phases"] = phases_json(run, result);
    data["best_genome"] = Json::array();
    if (result)
        for (const auto& [name, value] : genome_of(run, *result)) data["best_genome"].push_back({name, rounded(value)});
    data["timing"] = timing_json(run);
    data["failures"] = failures_json(run);
    data["settings"] = settings_json(run, result);
    data["command"] = folder.file("command.txt");
    data["toml"] = folder.file("search.toml");
    data["recipe"] = folder.file("best.toml");
    data["recipe_yaml"] = folder.file("best.yaml");
    return data;
}

/// The main figures for readers without scripts.
std::string noscript_html(const Json& data) {
    const bool percent = data["percent"];
    const auto score = [&](const Json& value) {
        return value.is_number() ? score_text(value, percent) : std::string();
    };
    std::string html =
        "<section><p>" + escaped(data["headline"].get<std::string>()) +
        "</p>\n<table><tr><th></th><th>search items</th><th>held-out items</th><th>95 % interval</th></tr>\n";
    for (const Json& one : data["contenders"]) {
        const std::string low = score(one["low"]), high = score(one["high"]);
        html += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                            escaped(printable(one["title"].get<std::string>())), score(one["search"]),
                            score(one["heldout"]), low.empty() || high.empty() ? "" : low + " to " + high);
    }
    return html + "</table><p>The rest of the page is drawn by its script, which does not run here.</p></section>\n";
}

std::string page_html(const RunFolder& folder, const std::optional<RunResult>& result,
                      const std::vector<OtherRun>& others) {
    const Json data = data_json(folder, result, others);
    const std::string title = "Search " + escaped(printable(last_part(folder.path())));
    const std::pair<std::string_view, std::string> parts[] = {
        {"{title}", title},
        {"{style}", std::string(report_style)},
        {"{status}", escaped(status_text(folder.run(), result))},
        {"{noscript}", noscript_html(data)},
        {"{data}", embedded(data)},
        {"{script}", std::string(report_script)},
    };
    // Once through: what is put in may hold the same words.
    std::string html;
    std::string_view rest = report_html;
    while (!rest.empty()) {
        const size_t brace = std::min(rest.find('{'), rest.size());
        html += rest.substr(0, brace);
        rest.remove_prefix(brace);
        if (rest.empty()) break;
        const auto* part = std::find_if(std::begin(parts), std::end(parts),
                                        [&](const auto& one) { return rest.starts_with(one.first); });
        html += part == std::end(parts) ? "{" : part->second;
        rest.remove_prefix(part == std::end(parts) ? 1 : part->first.size());
    }
    return html;
}

/// Whole or not at all: a browser may have the page open.
void write_page(const std::string& path, const std::string& text) {
    const std::string partial = path + ".partial";
    errno = 0;
    {
        std::ofstream file(partial, std::ios::binary | std::ios::trunc);
        file << text;
        file.close();
        if (!file) {
            const int error = errno;
            std::remove(partial.c_str());
            fail("{}: cannot be written ({}){}", printable(partial), errno_text(error), space_advice(error));
        }
    }
    if (std::rename(partial.c_str(), path.c_str()) != 0) {
        const int error = errno;
        std::remove(partial.c_str());
        fail("{}: cannot be written ({}){}", printable(path), errno_text(error), space_advice(error));
    }
}

int run(const Arguments& arguments) {
    const RunFolder folder(arguments.positionals[0]);
    std::vector<OtherRun> others;
    for (const std::string& path : arguments.texts("against")) {
        const RunFolder other(path);
        others.push_back({printable(last_part(other.path()), 60), other.run(), other.result(), 0, ""});
    }
    const std::optional<RunResult> result = folder.result();
    tell_kinds({"", folder.run(), result, 0, ""}, others);
    const std::string html = page_html(folder, result, others);
    const std::string out = arguments.text("out", folder.path() + "/report.html");
    if (out == "-") {
        print_out(html);
        return 0;
    }
    write_page(out, html);
    print_out(fmt::format("{}: {}\n", printable(out), bytes_text(html.size())));
    return 0;
}

}  // namespace

const Command report_command = {
    "report", "Make a page of HTML of a search", description, positionals, options, examples, false, run};

}  // namespace amalgam
