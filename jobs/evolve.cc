// amalgam evolve: searches the recipe of a merge.
#include <sys/stat.h>
#include <sys/types.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>

#include "jobs/commands.h"
#include "jobs/instruction_scorer.h"
#include "jobs/json.h"
#include "jobs/on_ranks.h"
#include "jobs/search_models.h"
#include "jobs/table.h"
#include "src/base/bytes.h"
#include "src/base/log.h"
#include "src/base/shell_word.h"
#include "src/base/stop_request.h"
#include "src/evaluate/checkpoint_reader.h"
#include "src/run/fingerprint.h"
#include "src/run/merge_job.h"
#include "src/run/search_groups.h"
#include "src/search/budget.h"
#include "src/search/item_sets.h"
#include "src/search/journal.h"
#include "src/search/search.h"
#include "src/search/search_journal.h"
#include "src/search/search_key.h"

namespace amalgam {
namespace {

constexpr Positional positionals[] = {{"SEARCH", "what to search for (TOML; docs/search.md)"},
                                      {"RUN", "folder of journal and results; one that is there is gone on with"}};
constexpr Option options[] = {
    {"set", "PATH=VALUE", "override the search file, as search.seed=3 or zoo.root=/data/zoo; repeatable", true},
    {"evaluations", "N", "candidates, instead of what the file says"},
    {"seed", "N", "of the search, instead of what the file says"},
    {"groups", "G", "groups of ranks that score candidates, besides rank 0 [as many as there are other ranks]"},
    {"memory", "BYTES",
     "of each rank, for merges in memory [half of what is free, divided by the ranks of the machine]"},
    {"compute", "NAME", "as for evaluate [float32]"},
    {"device", "NAME", "as for evaluate [cpu]"},
    {"threads", "N", "of a rank; never changes the result [one a core]"},
    {"allow-unknown", "", "warn about unknown keys instead of failing"},
    {"no-checkpoint", "", "write the winner's recipe only"},
    {"quiet", "", "no progress"},
};
constexpr std::string_view description =
    "Proposes recipes, scores each merge in memory and learns from the scores. Rank 0 proposes, groups of the other "
    "ranks "
    "score; one rank alone does both. Every score goes to RUN/journal.jsonl at once: the same command goes on where it "
    "was killed, with any number of ranks, and finds the same winner. In the end the winner, every source, their "
    "uniform "
    "merge and the best constant answer are scored on held-out items; RUN/best holds the winner as a checkpoint, "
    "RUN/best.toml and RUN/best.yaml as recipes.";
constexpr std::string_view examples =
    "amalgam evolve configs/evolve-tiny.toml run/\n"
    "mpirun -n 5 amalgam evolve configs/evolve-tiny.toml run/ --seed 7 --evaluations 200";

/// They end a search between two candidates, so that the same command can go on.
constexpr int stop_signals[] = {SIGUSR1, SIGTERM, SIGINT};

void write_text(const std::string& path, const std::string& text) {
    std::ofstream file(path + ".new", std::ios::binary);
    file << text;
    file.close();
    check(file.good(), "{}: cannot be written: {}{}", printable(path), errno_text(errno), space_advice(errno));
    std::filesystem::rename(path + ".new", path);
}

SearchConfig read_config(const Arguments& arguments, Files& files) {
    std::vector<std::string> set = arguments.texts("set");
    for (const char* key : {"evaluations", "seed"})
        if (arguments.has(key))
            set.push_back(fmt::format("search.{}={}", key, arguments.integer(key, 0, 0, int64_t(1) << 40)));
    return read_search(files, arguments.positionals[0], {set, arguments.has("allow-unknown")});
}

SearchInputs open_inputs(const Arguments& arguments, Files& files) {
    SearchInputs inputs;
    inputs.config = read_config(arguments, files);
    for (const std::string& warning : inputs.config.warnings) log_warning("{}", warning);
    for (const SearchTask& task : inputs.config.tasks) {
        const auto open = [&](const std::string& path, std::vector<Task>& to) {
            if (path.empty()) return;
            to.push_back(read_task(files, path));
            if (task.weight) to.back().weight = *task.weight;
        };
        open(task.search, inputs.search);
        open(task.validation, inputs.validation);
        open(task.heldout, inputs.heldout);
    }
    for (const std::string& warning : check_item_sets(inputs)) log_warning("{}", warning);
    open_models(files, inputs);
    // What they object to is said before a folder is made.
    for (const std::string& warning : check_budget(inputs)) log_warning("{}", warning);
    return inputs;
}

/// The model whose config merges have; paths have no base.
std::string leading_model(const SearchConfig& config) {
    const std::string& first = config.recipe.models.at(0).model;
    return config.space == SearchSpace::data_flow ? first : config.recipe.base_model.value_or(first);
}

/// Items that no candidate can be asked would be noticed late, those held out last.
void check_tasks(const Arguments& arguments, Files& files, const SearchInputs& inputs) {
    const Recipe& recipe = inputs.config.recipe;
    const DecoderConfig config = open_decoder(files, locate_model(files, leading_model(inputs.config), recipe.folder()),
                                              arguments.has("allow-unknown"))
                                     .config;
    for (const auto* tasks : {&inputs.search, &inputs.validation, &inputs.heldout})
        for (const Task& task : *tasks) check_task(task, config);
}

/// Of all models: another checkpoint at the same place is another search.
std::vector<std::string> model_fingerprints(Files& files, const SearchConfig& config) {
    const Recipe& recipe = config.recipe;
    std::vector<std::string> models, found;
    if (recipe.base_model && config.space != SearchSpace::data_flow) models.push_back(*recipe.base_model);
    for (const SourceEntry& entry : recipe.models) models.push_back(entry.model);
    for (const std::string& model : models) {
        const Checkpoint checkpoint = open_checkpoint(files, locate_model(files, model, recipe.folder()));
        std::string text = text_hash(checkpoint.config);
        for (const CheckpointFile& file : checkpoint.files)
            text += ' ' + fingerprint(file.path, file.header_hash).text();
        found.push_back(std::move(text));
    }
    return found;
}

/// What was typed, as far as it decides the result.
std::string command_text(const Arguments& arguments) {
    std::string command =
        fmt::format("amalgam evolve {} {}", shell_word(arguments.positionals[0]), shell_word(arguments.positionals[1]));
    for (const std::string& text : arguments.texts("set")) command += fmt::format(" --set {}", shell_word(text));
    for (std::string_view option : {"evaluations", "seed", "compute", "device"})
        if (arguments.has(option)) command += fmt::format(" --{} {}", option, shell_word(arguments.text(option)));
    if (arguments.has("allow-unknown")) command += " --allow-unknown";
    return command;
}

/// Says that rank 0 has done all it will: mpirun may not return when a rank was lost, and who watches knows by this file.
std::string done_file(const std::string& folder) { return folder + "/done"; }

void say_done(const std::string& folder, bool finished) {
    if (!finished && stop_signal() == SIGUSR1) leave_requeue_marker();
    write_text(done_file(folder), finished ? "finished\n" : "stopped\n");
}

/// The folder of a search.
class RunFolder {
  public:
    RunFolder(const Arguments& arguments, const SearchInputs& inputs) : path_(arguments.positionals[1]) {
        while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
        std::error_code error;
        const bool there = std::filesystem::exists(path_, error);
        const std::string journal = path_ + "/journal.jsonl";
        if (there && !std::filesystem::exists(journal, error) && !std::filesystem::is_empty(path_, error))
            fail("{}: is there and is no folder of a search: choose another one", printable(path_));
        const SearchKey key = search_key(inputs);
        // What is refused is left as it is.
        if (there && std::filesystem::exists(journal, error)) check_same_search(read_journal(journal).lines, key);
        std::filesystem::create_directories(path_, error);
        check(!error, "{}: cannot be made: {}", printable(path_), error.message());
        writer_ = std::make_unique<JournalWriter>(journal);
        if (there) records_ = read_journal(journal).lines;
        check_same_search(records_, key);
        if (!writer_->damaged_copy().empty())
            log_warning(
                "{}: record {} is damaged, so it and those behind it are lost, and what they say is computed again; "
                "the "
                "journal as it was is {}",
                printable(journal), records_.size() + 1, printable(writer_->damaged_copy()));
        std::filesystem::remove(done_file(path_), error);
        write_text(path_ + "/search.toml", inputs.config.text);
        write_text(path_ + "/command.txt", command_text(arguments) + "\n");
    }
    const std::string& path() const { return path_; }
    const std::vector<std::string>& records() const { return records_; }
    void append(const std::string& record, bool sync) {
        writer_->append(record);
        if (sync)
            writer_->sync();
        else
            writer_->flush(1);
    }

