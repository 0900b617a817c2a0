#include "src/run/merge_job.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <memory>
#include <optional>

#include "src/base/bytes.h"
#include "src/base/error.h"
#include "src/base/files.h"
#include "src/base/log.h"
#include "src/checkpoint/layout.h"
#include "src/checkpoint/output_config.h"
#include "src/checkpoint/output_folder.h"
#include "src/comm/nccl.h"
#include "src/comm/session.h"
#include "src/comm/together.h"
#include "src/plan/grid.h"
#include "src/plan/plan.h"
#include "src/recipe/recipe.h"
#include "src/recipe/recipe_copy.h"
#include "src/recipe/resolve.h"
#include "src/run/candidate.h"
#include "src/run/cluster_files.h"
#include "src/run/equal_tensors.h"
#include "src/run/fingerprint.h"
#include "src/run/memory_speed.h"
#include "src/run/merge_grid.h"
#include "src/run/merger.h"
#include "src/run/model_disks.h"
#include "src/run/output_files.h"
#include "src/run/output_state.h"
#include "src/run/progress.h"
#include "src/run/report.h"
#include "src/run/resources.h"
#include "src/run/watchdog.h"

namespace amalgam {

namespace {

/// Changes whenever the same inputs could give other bytes: outputs of former writers are then not gone on with.
constexpr const char* writer_version = "1";

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Job {
    Recipe recipe;
    RecipeCopy copy;
    Merge merge;
    OutputLayout layout;
    Grid grid;
};

Job read_job(Files& files, const MergeOptions& options) {
    Job job;
    job.recipe = read_recipe(files, options.recipe, {options.set, options.allow_unknown});
    job.merge = resolve(files, job.recipe, {options.skip_on_mismatch, options.take_integers});
    job.copy = copy_recipe(files, job.recipe);
    std::vector<OutputTensor> tensors;
    for (const TensorTask& task : job.merge.tasks) tensors.push_back({task.name, task.dtype, task.shape});
    job.layout = layout_output(tensors, options.shard_size);
    return job;
}

/// Rank 0 reads recipe, headers and configs; the others are given what it read, and need no file system for it.
Job open_job(Communicator& world, const MergeOptions& options) {
    Job job;
    const std::unique_ptr<Files> disk = disk_files();
    std::string groups, recording;
    together(world, [&] {
        if (world.rank() != 0) return;
        const Recipe recipe = read_recipe(*disk, options.recipe, {options.set, options.allow_unknown});
        groups = std::to_string(choose_model_groups(options.model_groups, recipe.groups(), world.size()));
    });
    world.broadcast(groups, 0);
    const Grid grid{world.size(), std::stoi(groups)};
    together(world, [&] {
        with_cluster_files(world, grid, *disk, [&](Files& cluster) {
            RecordingFiles files(cluster);
            job = read_job(files, options);
            if (world.size() > 1) recording = files.recording();
        });
    });
    job.grid = grid;
    if (world.size() == 1) return job;
    world.broadcast(recording, 0);
    together(world, [&] {
        if (world.rank() != 0) job = read_job(*replay_files(recording), options);
        job.grid = grid;
        if (grid.groups > 1) check_disks(*disk, job.merge, grid, world);
    });
    return job;
}

void add_field_text(std::string& text, const FieldValues& values) {
    text.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double));
}

/// Everything that decides the output's bytes.
std::string key_of(const Job& job, const std::vector<std::string>& fingerprints) {
    std::vector<std::string> parts = {writer_version, std::string(job.merge.method->name),
                                      job.merge.compat == Compat::paper ? "paper" : "mergekit",
                                      std::to_string(job.merge.seed)};
    std::string tasks;
    for (const TensorTask& task : job.merge.tasks) {
        tasks += fmt::format("{} {} {} {}:", task.name, info(task.dtype).name, shape_text(task.shape), int(task.kind));
        add_field_text(tasks, task.global);
        for (const TaskInput* input : all_inputs(task)) {
            tasks +=
                fmt::format("{} {} {} {};", input->model, input->position, input->tensor.file, input->tensor.begin);
            add_field_text(tasks, input->fields);
        }
    }
    parts.push_back(std::move(tasks));
    for (const OutputLayout::File& file : job.layout.files) parts.push_back(file.name + file.header);
    auto file = fingerprints.begin();
    for (const MergeModel& model : job.merge.models) {
        parts.push_back(model.checkpoint.config);
        for (size_t i = 0; i < model.checkpoint.files.size(); ++i) parts.push_back(*file++);
    }
    return job_key(parts);
}

