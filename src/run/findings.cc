#include "src/run/findings.h"

#include <algorithm>
#include <map>
#include <set>

#include "src/base/bytes.h"
#include "src/base/error.h"
#include "src/run/cgroup.h"

namespace amalgam {
namespace {

constexpr uint64_t mebibyte = uint64_t(1) << 20;
constexpr uint64_t least_budget = 256 * mebibyte;    ///< below it a merge is slow
constexpr uint64_t least_temporary = 16 * mebibyte;  ///< MPI's files
constexpr uint64_t least_shared = 64 * mebibyte;     ///< MPI's messages within a machine
constexpr uint64_t least_locked = 1024 * mebibyte;   ///< of a fast network's buffers
constexpr uint64_t least_files = 1024;

constexpr const char* by_pmi =
    "srun --mpi=pmix (srun --mpi=list shows what there is), or mpirun inside the allocation; if neither helps, a build "
    "with the cluster's own MPI";

using Ranks = std::vector<const RankSurroundings*>;

/// Gathers what is found, host by host.
class Findings {
  public:
    void add(const std::string& name, const std::string& host, std::string what, std::string why, std::string remedy) {
        const auto same = std::find_if(all_.begin(), all_.end(), [&](const Finding& f) { return f.name == name; });
        if (same == all_.end())
            all_.push_back({name, {host}, std::move(what), std::move(why), std::move(remedy)});
        else if (std::find(same->hosts.begin(), same->hosts.end(), host) == same->hosts.end())
            same->hosts.push_back(host);
    }
    void add(Finding finding) { all_.push_back(std::move(finding)); }
    std::vector<Finding> take() { return std::move(all_); }

