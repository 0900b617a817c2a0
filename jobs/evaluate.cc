// amalgam evaluate: scores of a checkpoint on task files.
#include "src/evaluate/evaluate.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

#include "jobs/commands.h"
#include "jobs/evaluate.h"
#include "jobs/json.h"
#include "jobs/on_ranks.h"
#include "jobs/table.h"
#include "src/base/log.h"
#include "src/base/nearest.h"
#include "src/device/device.h"
#include "src/evaluate/checkpoint_reader.h"
#include "src/evaluate/decoder.h"
#include "src/run/resources.h"

namespace amalgam {
namespace {

constexpr Positional positionals[] = {
    {"MODEL", "folder of a decoder: config.json and safetensors files; not with --recipe or --recipes", 0, 1}};
constexpr Option options[] = {
    {"task", "FILE", "task file, one JSON object a line (docs/tasks.md); repeatable", true},
    {"weight", "NAME=X", "of a task in the score, instead of what its file says [1]; repeatable", true},
    {"recipe", "RECIPE", "instead of MODEL: score the merge that this recipe describes, in memory; nothing is written"},
    {"set", "PATH=VALUE", "override the recipe, as in amalgam merge; repeatable", true},
    {"recipes", "LIST",
     "instead of MODEL: a file with a candidate on each line, a recipe's path or {\"recipe\": PATH, \"set\": "
     "[\"PATH=VALUE\", "
     "...]}; one that fails is reported, the others go on"},
    {"group", "N",
     "under mpirun or srun: ranks that score a merge together, each folding its share of it; the others score other "
     "lines "
     "of --recipes meanwhile [1; all ranks for --recipe]"},
    {"memory", "BYTES",
     "for each rank, of merges in memory: what does not fit is folded a layer at a time, again for every pass; of a "
     "MODEL: "
     "for texts on their way through it, its weights come on top [half of what is free, divided by the ranks on the "
     "machine]"},
    {"command", "TEXT",
     "instead of --task: for each candidate run this in a shell, {model} being its folder, and read the score from "
     "the JSON that it prints (docs/evaluation.md)"},
    {"worker", "TEXT",
     "instead of --task: a program that is started once and told of each candidate in a line of JSON, which it "
     "answers"},
    {"score-at", "PLACE", "of the score in the program's JSON: results.gsm8k.acc, or /results/gsm8k/acc [score]"},
    {"timeout", "SECONDS", "for the program to score a candidate; 0: no limit [3600]"},
    {"scratch", "FOLDER",
     "where merges are put for the program, one at a time [/dev/shm if they fit, else TMPDIR or /tmp]"},
    {"json", "OUT", "write scores and every item's result here as JSON; - is standard output, instead of the table"},
    {"device", "NAME", "auto, cpu or cuda; scores of the two differ in last digits [auto: cuda if there is a GPU]"},
    {"compute", "NAME",
     "float32, bfloat16 (products of bfloat16 summed in float32), or auto: bfloat16 if the "
     "weights are and the processor multiplies it [float32]"},
    {"threads", "N", "never changes the result [one a core]"},
    {"allow-unknown", "", "warn about keys of config.json and tensors that are not known instead of failing"},
    {"on-mismatch", "WHAT", "of merges, as in amalgam merge: error or skip [error]"},
    {"integers", "WHAT", "of merges, as in amalgam merge: error or base [error]"},
};
constexpr std::string_view description =
    "Runs the model over the tasks and prints a score for each, from 0 to 1, and their mean by weight. Tasks hold "
    "token "
    "ids, so no tokenizer is needed; tools/make_tasks.py makes them from text. Llama, Mistral, Qwen 2, Qwen 3 and "
    "Gemma 2 are built in.";
constexpr std::string_view examples =
    "amalgam evaluate merged --task math-ja/search.jsonl\n"
    "amalgam evaluate merged --task math.jsonl --task japanese.jsonl --weight japanese=0.5 --json scores.json\n"
    "amalgam evaluate --recipe ties.toml --set parameters.lambda=0.8 --task math-ja/search.jsonl\n"
    "amalgam evaluate --recipes list.txt --worker 'python3 configs/evaluators/transformers_worker.py task.jsonl'";

/// How each model gets one rank, and thereby a GPU.
std::string_view one_rank_advice(const Arguments& arguments) {
    if (arguments.has("groups")) return "leave --groups out, so that each rank is a group";
    if (arguments.has("recipes")) return "give --group 1, so that each rank scores merges on a GPU of its own";
    if (arguments.has("recipe")) return "start one rank, or give --group 1";
    return "start one rank";
}

}  // namespace

std::unique_ptr<EvaluationDevice> choose_device(const Arguments& arguments, ThreadPool& pool, const Communicator& all,
                                                Communicator* ranks) {
    constexpr std::string_view names[] = {"auto", "cpu", "cuda"};
    const std::string name = arguments.choice("device", names);
    if (name == "cuda" && ranks)
        throw UsageError(
            fmt::format("--device cuda: {} ranks would score a model together, which GPUs do not; {}, or give "
                        "--device cpu",
                        ranks->size(), one_rank_advice(arguments)));
    if (name == "cpu" || (name == "auto" && cuda_device_count() == 0)) return make_cpu_evaluation(pool, ranks);
    if (!ranks) return make_cuda_evaluation(all.node_rank(), all.node_size());
    // The first group speaks for all; rank 0 of a search is in none.
    if (ranks->rank() == 0 && all.rank() <= 1)
        log_here(LogLevel::warning,
                 "the CPU scores, though there is a GPU: {} ranks score a model together, which GPUs do not; {}, or "
                 "give --device cpu if this is meant",
                 ranks->size(), one_rank_advice(arguments));
    return make_cpu_evaluation(pool, ranks);
}

Compute choose_compute(const Arguments& arguments, const DecoderCheckpoint& model, bool has_bfloat16) {
    constexpr std::string_view names[] = {"float32", "bfloat16", "auto"};
    const std::string name = arguments.choice("compute", names);
    if (name == "bfloat16" && !has_bfloat16)
        fail("--compute bfloat16: this processor has no instructions for it (AVX512-BF16 or AMX); use float32 or auto");
    const bool half = name == "bfloat16" || (name == "auto" && model.all_bfloat16 && has_bfloat16);
    return half ? Compute::bfloat16 : Compute::float32;
}

ResolveOptions resolve_options(const Arguments& arguments) {
    constexpr std::string_view mismatches[] = {"error", "skip"};
    constexpr std::string_view integers[] = {"error", "base"};
    return {arguments.choice("on-mismatch", mismatches) == "skip", arguments.choice("integers", integers) == "base"};
}

int thread_count(const Arguments& arguments, const Communicator& ranks) {
    return int(arguments.integer("threads", std::max(1, usable_cores() / ranks.node_size()), 1, 4096));
}

namespace {

void set_weights(const Arguments& arguments, std::vector<Task>& tasks) {
    for (const std::string& text : arguments.texts("weight")) {
        const size_t equals = text.rfind('=');
        if (equals == std::string::npos)
            throw UsageError(fmt::format("--weight {}: NAME=X is expected", printable(text, 100)));
        Arguments number;
        number.options["weight"] = {text.substr(equals + 1)};
        const double weight = number.number("weight", 1, 0, 1e9);
        bool found = false;
        for (Task& task : tasks)
            if (task.name == text.substr(0, equals)) {
                task.weight = weight;
                found = true;
            }
        if (found) continue;
        const std::vector<std::string_view> names = [&] {
            std::vector<std::string_view> all;
            for (const Task& task : tasks) all.push_back(task.name);
            return all;
        }();
        throw UsageError(fmt::format("--weight {}: there is no task of this name{}", printable(text, 100),
                                     did_you_mean(text.substr(0, equals), names)));
    }
}

/// Tasks of one name get what tells them apart: math-ja/search and math-ja/heldout, else their paths.
void tell_apart(std::vector<Task>& tasks) {
    const auto rename_equals = [&](const auto& new_name) {
        std::map<std::string, int> counts;
        for (const Task& task : tasks) ++counts[task.name];
        for (Task& task : tasks)
            if (counts[task.name] > 1) task.name = new_name(task);
    };
    rename_equals([](const Task& task) {
        return fmt::format("{}/{}", task.name, std::filesystem::path(task.path).stem().string());
    });
    rename_equals([](const Task& task) { return task.path; });
    for (size_t i = 0; i < tasks.size(); ++i)
        for (size_t j = 0; j < i; ++j)
            if (tasks[i].name == tasks[j].name)
                throw UsageError(fmt::format("--task {}: a second task of the name {}; give each file once",
                                             printable(tasks[i].path), printable(tasks[i].name, 100)));
}

std::vector<Task> read_tasks(Files& files, const Arguments& arguments) {
    std::vector<Task> tasks;
    for (const std::string& path : arguments.texts("task")) tasks.push_back(read_task(files, path));
    tell_apart(tasks);
    set_weights(arguments, tasks);
    return tasks;
}

Json item_json(const ItemResult& item, Metric metric) {
    Json json = {{"score", item.score}};
    if (metric == Metric::choice || metric == Metric::choice_normalised)
        json["log_likelihoods"] = item.log_likelihoods;
    else if (!item.log_likelihoods.empty())
        json["log_likelihood"] = item.log_likelihoods[0];
    json["tokens"] = item.tokens;
    if (!needs_generation(metric)) return json;
    json["ids"] = item.written;
    if (!item.text.empty()) json["text"] = item.text;
    return json;
}

}  // namespace

Json evaluation_json(const Evaluation& evaluation, const std::string& model, Compute compute,
                     const EvaluationDevice& device) {
    Json json = {
        {"model", model}, {"device", device.name()}, {"compute", compute_name(compute)}, {"score", evaluation.score}};
    json["tasks"] = Json::array();
    for (const TaskResult& task : evaluation.tasks) {
        Json entry = {{"name", task.name},
                      {"metric", metric_name(task.metric)},
                      {"score", task.score},
                      {"weight", task.weight},
                      {"tokens", task.tokens}};
        if (!needs_generation(task.metric)) entry["mean_nll"] = task.mean_nll;
        if (task.metric == Metric::perplexity) entry["perplexity"] = std::exp(task.mean_nll);
        entry["items"] = Json::array();
        for (const ItemResult& item : task.items) entry["items"].push_back(item_json(item, task.metric));
        json["tasks"].push_back(std::move(entry));
    }
    return json;
}

std::string evaluation_text(const Evaluation& evaluation) {
    Table table("llrrrl");
    table.add({"task", "metric", "items", "weight", "score", ""});
    for (const TaskResult& task : evaluation.tasks) {
        const std::string more = task.metric == Metric::perplexity
                                     ? fmt::format("perplexity {:.4f}", std::exp(task.mean_nll))
                                     : std::string();
        table.add({printable(task.name, 100), std::string(metric_name(task.metric)),
                   count_text(int64_t(task.items.size())), number_text(task.weight), fmt::format("{:.4f}", task.score),
                   more});
    }
    if (evaluation.tasks.size() > 1) table.add({"all", "", "", "", fmt::format("{:.4f}", evaluation.score)});
    return table.text();
}

void write_json(const std::string& path, const std::string& text) {
    std::ofstream file(path, std::ios::binary);
    file << text;
    file.close();
    check(file.good(), "{}: cannot be written: {}{}", printable(path), errno_text(errno), space_advice(errno));
}

void write_scores(const Arguments& arguments, const Json& json, const std::string& table) {
    const std::string out = arguments.text("json");
    if (out == "-") return print_out(json_text(json));
    // Whichever of the two fails, the other is not lost.
    std::string error;
    try {
        if (!out.empty()) write_json(out, json_text(json));
    } catch (const Error& caught) {
        error = caught.what();
    }
    print_out(table);
    check(error.empty(), "{}", error);
}

namespace {

void evaluate_model(const Arguments& arguments, Files& files, const std::vector<Task>& tasks, Communicator& ranks) {
    const std::string path = locate_model(files, arguments.positionals[0], "");
    const DecoderCheckpoint model = open_decoder(files, path, arguments.has("allow-unknown"));
    for (const std::string& warning : model.checkpoint.warnings) log_warning("{}", warning);
    for (const std::string& warning : model.config.warnings) log_warning("{}", warning);
    if (!model.warning.empty()) log_warning("{}", model.warning);
    ThreadPool pool(thread_count(arguments, ranks));
    const auto device = choose_device(arguments, pool, ranks, ranks.size() > 1 ? &ranks : nullptr);
    const Compute compute = choose_compute(arguments, model, device->has_bfloat16());
    ReaderWeights weights(model.config, checkpoint_reader(files, model.checkpoint), compute,
                          device->uses_source_memory(), device->layout());
    Evaluation evaluation;
    try {
        const auto scorer = device->make_scorer(weights);
        scorer->limit_memory(arguments.bytes("memory", free_memory() / 2 / uint64_t(ranks.node_size())));
        evaluation = evaluate(*scorer, tasks);
    } catch (const BrokenModel& error) {
        ranks.agree(fmt::format("{}: {}", printable(path), error.what()));
    }
    if (ranks.rank() == 0)
        write_scores(arguments, evaluation_json(evaluation, path, compute, *device), evaluation_text(evaluation));
}

/// What scores would be lost for at the end. What is there stays as it is.
std::string json_problem(const std::string& path) {
    using std::filesystem::file_type;
    std::error_code unknown;
    const file_type kind = std::filesystem::status(path, unknown).type();
    // Opening a pipe would tell its reader of an end.
    if (path.empty() || path == "-" ||
        (kind != file_type::regular && kind != file_type::directory && kind != file_type::not_found))
        return "";
    const bool is_new = std::filesystem::symlink_status(path, unknown).type() == file_type::not_found;
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0)
        return fmt::format("--json {}: cannot be written: {}; nothing has been scored yet", printable(path),
                           errno_text(errno));
    ::close(file);
    if (is_new) ::unlink(path.c_str());
    return "";
}

int run(const Arguments& arguments) {
    check_candidates(arguments);
    const bool external = is_external(arguments), merges = arguments.has("recipe") || arguments.has("recipes");
    if (!external && !arguments.has("task")) throw UsageError("--task is missing: what is the model to be asked?");
    return run_on_ranks([&](Session& session) {
        Communicator& ranks = session.world();
        const auto files = disk_files();
        ranks.agree(ranks.rank() == 0 ? json_problem(arguments.text("json")) : "");
        if (external) {
            evaluate_externally(arguments, *files, ranks);
            return 0;
        }
        std::vector<Task> tasks;
        std::string error;
        try {
            tasks = read_tasks(*files, arguments);
        } catch (const UsageError&) {
            throw;
        } catch (const Error& caught) {
            error = caught.what();
        }
        ranks.agree(error);
        merges ? evaluate_candidates(arguments, *files, tasks, ranks) : evaluate_model(arguments, *files, tasks, ranks);
        return 0;
    });
}

}  // namespace

const Command evaluate_command = {
    "evaluate", "Score a checkpoint on tasks", description, positionals, options, examples, true, run};

}  // namespace amalgam