void write_texts(const std::string& folder, const Job& job, const MergeOptions& options) {
    const OutputConfig config = merged_config(job.merge);
    for (const std::string& warning : config.warnings) log_warning("{}", warning);

    const Checkpoint& tokens = job.merge.models[size_t(job.merge.tokenizer_donor)].checkpoint;
    copy_companion_files(tokens.path, folder);
    if (!config.text.empty()) write_output_text(folder, {"config.json", config.text});
    if (!job.layout.index.empty()) write_output_text(folder, {index_file_name, job.layout.index});
    // A former start may have been given the other form.
    std::remove((folder + "/" + recipe_file_name(!job.copy.yaml)).c_str());
    write_output_text(folder, {recipe_file_name(job.copy.yaml), job.copy.text});
    write_output_text(folder, {"README.md", model_card(merge_card(job.merge, job.copy, options, AMALGAM_VERSION))});
    sync_folder(folder);
}

std::unique_ptr<Device> choose_device(DeviceKind kind, int node_rank, int node_size) {
    if (kind == DeviceKind::automatic) kind = cuda_device_count() > 0 ? DeviceKind::cuda : DeviceKind::cpu;
    return kind == DeviceKind::cuda ? make_cuda_device(node_rank, node_size) : make_cpu_device();
}

/// Memory and threads that are nobody else's on this node.
MergerSettings choose_settings(Communicator& world, const Job& job, const MergeOptions& options, Device& device) {
    MergerSettings settings;
    settings.device = &device;
    settings.memory = options.memory ? options.memory : free_memory() / 2 / uint64_t(world.node_size());
    check_budget(settings.memory);
    settings.work.method = job.merge.method;
    settings.work.merge = &job.merge;
    settings.work.compat = job.merge.compat;
    settings.work.seed = job.merge.seed;
    settings.work.threads = options.threads > 0  ? options.threads
                            : device.lanes() > 0 ? device.lanes()
                                                 : std::max(1, usable_cores() / std::max(1, world.node_size()));
    int64_t inputs = 1;
    for (const TensorTask& task : job.merge.tasks) inputs = std::max<int64_t>(inputs, int64_t(task.inputs.size()) + 2);
    settings.block = options.block > 0 ? (options.block + 255) / 256 * 256 : cache_block(inputs, 2);
    int64_t sample = 65536;
    while (sample > 1024 && uint64_t(sample) * 8 * uint64_t(inputs) * 2 > settings.memory / 8) sample /= 2;
    settings.work.sample_keys = sample;
    return settings;
}

void write_report(const std::string& path, const std::string& text) {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file << text;
    file.flush();
    check(bool(file), "{}: cannot write the report ({}); the merge itself is complete", path, errno_text(errno));
}

/// An early look whether the report can be written, before hours of work. Leaves no trace: there may be nothing to report.
void check_report(const std::string& path) {
    if (path.empty()) return;
    const bool fresh = disk_files()->status(path).kind == FileKind::missing;
    std::ofstream file(path, std::ios::binary | std::ios::app);
    check(bool(file), "--report {}: cannot be written ({})", path, errno_text(errno));
    if (fresh) std::remove(path.c_str());
}

std::vector<std::string> input_paths(const Merge& merge) {
    std::vector<std::string> paths;
    for (const MergeModel& model : merge.models) paths.push_back(model.checkpoint.path);
    return paths;
}

}  // namespace

