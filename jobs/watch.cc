// amalgam watch: a search in the terminal, while it goes on.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <map>
#include <thread>

#include "jobs/commands.h"
#include "jobs/report.h"
#include "jobs/table.h"

namespace amalgam {
namespace {

constexpr Positional positionals[] = {{"RUN", "the folder that `amalgam evolve` writes"}};
constexpr Option options[] = {
    {"once", "", "show it once and end"},
    {"interval", "SECONDS", "between two looks [1]"},
};
constexpr std::string_view description =
    "Shows how far a search is, its best candidate so far, the current generation, groups of ranks and failures, drawn "
    "again as the folder grows; it ends when the search has ended, or by Ctrl-C. Only files are read: it may run on "
    "another machine that sees the folder, and a search does not notice. Where standard output is no terminal it "
    "writes a "
    "line for each generation instead.";
constexpr std::string_view examples =
    "amalgam watch run/\n"
    "amalgam watch run/ --once";

using Clock = std::chrono::steady_clock;

std::atomic<bool> asked_to_end{false};

bool is_terminal() {
    const char* kind = std::getenv("TERM");
    return ::isatty(STDOUT_FILENO) == 1 && kind && std::string_view(kind) != "dumb";
}

size_t terminal_columns() {
    struct winsize size {};
    const bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return std::clamp<size_t>(known ? size.ws_col : 80, 30, 200);
}

std::string time_text(double seconds) { return std::isfinite(seconds) && seconds >= 0 ? seconds_text(seconds) : "-"; }

/// "[=====>    ]"
std::string bar_text(double share, size_t width) {
    const auto full = size_t(std::clamp(share, 0., 1.) * double(width));
    std::string text(width, ' ');
    for (size_t i = 0; i < full; ++i) text[i] = '=';
    if (full < width) text[full] = '>';
    return "[" + text + "]";
}

/// Eight heights a character.
std::string sparkline(const std::vector<double>& values, size_t width) {
    constexpr const char* heights[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    if (values.empty()) return "";
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    std::string text;
    for (size_t i = 0, columns = std::min(width, values.size()); i < columns; ++i) {
        const double value = values[(i + 1) * values.size() / columns - 1];
        const double share = *high > *low ? (value - *low) / (*high - *low) : 0;
        text += heights[std::min<size_t>(7, size_t(share * 8))];
    }
    return text;
}

/// The best score after each new evaluation.
std::vector<double> running_best(const Run& run) {
    std::vector<double> best;
    double most = -INFINITY;
    for (const RunEvaluation& evaluation : run.evaluations) {
        if (!evaluation.counts()) continue;
        if (evaluation.ok && evaluation.score > most) most = evaluation.score;
        if (std::isfinite(most)) best.push_back(most);
    }
    return best;
}

struct Rates {
    double recent = 0;                                 ///< evaluations in a second, over the last ones of this session
    std::map<int, std::pair<int64_t, double>> groups;  ///< evaluations and busy seconds
    double since = 0;                                  ///< where the session began
};

Rates rates_of(const Run& run) {
    Rates rates;
    rates.since = run.sessions.empty() ? 0 : run.sessions.back().time;
    std::vector<double> ends;
    for (const RunEvaluation& evaluation : run.evaluations) {
        if (evaluation.session != int(run.sessions.size()) || !std::isfinite(evaluation.ended)) continue;
        auto& [count, busy] = rates.groups[evaluation.group];
        ++count;
        busy += std::max(0., evaluation.ended - evaluation.started);
        ends.push_back(evaluation.ended);
    }
    if (ends.empty()) return rates;
    std::sort(ends.begin(), ends.end());
    const size_t looked_at = std::min<size_t>(ends.size(), 100);
    const double from = looked_at < ends.size() ? ends[ends.size() - looked_at - 1] : rates.since;
    if (ends.back() > from) rates.recent = double(looked_at) / (ends.back() - from);
    return rates;
}

struct View {
    const Run& run;
    size_t columns;
    bool percent;
    double quiet;  ///< seconds without a new record; negative: not known
};

std::string progress_lines(const View& view, const Rates& rates) {
    const Run& run = view.run;
    const int64_t done = counted_evaluations(run), all = run.start.evaluations;
    std::string text = plural(done, "evaluation");
    if (all > 0) {
        text = fmt::format("{} of {} evaluations", count_text(done), count_text(all));
        const size_t width = std::clamp<size_t>(view.columns - std::min(view.columns, text.size() + 12), 8, 40);
        const double share = double(done) / double(all);
        text = fmt::format("{} {:3.0f} %  {}", bar_text(share, width), std::floor(100 * std::min(1., share)), text);
    }
    text += "\n" + time_text(run.ended && std::isfinite(run.end_seconds) ? run.end_seconds : run.seconds);
    if (rates.recent > 0) text += fmt::format(", {:.3g} evaluations a second", rates.recent);
    if (!run.ended && all > done && rates.recent > 0)
        text += fmt::format(", about {} left", time_text(double(all - done) / rates.recent));
    if (!run.sessions.empty()) text += fmt::format(", interrupted {}", times_text(run.sessions.size()));
    return text + "\n";
}

std::string best_lines(const View& view) {
    const RunEvaluation* best = best_so_far(view.run);
    if (!best) return "no candidate has a score yet\n";
    std::string text = fmt::format("best {} on search items", score_text(best->score, view.percent));
    if (std::isfinite(best->objective)) text += fmt::format(", objective {:.4f}", best->objective);
    text += fmt::format(" (evaluation {}, generation {})\n", best->id, best->generation);
    const std::vector<double> running = running_best(view.run);
    if (running.size() > 1)
        text += fmt::format("{} {} {}\n", score_text(running.front(), view.percent),
                            sparkline(running, view.columns - std::min<size_t>(view.columns - 10, 20)),
                            score_text(running.back(), view.percent));
    if (best->tasks.size() > 1)
        for (size_t i = 0; i < best->tasks.size() && i < view.run.start.tasks.size() && i < 12; ++i)
            text += fmt::format("  {}: {}\n", printable(view.run.start.tasks[i].name, 60),
                                score_text(best->tasks[i].score, view.percent));
    return text;
}

std::string generation_line(const RunGeneration& generation) {
    std::string text =
        fmt::format("{} generation {}: best objective {:.4f}, median {:.4f}", printable(generation.phase, 20),
                    generation.generation, generation.best, generation.median);
    for (size_t i = 0; i < generation.facts.size() && i < 6; ++i)
        text += fmt::format(", {} {:.3g}", printable(generation.facts[i].first, 30), generation.facts[i].second);
    return text + "\n";
}

std::string group_lines(const View& view, const Rates& rates) {
    std::string text;
    const double seconds = view.run.seconds - rates.since;
    size_t shown = 0;
    for (const auto& [group, work] : rates.groups) {
        if (++shown > 8) {
            text += fmt::format("  and {} more groups\n", rates.groups.size() - 8);
            break;
        }
        text += fmt::format("  group {}: {}, {} each, busy {:.0f} %\n", group, plural(work.first, "evaluation"),
                            time_text(work.second / double(work.first)),
                            seconds > 0 ? std::min(100., 100 * work.second / seconds) : 0);
    }
    for (size_t i = view.run.lost_groups.size() - std::min<size_t>(3, view.run.lost_groups.size());
         i < view.run.lost_groups.size(); ++i)
        text += fmt::format("  lost group {}: {}\n", view.run.lost_groups[i].group,
                            printable(view.run.lost_groups[i].text, 200));
    return text;
}

std::string failure_lines(const Run& run) {
    int64_t failed = 0, duplicates = 0;
    const RunEvaluation* last = nullptr;
    for (const RunEvaluation& evaluation : run.evaluations) {
        duplicates += evaluation.duplicate_of != 0;
        if (evaluation.ok || evaluation.duplicate_of != 0) continue;
        ++failed;
        last = &evaluation;
    }
    std::string text;
    if (last)
        text += fmt::format("{} failed, the last: {}\n", plural(failed, "candidate"),
                            last->error.empty() ? "no reason is told" : printable(last->error, 300));
    if (duplicates > 0) text += fmt::format("{} that had come before\n", plural(duplicates, "candidate"));
    return text;
}

std::string result_lines(const std::optional<RunResult>& result, bool percent) {
    if (!result) return "";
    Table table("lrrl");
    table.add({"", "search", "held out", "95 % interval"});
    const auto add = [&](const std::string& name, const RunScores& scores) {
        const bool known = std::isfinite(scores.low) && std::isfinite(scores.high);
        table.add({printable(name, 40), score_text(scores.search, percent), score_text(scores.heldout, percent),
                   known ? score_text(scores.low, percent) + " to " + score_text(scores.high, percent) : ""});
    };
    add("winner", result->best);
    for (size_t i = 0; i < result->sources.size() && i < 20; ++i) add(result->sources[i].name, result->sources[i]);
    if (result->uniform) add("uniform merge", *result->uniform);
    if (result->constant) add("constant answer", *result->constant);
    return table.text();
}

/// No longer than the terminal is wide; characters beyond ASCII count as one column.
std::string cut(std::string_view text, size_t columns) {
    std::string result;
    size_t used = 0;
    for (char letter : text) {
        if (letter == '\n')
            used = 0;
        else if ((letter & 0xc0) != 0x80)
            ++used;
        if (used <= columns) result += letter;
    }
    return result;
}

std::string view_text(const RunFolder& folder, const View& view, const std::optional<RunResult>& result) {
    const Run& run = view.run;
    const Rates rates = rates_of(run);
    std::string text = fmt::format("{}: {} by {}, seed {}", printable(folder.path(), 100), run.start.space,
                                   run.start.optimiser, run.start.seed);
    if (run.ended) text += fmt::format(", ended ({})", run.end_reason);
    // A search that says nothing for long may have been killed: files cannot tell.
    if (!run.ended && view.quiet > 60) text += fmt::format(", nothing new for {}", time_text(view.quiet));
    text = printable(text, 400) + "\n" + progress_lines(view, rates) + best_lines(view);
    if (!run.generations.empty()) text += generation_line(run.generations.back());
    text += group_lines(view, rates) + failure_lines(run) + result_lines(result, view.percent);
    return cut(text, view.columns);
}

/// Draws over what was drawn before.
class Screen {
  public:
    void draw(const std::string& text) {
        std::string all = lines_ > 0 ? fmt::format("\x1b[{}A\r", lines_) : "";
        lines_ = 0;
        for (char letter : text) {
            if (letter == '\n') {
                all += "\x1b[K";
                ++lines_;
            }
            all += letter;
        }
        print_out(all + "\x1b[J");
    }

  private:
    size_t lines_ = 0;
};

/// Also returns when it should end.
void sleep_for(double seconds) {
    const auto deadline = Clock::now() + std::chrono::duration<double>(seconds);
    while (!asked_to_end && Clock::now() < deadline)
        std::this_thread::sleep_for(
            std::min(std::chrono::duration<double>(0.05), std::chrono::duration<double>(deadline - Clock::now())));
}

int watch(RunFolder& folder, double interval, bool once) {
    const bool terminal = is_terminal();
    Screen screen;
    size_t generations = 0, records = 0;
    Clock::time_point last_change = Clock::now();
    for (;; sleep_for(interval), folder.refresh()) {
        const Run& run = folder.run();
        const size_t now = run.evaluations.size() + run.generations.size();
        if (now != records) last_change = Clock::now();
        records = now;
        // It is written after the journal's end.
        const std::optional<RunResult> result = run.ended ? folder.result() : std::nullopt;
        const double quiet = std::chrono::duration<double>(Clock::now() - last_change).count();
        const View view{run, terminal ? terminal_columns() : 100, are_shares(run, result), quiet};
        const bool last = once || run.ended || asked_to_end;
        if (!terminal && !once)
            for (; generations < run.generations.size(); ++generations)
                print_out(fmt::format("{}, {}", plural(run.generations[generations].evaluations, "evaluation"),
                                      generation_line(run.generations[generations])));
        if (terminal && !once)
            screen.draw(view_text(folder, view, result));
        else if (last)
            print_out(view_text(folder, view, result));
        if (last) return 0;
    }
}

int run(const Arguments& arguments) {
    const double interval = arguments.number("interval", 1, 0.05, 86400);
    RunFolder folder(arguments.positionals[0]);
    struct sigaction action {};
    action.sa_handler = [](int) { asked_to_end.store(true); };
    for (int number : {SIGTERM, SIGINT}) ::sigaction(number, &action, nullptr);
    return watch(folder, interval, arguments.has("once"));
}

}  // namespace

const Command watch_command = {
    "watch", "Show a search while it goes on", description, positionals, options, examples, false, run};

}  // namespace amalgam