  private:
    std::string path_;
    std::unique_ptr<JournalWriter> writer_;
    std::vector<std::string> records_;
};

MergeOptions merge_of(const Arguments& arguments, const std::string& recipe, const std::string& out) {
    MergeOptions merge;
    merge.recipe = recipe;
    merge.out = out;
    merge.force = true;
    merge.quiet = true;
    merge.allow_unknown = arguments.has("allow-unknown");
    merge.device = DeviceKind::cpu;
    merge.memory = arguments.bytes("memory", 0);
    merge.threads = int(arguments.integer("threads", 0, 1, 4096));
    merge.stop = stop_asked;
    merge.command = fmt::format("amalgam merge {} {}", std::filesystem::path(recipe).filename().string(),
                                std::filesystem::path(out).filename().string());
    return merge;
}

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

std::string result_text(const SearchInputs& inputs, const SearchResult& result) {
    Table table("lrrrr");
    table.add({"", "search", "held out", "95 %", "p"});
    const auto add = [&](const std::string& name, const Answer& search, const std::optional<Answer>& heldout,
                         bool best) {
        std::vector<std::string> cells = {printable(name, 60), percent(search.score), "", "", ""};
        if (heldout) {
            const auto [low, high] = answer_interval(*heldout, inputs.search);
            cells[2] = percent(heldout->score);
            cells[3] = fmt::format("{:.1f}-{:.1f}", 100 * low, 100 * high);
            if (!best && result.best.heldout)
                cells[4] = fmt::format("{:.2g}", answer_difference(*result.best.heldout, *heldout, inputs.search));
        }
        table.add(cells);
    };
    add(fmt::format("best ({})", result.best.origin), result.best.search, result.best.heldout, true);
    const auto add_contender = [&](const std::string& name, const Contender& contender) {
        if (contender.error.empty()) return add(name, contender.search, contender.heldout, false);
        log_warning("{} cannot be scored: {}", printable(name, 60), contender.error);
    };
    for (const Contender& source : result.sources) add_contender(source.name, source);
    add_contender("uniform merge", result.uniform);
    if (result.constant) add("constant answer", result.constant->search, result.constant->heldout, false);
    return fmt::format("{} in {:.1f} s\n{}", result.reason, result.seconds, table.text());
}

/// A line for each generation, at most one a second.
class SearchProgress {
  public:
    SearchProgress(bool quiet, int64_t evaluations) : quiet_(quiet), evaluations_(evaluations) {}
    void see(const std::string& record) {
        if (quiet_ || record.find("\"kind\":\"generation\"") == record.npos) return;
        const Json json = Json::parse(record);
        const double time = json["time"];
        if (time < next_ || !json.contains("best")) return;
        next_ = time + 1;
        log_info("{:>6.1f} s  {} of {} evaluations, generation {}: best {:.4f}, median {:.4f}", time,
                 json["evaluations"].get<int64_t>(), evaluations_, json["generation"].get<int64_t>(),
                 json["best"].get<double>(), json["median"].get<double>());
    }

