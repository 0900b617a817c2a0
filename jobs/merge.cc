// amalgam merge: the command line of run_merge().
#include "src/run/merge_job.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <exception>
#include <new>
#include <thread>

#include "jobs/commands.h"
#include "jobs/on_ranks.h"
#include "src/base/log.h"
#include "src/base/shell_word.h"
#include "src/base/stop_request.h"
#include "src/comm/session.h"

namespace amalgam {
namespace {

constexpr Positional positionals[] = {
    {"RECIPE", "what to merge: TOML, or mergekit's YAML (.yaml, .yml)"},
    {"OUT", "folder to be made; it appears when it is complete (until then: OUT.partial)"},
};

constexpr Option options[] = {
    {"memory", "BYTES",
     "tensor data that a rank holds at a time, as in 8GiB [half of what is free, divided by the ranks of the node]"},
    {"threads", "N", "threads of a rank [the cores it may use, divided by the ranks of the node]"},
    {"read", "HOW", "auto, mmap or direct: through the page cache or past it; never changes the result [auto]"},
    {"shard-size", "BYTES", "largest output file, as in 5GB or 500MB [5GB]"},
    {"block", "N", "elements of a work block; never changes the result [chosen from the caches]"},
    {"set", "PATH=VALUE",
     "override the recipe, as in parameters.lambda=0.7, models.0.parameters.weight=[0,1] or compat=paper; repeatable",
     true},
    {"report", "FILE", "write a report as JSON: bytes, seconds of each stage, a hash of every tensor, counts"},
    {"force", "", "replace what is in OUT, or start over what another recipe left in OUT.partial"},
    {"allow-unknown", "", "warn about unknown keys of the recipe instead of failing"},
    {"on-mismatch", "WHAT",
     "tensors whose shapes do not fit: error, or skip (leave the model out of that tensor, with a warning) [error]"},
    {"integers", "WHAT", "integer tensors in which models differ: error, or base (take the base's) [error]"},
    {"fail-on-nonfinite", "", "fail if an input or the result holds NaN or infinity"},
    {"device", "NAME", "auto, cpu or cuda; never changes the result [auto: cuda if there is a GPU]"},
    {"model-groups", "G",
     "groups of ranks that read different models, for zoos spread over the disks of nodes; divides the ranks; never "
     "changes the result [as many as the recipe names, else 1]"},
    {"quiet", "", "no progress, warnings and errors only"},
};

constexpr std::string_view description =
    "Reads the recipe and the models it names, merges them tensor by tensor and writes a Hugging Face folder. The same "
    "recipe gives the same bytes for any number of ranks and threads and any amount of memory.\n\n"
    "A merge that was ended, however it was, goes on when the same command is given again, with any number of ranks. "
    "Paths in the recipe count from the working directory, else from the recipe's folder.\n\n"
    "SIGUSR1 ends it early with exit code 0 and makes the file that REQUEUE_MARKER names, if that is set: the batch "
    "scripts in slurm/ then start it again.";

constexpr std::string_view examples =
    "amalgam merge ties.yaml out/\n"
    "amalgam merge ties.yaml out/ --set parameters.lambda=0.8 --report report.json\n"
    "mpirun -n 4 amalgam merge ties.toml out/ --memory 2GiB\n"
    "srun --kill-on-bad-exit=1 amalgam merge ties.toml /scratch/out --shard-size 10GB";

ReadMode read_mode(const Arguments& arguments) {
    constexpr std::string_view choices[] = {"auto", "mmap", "direct"};
    const std::string choice = arguments.choice("read", choices);
    return choice == "mmap" ? ReadMode::mmap : choice == "direct" ? ReadMode::direct : ReadMode::automatic;
}

/// What decides these bytes beside the recipe; ranks, threads, memory and the like do not.
std::string reproducing_options(const Arguments& arguments) {
    std::string text;
    for (std::string_view option : {"shard-size", "on-mismatch", "integers"})
        if (arguments.has(option)) text += fmt::format(" --{} {}", option, shell_word(arguments.text(option)));
    if (arguments.has("allow-unknown")) text += " --allow-unknown";
    return text;
}

MergeOptions merge_options(const Arguments& arguments) {
    constexpr std::string_view devices[] = {"auto", "cpu", "cuda"};
    constexpr std::string_view mismatches[] = {"error", "skip"};
    constexpr std::string_view integers[] = {"error", "base"};
    MergeOptions result;
    const std::string device = arguments.choice("device", devices);
    result.device = device == "cpu" ? DeviceKind::cpu : device == "cuda" ? DeviceKind::cuda : DeviceKind::automatic;
    result.recipe = arguments.positionals[0];
    result.out = arguments.positionals[1];
    result.set = arguments.texts("set");
    result.memory = arguments.bytes("memory", 0);
    if (arguments.has("memory") && result.memory == 0) throw UsageError("--memory 0: must be more");
    result.threads = int(arguments.integer("threads", 0, 1, 4096));
    result.read = read_mode(arguments);
    result.shard_size = arguments.bytes("shard-size", result.shard_size);
    result.model_groups = int(arguments.integer("model-groups", 0, 1, 4096));
    result.block = arguments.integer("block", 0, 1, int64_t(1) << 40);
    result.force = arguments.has("force");
    result.allow_unknown = arguments.has("allow-unknown");
    result.skip_on_mismatch = arguments.choice("on-mismatch", mismatches) == "skip";
    result.take_integers = arguments.choice("integers", integers) == "base";
    result.fail_on_nonfinite = arguments.has("fail-on-nonfinite");
    result.quiet = arguments.has("quiet");
    result.report = arguments.text("report");
    result.version = program_version;
    result.compiler = program_compiler;
    result.command_options = reproducing_options(arguments);
    return result;
}

int run(const Arguments& arguments) {
    constexpr int signals[] = {SIGUSR1};
    catch_stop_signals(signals);
    MergeOptions wanted = merge_options(arguments);
    wanted.stop = stop_asked;
    if (wanted.quiet) set_log_level(LogLevel::warning);
    return run_on_ranks([&](Session& session) {
        Communicator& world = session.world();
        if (run_merge(world, wanted) == MergeEnd::finished) return 0;
        const bool again = world.all_reduce_max(uint64_t(stop_signal() == SIGUSR1 ? 1 : 0)) != 0;
        if (again && world.rank() == 0) leave_requeue_marker();
        log_info("stopped as asked: the same command goes on where this one ends");
        return 0;
    });
}

}  // namespace

const Command merge_command = {
    "merge", "Merge models as a recipe says", description, positionals, options, examples, true, run};

}  // namespace amalgam
