// amalgam evaluate --command and --worker: scores by programs of the user's, merges as checkpoints in node-local memory.
#include <filesystem>
#include <memory>

#include "jobs/evaluate.h"
#include "jobs/json.h"
#include "jobs/table.h"
#include "src/base/log.h"
#include "src/checkpoint/checkpoint.h"
#include "src/checkpoint/output_folder.h"
#include "src/comm/communicator.h"
#include "src/evaluate/external.h"
#include "src/evaluate/scratch.h"
#include "src/recipe/recipe.h"
#include "src/recipe/resolve.h"
#include "src/run/evaluator_group.h"
#include "src/run/merge_job.h"
#include "src/run/resources.h"

namespace amalgam {
namespace {

/// One program for all candidates.
class ExternalScorer {
  public:
    /// `ranks`: those that score candidates of their own at the same time.
    ExternalScorer(const Arguments& arguments, Files& disk, const Communicator& ranks)
        : arguments_(arguments), ranks_(ranks), files_(remembering_files(disk)), world_(self_communicator()) {
        is_worker_ = arguments.has("worker");
        options_.command = arguments.text(is_worker_ ? "worker" : "command");
        options_.score_at = arguments.text("score-at", options_.score_at);
        // MPI's own variables are kept from programs: these tell them which share of the machine is theirs.
        const bool several = arguments.has("recipes");
        options_.environment = {{"AMALGAM_LOCAL_RANK", std::to_string(several ? ranks.node_rank() : 0)},
                                {"AMALGAM_LOCAL_RANKS", std::to_string(several ? ranks.node_size() : 1)}};
        rules_ = resolve_options(arguments);
        options_.timeout = arguments.number("timeout", options_.timeout, 0, 1e9);
        if (is_worker_) worker_ = std::make_unique<Worker>(options_);
    }

    Json score_model(const std::string& path) {
        const std::string whole = std::filesystem::absolute(path).lexically_normal();
        return result(ask({whole, "", {}}), path);
    }

    Json score_recipe(const std::string& recipe, const std::vector<std::string>& set) {
        const ScratchFolder folder(scratch_place(arguments_.text("scratch"), bytes_of(recipe, set), free_memory()));
        MergeOptions merge;
        merge.recipe = recipe;
        merge.set = set;
        // A new name each time, for programs that remember what they have read from where.
        merge.out = fmt::format("{}/candidate-{}", folder.path(), ++candidates_);
        merge.memory = arguments_.bytes("memory", free_memory() / 2 / uint64_t(ranks_.node_size()));
        merge.threads = thread_count(arguments_, ranks_);
        merge.device = DeviceKind::cpu;
        // Groups of a recipe are ranks of one merge, and here is one: it has to see all models.
        merge.model_groups = 1;
        merge.skip_on_mismatch = rules_.skip_on_mismatch;
        merge.take_integers = rules_.take_integers;
        merge.allow_unknown = arguments_.has("allow-unknown");
        merge.quiet = true;
        merge.command = "amalgam merge";
        run_merge(*world_, merge);
        return result(ask({merge.out, recipe, set}), recipe);
    }

  private:
    /// What the merge writes, with a margin for headers, index and model card.
    uint64_t bytes_of(const std::string& path, const std::vector<std::string>& set) {
        const Recipe recipe = read_recipe(*files_, path, {set, arguments_.has("allow-unknown")});
        const Merge merge = resolve(*files_, recipe, rules_);
        constexpr uint64_t margin = uint64_t(4) << 20;
        uint64_t bytes = margin + merge.tasks.size() * 1000;
        for (const TensorTask& task : merge.tasks)
            bytes += (uint64_t(task.elements()) * uint64_t(info(task.dtype).bits) + 7) / 8;
        const std::string& companions = merge.models[size_t(merge.tokenizer_donor)].checkpoint.path;
        for (const std::string& name : companion_file_names()) bytes += files_->status(companions + "/" + name).bytes;
        return bytes;
    }

    ExternalScore ask(const ExternalCandidate& candidate) {
        return worker_ ? worker_->score(candidate) : run_command(options_, candidate);
    }

    Json result(const ExternalScore& score, const std::string& model) const {
        Json items = Json::array();
        for (double item : score.items) items.push_back({{"score", item}});
        Json task = {{"name", is_worker_ ? "worker" : "command"},
                     {"metric", "external"},
                     {"score", score.score},
                     {"weight", 1.0},
                     {"items", std::move(items)}};
        return {{"model", model}, {"score", score.score}, {"tasks", Json::array({std::move(task)})}};
    }

    const Arguments& arguments_;
    const Communicator& ranks_;
    std::unique_ptr<Files> files_;
    std::unique_ptr<Communicator> world_;
    bool is_worker_ = false;
    ExternalOptions options_;
    ResolveOptions rules_;
    std::unique_ptr<Worker> worker_;
    int64_t candidates_ = 0;
};

void score_one(const Arguments& arguments, const Json& json) {
    Table table("lr");
    const Json& task = json["tasks"][0];
    table.add({"program", "score"});
    table.add({task["name"], fmt::format("{:.4f}", task["score"].get<double>())});
    write_scores(arguments, json, table.text());
}

}  // namespace

bool is_external(const Arguments& arguments) {
    const bool command = arguments.has("command"), worker = arguments.has("worker");
    if (command && worker) throw UsageError("--command and --worker: give one of them");
    if (!command && !worker) {
        for (std::string_view option : {"score-at", "timeout", "scratch"})
            if (arguments.has(option))
                throw UsageError(fmt::format("--{} belongs to --command or --worker: neither is given", option));
        return false;
    }
    const std::string_view given = command ? "command" : "worker";
    for (std::string_view option : {"task", "weight", "device", "compute"})
        if (arguments.has(option))
            throw UsageError(fmt::format(
                "--{} and --{}: the program of --{} decides what is asked and how it counts; give one of them", option,
                given, given));
    if (arguments.has("group"))
        throw UsageError(
            fmt::format("--group and --{}: every rank has a program of its own; leave --group out", given));
    if (arguments.text(given).find_first_not_of(" \t\n") == std::string::npos)
        throw UsageError(fmt::format("--{} is empty: what is to be run?", given));
    try {
        check_place(arguments.text("score-at", ExternalOptions().score_at));
    } catch (const Error& error) {
        throw UsageError(fmt::format("--score-at: {}", error.what()));
    }
    return true;
}

void evaluate_externally(const Arguments& arguments, Files& files, Communicator& ranks) {
    // One candidate is one rank's work.
    if (ranks.rank() > 0 && !arguments.has("recipes")) return;
    ExternalScorer scorer(arguments, files, ranks);
    if (arguments.has("recipes"))
        return score_list(arguments, read_list(files, arguments.text("recipes")),
                          {ranks, ranks.size(), ranks.rank(), true},
                          [&](const auto& recipe, const auto& set) { return scorer.score_recipe(recipe, set); });
    if (arguments.has("recipe"))
        return score_one(arguments, scorer.score_recipe(arguments.text("recipe"), arguments.texts("set")));
    score_one(arguments, scorer.score_model(locate_model(files, arguments.positionals[0], "")));
}

}  // namespace amalgam