  private:
    bool quiet_;
    int64_t evaluations_;
    double next_ = 0;
};

enum class Ending { stopped, to_write, finished };

/// The winner as a checkpoint.
Ending write_best(Communicator& world, const Arguments& arguments) {
    const std::string folder = arguments.positionals[1];
    const MergeEnd end = run_merge(world, merge_of(arguments, folder + "/best.toml", folder + "/best"));
    return end == MergeEnd::finished ? Ending::finished : Ending::stopped;
}

/// What rank 0 does, but for writing the winner.
Ending control(const Arguments& arguments, const SearchInputs& inputs, SearchGroups& groups, bool& lost) {
    RunFolder folder(arguments, inputs);
    const int64_t evaluations = inputs.config.evaluations;
    SearchProgress progress(arguments.has("quiet"), evaluations);
    SearchWorld world;
    world.groups = &groups;
    world.append = [&](const std::string& record, bool sync) {
        folder.append(record, sync);
        progress.see(record);
        if (record.find("\"kind\":\"group_lost\"") == record.npos) return;
        lost = true;
        log_warning("a group of ranks is lost, the others go on: {}", record);
    };
    world.write_checkpoint = [&](const Recipe& recipe, const std::string& name) {
        const std::string out = folder.path() + "/" + name;
        write_text(out + ".toml", recipe_to_toml(recipe));
        const auto alone = self_communicator();
        MergeOptions merge = merge_of(arguments, out + ".toml", out);
        merge.stop = nullptr;  // the search cannot go on without it
        run_merge(*alone, merge);
        return std::filesystem::absolute(out).string();
    };
    const std::string state = folder.path() + "/state.h5";
    world.save = [&](const SearchState& now) { write_search_state(state, now); };
    if (!folder.records().empty()) {
        try {
            world.saved = read_search_state(state);
        } catch (const Error& error) {
            log_warning("{}; its journal is gone through instead", error.what());
        }
    }
    world.date = int64_t(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()));
    world.interrupted = stop_asked;
    world.controller.lease = inputs.config.lease;
    world.controller.quorum = inputs.config.quorum;
    if (!folder.records().empty()) {
        Json heldout_items = Json::array();
        for (const Task& task : inputs.heldout) heldout_items.push_back(task.items.size());
        folder.append(Json{{"kind", "resumed"},
                           {"groups", groups.count()},
                           {"evaluations", evaluations},
                           {"heldout", items_hash(inputs.heldout)},
                           {"heldout_items", std::move(heldout_items)}}
                          .dump(),
                      true);
        log_info("{}: goes on with {} of its journal", printable(folder.path()),
                 plural(int64_t(folder.records().size()), "record"));
    }
    const SearchResult result = run_search(inputs, world, folder.records());
    if (!result.complete) {
        log_info("stopped ({}): the same command goes on", result.reason);
        return Ending::stopped;
    }
    write_text(folder.path() + "/best.toml", recipe_to_toml(result.best.recipe));
    try {
        write_text(folder.path() + "/best.yaml", recipe_to_yaml(result.best.recipe));
    } catch (const Error& error) {
        log_warning("{}/best.yaml is not written: {}", printable(folder.path()), error.what());
    }
    write_text(folder.path() + "/result.json", result_json(inputs, result));
    print_out(result_text(inputs, result));
    return arguments.has("no-checkpoint") ? Ending::finished : Ending::to_write;
}

int group_count(const Arguments& arguments, const Communicator& world) {
    const int others = world.size() - 1;
    const int count = int(arguments.integer("groups", std::max(1, others), 1, std::max(1, others)));
    if (others > 0 && others % count != 0)
        log_warning("--groups {}: {} of the {} ranks behind rank 0 have nothing to do", count, others % count, others);
    return count;
}

int run_alone(const Arguments& arguments, const SearchInputs& inputs, Files& files, Communicator& world) {
    group_count(arguments, world);
    InstructionScorer scorer(arguments, files, inputs, world, world);
    const auto groups = groups_in_process([&](const std::string& text) { return scorer.score(text); });
    bool lost = false;
    const std::string folder = arguments.positionals[1];
    Ending ending = control(arguments, inputs, *groups, lost);
    if (ending == Ending::to_write) ending = write_best(world, arguments);
    say_done(folder, ending == Ending::finished);
    return 0;
}

int run_on_groups(const Arguments& arguments, const SearchInputs& inputs, Files& files, Communicator& world) {
    const int count = group_count(arguments, world);
    const std::string folder = arguments.positionals[1];
    if (world.rank() > 0) {
        const auto group = own_group(world, count);
        bool join = false;
        if (group) {
            InstructionScorer scorer(arguments, files, inputs, world, *group);
            join = serve_search(world, *group, [&](const std::string& text) { return scorer.score(text); });
        } else {
            join = wait_for_retirement(world);
        }
        if (join) write_best(world, arguments);
        return 0;
    }
    const auto groups = groups_of_ranks(world, count);
    bool lost = false;
    Ending ending = control(arguments, inputs, *groups, lost);
    const bool write = ending == Ending::to_write;
    // What all ranks do together, MPI's own end too, would wait for a lost one for ever.
    lost = lost || !groups->all_answer();
    groups->retire(write && !lost);
    const auto alone = self_communicator();
    if (write) ending = write_best(lost ? *alone : world, arguments);
    say_done(folder, ending == Ending::finished);
    if (lost) {
        log_info("done; ranks that were lost do not end: the launcher may have to be stopped");
        std::fflush(nullptr);
        std::_Exit(0);
    }
    return 0;
}

int run(const Arguments& arguments) {
    if (arguments.has("quiet")) set_log_level(LogLevel::warning);
    return run_on_ranks([&](Session& session) {
        Communicator& world = session.world();
        const auto files = disk_files();
        SearchInputs inputs;
        std::string error;
        try {
            inputs = open_inputs(arguments, *files);
            inputs.compute =
                fmt::format("{} {}", arguments.text("compute", "float32"), arguments.text("device", "cpu"));
            check_tasks(arguments, *files, inputs);
            if (world.rank() == 0) inputs.fingerprints = model_fingerprints(*files, inputs.config);
        } catch (const UsageError&) {
            throw;
        } catch (const std::exception& caught) {
            error = caught.what();
        }
        world.agree(error);
        catch_stop_signals(stop_signals);
        return world.size() > 1 ? run_on_groups(arguments, inputs, *files, world)
                                : run_alone(arguments, inputs, *files, world);
    });
}

}  // namespace

const Command evolve_command = {
    "evolve", "Search the recipe of a merge", description, positionals, options, examples, true, run};

}  // namespace amalgam