MergeEnd run_merge(Communicator& world, const MergeOptions& options) {
    const auto start = Clock::now();
    const bool first = world.rank() == 0;
    raise_file_limit();
    std::unique_ptr<Device> device;
    together(world, [&] { device = choose_device(options.device, world.node_rank(), world.node_size()); });
    Job job = open_job(world, options);
    if (first)
        for (const std::string& warning : job.merge.warnings) log_warning("{}", warning);

    std::unique_ptr<OutputFolder> folder;
    std::string building;
    check_equal_tensors(world, job.merge, job.grid);
    const std::vector<std::string> fingerprints = file_fingerprints(world, job.merge, job.grid);
    together(world, [&] {
        if (!first) return;
        check_report(options.report);
        folder = OutputFolder::open(options.out, key_of(job, fingerprints), input_paths(job.merge), options.force);
        if (folder->state() == OutputState::finished) return;
        building = folder->building();
        OutputFiles::create(building, job.layout);
    });
    world.broadcast(building, 0);
    if (building.empty()) {
        if (first)
            log_info("{} is already there, complete and made by this recipe from these inputs: nothing to do{}",
                     options.out, options.report.empty() ? "" : ", and no report is written");
        return MergeEnd::finished;
    }

    MergerSettings settings;
    JournalContents finished;
    std::unique_ptr<Journal> journal;
    std::unique_ptr<InputFiles> inputs;
    together(world, [&] {
        settings = choose_settings(world, job, options, *device);
        finished = read_journals(building);
        inputs = std::make_unique<InputFiles>(job.merge, options.read);
    });
    together(world, [&] { journal = std::make_unique<Journal>(building, world.rank()); });
    const int groups = job.grid.groups;
    RunFacts facts;
    facts.model_groups = groups;
    facts.version = options.version.empty() ? AMALGAM_VERSION : options.version;
    facts.compiler = options.compiler;
    facts.mpi = Session::library();
    facts.ranks = world.size();
    facts.threads = settings.work.threads;
    facts.device = device->name();
    facts.memory = settings.memory;
    facts.open_seconds = seconds_since(start);

    const ShardPlan plan(job.merge.tasks, job.layout, world.size());
    uint64_t traffic = 0;
    for (size_t task = 0; task < job.merge.tasks.size(); ++task) traffic += plan.traffic(int64_t(task));
    const auto ranks = uint64_t(world.size());
    ProgressOptions shown;
    shown.title = std::string(job.merge.method->name);
    shown.total = traffic;
    shown.quiet = options.quiet || !first;
    shown.whole = [traffic, ranks](uint64_t own) { return std::min(own * ranks, traffic); };
    Progress progress(shown);
    settings.progress = [&](uint64_t bytes) { progress.add(bytes); };
    const double patience = watchdog_seconds();
    Watchdog watchdog(patience, [patience] {
        log_here(
            LogLevel::error,
            "nothing moved for {} s: a file system or another rank hangs; giving up (the same command goes on where "
            "this one ends; AMALGAM_WATCHDOG_SECONDS sets the patience)",
            patience);
        std::abort();
    });
    settings.touch = [&] { watchdog.touch(); };
    settings.stop = options.stop;

    OutputFiles outputs(building, job.layout,
                        std::clamp<uint64_t>(settings.memory / 16, uint64_t(1) << 18, uint64_t(32) << 20));
    std::unique_ptr<Communicator> through_gpus;
    if (device->kind() == DeviceKind::cuda) through_gpus = nccl_communicator(world);
    MergeTotals totals;
    try {
        totals = merge_on_grid(through_gpus ? *through_gpus : world, groups, job.merge, job.layout, *inputs, outputs,
                               *journal, finished, settings);
        inputs->check_unchanged();
    } catch (const InputChanged&) {
        // Blocks and statistics of what was not the input: a start with the file made whole again must not go on from them.
        remove_journals(building);
        throw;
    } catch (const AgreedError& error) {
        throw Error(error.what());  // those of a row or a tensor agreed: the other ranks wait for them
    }
    const auto synced = Clock::now();
    outputs.sync();
    journal->flush();
    if (world.all_reduce_max(uint64_t(totals.stopped ? 1 : 0)) != 0) return MergeEnd::stopped;
    facts.sync_seconds = seconds_since(synced);
    progress.finish();

    facts.peak_memory = world.all_reduce_max(peak_memory());
    facts.slowest_statistics = double(world.all_reduce_max(uint64_t(totals.statistics_seconds * 1e6))) / 1e6;
    facts.slowest_fold = double(world.all_reduce_max(uint64_t(totals.fold_seconds * 1e6))) / 1e6;
    MergeTotals all;
    for (const std::string& part : world.gather(pack_totals(totals), 0)) add_packed_totals(all, part);

    together(world, [&] {
        if (!first) return;
        for (const std::string& line : wrong_lines(job.merge, all, 10)) log_warning("{}", line);
        const std::string refusal = options.fail_on_nonfinite ? nonfinite_refusal(job.merge, all) : "";
        check(refusal.empty(), "{}", refusal);
        write_texts(building, job, options);
        journal.reset();
        folder->publish();
    });
    facts.total_seconds = seconds_since(start);
    if (!options.report.empty()) {
        const uint64_t moved = world.all_reduce_sum(totals.bytes_read);
        facts.memory_speed = memory_read_speed(world, facts.threads, settings.memory, moved);
    }
    together(world, [&] {
        if (!first) return;
        if (!options.report.empty())
            write_report(options.report, report_text(job.merge, job.recipe, job.copy, job.layout, all, facts));
        if (!options.quiet) fmt::print("{}\n", summary_text(job.merge, job.layout, all, facts, options.out));
    });
    return MergeEnd::finished;
}

}  // namespace amalgam
