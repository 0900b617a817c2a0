// What the controller of a search costs: groups that sleep in place of scoring, everything else as in a real search, with its
// journal and its state on the disk.
//
//     bench_search_overhead [groups [seconds of a candidate [generations]]]
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <thread>

#include "src/search/journal.h"
#include "src/search/search.h"

namespace amalgam {
namespace {

constexpr int items = 256;

/// Groups that all score at once, on the machine's clock, without being there. Every candidate takes the same time.
class SleepingGroups final : public SearchGroups {
  public:
    SleepingGroups(int count, double seconds) : count_(count), seconds_(seconds) {}
    int count() const override { return count_; }
    void start(int group, const SearchJob& job) override {
        double distance = 0;
        for (double gene : job.genome) distance += (gene - 0.7) * (gene - 0.7);
        const double score = 1 / (1 + distance);
        std::vector<double> right(items, 0);
        std::fill(right.begin(), right.begin() + int(items * score), 1);
        coming_.push_back({now() + seconds_,
                           {group, job.id, job.attempt, true,
                            encode_answer({score, -distance, {{score, -distance, std::move(right)}}})}});
    }
    std::optional<Event> wait(double limit) override {
        const double until = now() + limit, due = coming_.empty() ? until : coming_.front().first;
        std::this_thread::sleep_for(std::chrono::duration<double>(std::min(due, until) - now()));
        if (due > until || coming_.empty()) return std::nullopt;
        Event event = std::move(coming_.front().second);
        coming_.pop_front();
        return event;
    }
    double now() override { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  private:
    using Clock = std::chrono::steady_clock;
    int count_;
    double seconds_;
    Clock::time_point start_ = Clock::now();
    std::deque<std::pair<double, Event>> coming_;  ///< by time
};

int run(int groups, double seconds, int generations) {
    SearchInputs inputs;
    inputs.config = parse_search(
        fmt::format(
            "[merge]\nmerge_method = \"ties\"\nbase_model = \"b\"\nmodels = [\"m/one\", \"m/two\", \"m/three\"]\n"
            "[search]\nlayer_groups = 4\ngenes.weight = {{ low = -1, high = 2 }}\ngenes.density = {{}}\n"
            "options = {{ population = {} }}\nevaluations = {}\nmean_genome = false\n[[tasks]]\nsearch = \"s\"\n",
            groups, groups * generations),
        "search.toml");
    Task task;
    task.name = "t";
    task.items.resize(items);
    for (int item = 0; item < items; ++item) task.items[size_t(item)].answer = {item};
    inputs.search = {task};
    inputs.layers = 32;

    const std::string folder = std::filesystem::temp_directory_path() / fmt::format("amalgam-overhead-{}", ::getpid());
    std::filesystem::create_directories(folder);
    double searched = 0;
    {
        JournalWriter journal(folder + "/journal.jsonl");
        SleepingGroups pool(groups, seconds);
        SearchWorld world;
        world.groups = &pool;
        world.append = [&](const std::string& record, bool sync) {
            journal.append(record);
            if (sync)
                journal.sync();
            else
                journal.flush(1);
            if (record.find("\"kind\":\"generation\"") != record.npos) searched = pool.now();
        };
        world.save = [&](const SearchState& state) { write_search_state(folder + "/state.h5", state); };
        run_search(inputs, world, {});
    }
    std::filesystem::remove_all(folder);
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    const double processor = double(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                             1e-6 * double(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    const double ideal = generations * seconds;
    fmt::print(
        "{} groups, {} generations of {} candidates of {} s, {} genes: {:.3f} s, {:.2f} % more than the {:.1f} s that "
        "the candidates take; {:.2f} ms of processor time for a candidate\n",
        groups, generations, groups, seconds, 24, searched, 100 * (searched / ideal - 1), ideal,
        1000 * processor / groups / generations);
    return 0;
}

}  // namespace
}  // namespace amalgam

int main(int count, char** words) {
    const auto number = [&](int place, double otherwise) {
        return count > place ? std::atof(words[place]) : otherwise;
    };
    return amalgam::run(int(number(1, 64)), number(2, 0.5), int(number(3, 20)));
}