  private:
    std::vector<Finding> all_;
};

std::string rank_count(size_t ranks) { return ranks == 1 ? "1 rank" : fmt::format("{} ranks", ranks); }
std::string core_count(size_t cores) { return cores == 1 ? "1 core" : fmt::format("{} cores", cores); }

void look_at_cores(const std::string& host, const Ranks& ranks, Findings& findings) {
    std::set<int> all;
    for (const RankSurroundings* rank : ranks) all.insert(rank->cores.begin(), rank->cores.end());
    const size_t cores = all.size(), offered = size_t(ranks.front()->machine_cores), count = ranks.size();
    if (cores < count && cores < offered) {
        findings.add("bound-to-few-cores", host,
                     fmt::format("{} may run on {} of {} only ({})", rank_count(count), core_count(cores), offered,
                                 number_list({all.begin(), all.end()})),
                     "they take turns on it, and the other cores idle",
                     "srun --cpu-bind=cores with --cpus-per-task; mpirun --bind-to none; see what `taskset` or the "
                     "shell that starts the job binds to");
    } else if (cores < count) {
        findings.add("more-ranks-than-cores", host, fmt::format("{} on {}", rank_count(count), core_count(cores)),
                     "they take turns, and a rank that waits takes the time of one that works",
                     "fewer ranks on a node (--ntasks-per-node), or more cores (--cpus-per-task)");
    } else if (cores * 2 <= offered && (ranks.front()->ranks > 1 || ranks.front()->launcher.empty()) &&
               std::all_of(ranks.begin(), ranks.end(), [](auto* rank) { return rank->cores.size() == 1; })) {
        findings.add(
            "one-core-each", host,
            fmt::format("{} bound to one core, {} of {} in all",
                        count == 1 ? "the only rank is" : fmt::format("each of {} ranks is", count), cores, offered),
            "the threads of a rank share its core, and the other cores idle",
            "srun --cpus-per-task=N (for the step too), or mpirun --bind-to none");
    }
    const double time = ranks.front()->core_time;
    if (time > 0 && time < double(std::max<size_t>(cores, 1)) * 0.95)
        findings.add("core-time", host,
                     fmt::format("the control group may use the time of {:.3g} cores, and shows {}", time, cores),
                     "ranks with a thread for each core that they see are stopped for most of the time",
                     "a larger CPU limit for the container or job, or --threads to fit");
}

void look_at_memory(const std::string& host, const Ranks& ranks, uint64_t wanted, Findings& findings) {
    uint64_t free = UINT64_MAX;
    for (const RankSurroundings* rank : ranks) free = std::min(free, rank->memory);
    const RankSurroundings& first = *ranks.front();
    const uint64_t count = ranks.size();
    const std::string bound =
        first.memory_limit == UINT64_MAX
            ? "the machine has free"
            : fmt::format("the machine and its control group (limit {}) leave", bytes_text(first.memory_limit));
    constexpr const char* more = "more memory for the job (--mem; --mem=0 is all of a node), or fewer ranks on a node";
    if (wanted > 0 && wanted > free / count)
        findings.add("memory-budget", host,
                     fmt::format("{} with --memory {} need more than the {} that {}", rank_count(count),
                                 bytes_text(wanted), bytes_text(free), bound),
                     "the system ends ranks that take more than there is, without a word",
                     fmt::format("--memory {} at most; {}", bytes_text(free / 2 / count), more));
    else if (wanted == 0 && free / 2 / count < least_budget)
        findings.add("little-memory", host,
                     fmt::format("for {}, {} {}: {} for the tensors of each", rank_count(count), bound,
                                 bytes_text(free), bytes_text(free / 2 / count)),
                     "below 256 MiB a merge reads in small pieces and often, and the program itself takes some too",
                     more);
    // Where no control group holds the job to it, Slurm or a colleague's job may.
    if (const uint64_t given = first.job_memory; given > 0 && given < first.memory_limit && given < free) {
        const uint64_t budget = wanted > 0 ? wanted : free / 2 / count;
        if (budget > given / count)
            findings.add(
                "more-than-asked-for", host,
                fmt::format("Slurm gave the job {} here, no control group holds it to that, and {} of {} take {}",
                            bytes_text(given), wanted > 0 ? "--memory" : "half of what is free", rank_count(count),
                            bytes_text(budget * count)),
                "Slurm may end the job for it, or the memory is another job's",
                fmt::format("--memory {} for each rank (MEMORY in the batch scripts), or {}",
                            bytes_text(given / 10 * 8 / count), more));
    }
}

void look_at_disks(const std::string& host, const Ranks& ranks, const std::string& first_host,
                   const DoctorQuestions& questions, Findings& findings) {
    const DiskSurroundings& temporary = ranks.front()->temporary;
    const std::optional<Finding> no_place = no_place_for_mpi(host, temporary);
    if (no_place) findings.add(no_place->name, host, no_place->what, no_place->why, no_place->remedy);
    for (const RankSurroundings* rank : ranks)
        for (const DiskSurroundings& disk : rank->disks) {
            if (disk.folder == temporary.folder && no_place) continue;
            const std::string folder = printable(disk.folder, 100);
            if (!disk.error.empty())
                findings.add("disk " + folder, host, fmt::format("{} cannot be written: {}", folder, disk.error),
                             "a job that uses it fails, perhaps after hours",
                             "make it, make room, or choose another folder that this node sees");
            else if (!disk.shared && std::count(questions.shared.begin(), questions.shared.end(), disk.folder) > 0)
                findings.add("not-shared " + folder, host,
                             fmt::format("{} is another folder here than on {}", folder, first_host),
                             "all ranks write parts of one result, which is then in pieces on several machines",
                             "a folder on a file system that all nodes see");
            else if (disk.free < questions.room)
                findings.add("room " + folder, host,
                             fmt::format("{} has room for {}, and {} are to be written", folder, bytes_text(disk.free),
                                         bytes_text(questions.room)),
                             "a job that fills it fails at its end", "make room, or choose another folder");
        }
}

void look_at_gpus(const std::string& host, const Ranks& ranks, Findings& findings) {
    std::map<std::string, const GpuSurroundings*> gpus;
    size_t without = 0;
    for (const RankSurroundings* rank : ranks) {
        for (const GpuSurroundings& gpu : rank->gpus) gpus.emplace(gpu.place, &gpu);
        without += rank->gpus.empty();
    }
    if (ranks.front()->gpu_devices && gpus.empty())
        findings.add(
            "unused-gpus", host, "the machine has GPUs, and the program sees none", "it computes on the CPU instead",
            "a build for CUDA (docs/gpu.md), and --gpus-per-node for the job; or --device cpu, if that is meant");
    if (!gpus.empty() && without > 0)
        findings.add("ranks-without-gpu", host, fmt::format("{} of {} see no GPU", without, rank_count(ranks.size())),
                     "they end with an error under --device cuda, or hold up the others",
                     "--gpus-per-node with as many as ranks on a node; CUDA_VISIBLE_DEVICES not set by hand");
    if (!gpus.empty() && ranks.size() > gpus.size())
        findings.add("shared-gpus", host,
                     fmt::format("{} share {}", rank_count(ranks.size()),
                                 gpus.size() == 1 ? "1 GPU" : fmt::format("{} GPUs", gpus.size())),
                     "each has a part of its memory, and NCCL does not connect them", "a rank for each GPU");
    for (const auto& [place, gpu] : gpus)
        if (!gpu->supported)
            findings.add(
                "old-gpu", host, fmt::format("the program has no code for {} ({})", printable(gpu->name, 60), place),
                "the kernels are compiled for compute capability 8.0 and later", "another partition, or --device cpu");
}

void look_at_limits(const std::string& host, const Ranks& ranks, Findings& findings) {
    const RankSurroundings& first = *ranks.front();
    if (ranks.size() > 1 && first.shared_memory < least_shared)
        findings.add("little-shared-memory", host, fmt::format("/dev/shm has {} left", bytes_text(first.shared_memory)),
                     "the ranks of a machine talk through it: MPI ends with a bus error, or does not start",
                     "remove what former jobs left there; in a container start it with a larger --shm-size");
    if (ranks.front()->ranks > 1 && first.fast_network && first.locked_memory < least_locked)
        findings.add("locked-memory", host,
                     fmt::format("only {} may be locked in memory", bytes_text(first.locked_memory)),
                     "the buffers of the fast network need more: MPI falls back to TCP, or does not start",
                     "ulimit -l unlimited for slurmd (PropagateResourceLimitsExcept=MEMLOCK): the administrators");
    if (first.open_files < least_files)
        findings.add("open-files", host, fmt::format("a rank may open {} files only", first.open_files),
                     "each file of each model is opened, and connections to other ranks count too",
                     "ulimit -Hn 65536 before the job");
}

}  // namespace

std::vector<Finding> find_problems(const std::vector<RankSurroundings>& ranks, const DoctorQuestions& questions) {
    Findings findings;
    if (ranks.empty()) return {};
    const RankSurroundings& first = ranks.front();
    if (ranks.size() == 1 && first.launcher.empty() && first.job_ranks > 1)
        findings.add(
            {"not-launched",
             {},
             fmt::format("the job has {} tasks, and this is one process that nothing started on them", first.job_ranks),
             "a merge that is started like this runs on one rank of one node, and nothing is known about the "
             "others",
             "srun --mpi=pmix amalgam ..., or mpirun amalgam ..."});
    std::map<std::string, Ranks> hosts;
    std::vector<std::string> order;
    std::set<std::string> versions;
    for (const RankSurroundings& rank : ranks) {
        if (hosts[rank.host].empty()) order.push_back(rank.host);
        hosts[rank.host].push_back(&rank);
        versions.insert(rank.version);
    }
    if (versions.size() > 1)
        findings.add({"versions",
                      {},
                      fmt::format("the ranks run {} versions of the program", versions.size()),
                      "what they say to each other may differ",
                      "the same file on all nodes: AMALGAM as a path on a file system that all see"});
    for (const std::string& host : order) {
        const Ranks& here = hosts[host];
        look_at_cores(host, here, findings);
        look_at_memory(host, here, questions.memory, findings);
        look_at_disks(host, here, first.host, questions, findings);
        look_at_gpus(host, here, findings);
        look_at_limits(host, here, findings);
    }
    return findings.take();
}

std::optional<Finding> unconnected(const Launch& launch, const Environment& environment) {
    if (launch.launcher != "srun" || launch.size == 1) return std::nullopt;
    for (const char* name : {"PMIX_RANK", "PMI_RANK", "PMI_FD", "PMI_CONTROL_PORT", "PALS_RANKID"})
        if (environment(name)) return std::nullopt;
    return Finding{"no-pmi",
                   {},
                   fmt::format("srun started {} tasks and offers them no PMI", launch.size),
                   "they do not find each other: each takes itself for rank 0 of 1 and would do the whole work, or "
                   "MPI ends it",
                   by_pmi};
}

std::string doubtful_launch(const Launch& launch, const Environment& environment) {
    if (launch.launcher != "srun" || launch.size == 1 || environment("PMIX_RANK") || !environment("PMI_FD")) return "";
    return fmt::format("srun offers PMI, but not PMIx; if MPI now ends the ranks, it was built without it: {}", by_pmi);
}

std::optional<Finding> no_place_for_mpi(const std::string& host, const DiskSurroundings& temporary) {
    if (temporary.error.empty() && temporary.free >= least_temporary) return std::nullopt;
    const std::string folder = printable(temporary.folder, 100);
    return Finding{"temporary-folder",
                   {host},
                   temporary.error.empty()
                       ? fmt::format("{} is full ({} left)", folder, bytes_text(temporary.free))
                       : fmt::format("{} cannot be used: {}", folder, printable(temporary.error, 100)),
                   "MPI keeps its files there and does not start, with messages about something else",
                   "make room there, or set TMPDIR to a folder on the node's own disk"};
}

Finding unusable_mpi(const std::string& text) {
    return {"mpi", {}, text, "each process would do the whole work, so none does", by_pmi};
}

}  // namespace amalgam
