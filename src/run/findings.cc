#include "src/run/findings.h"

#include <algorithm>
#include <map>
#include <set>

#include "src/base/bytes.h"
#include "src/base/error.h"

namespace amalgam {
namespace {

constexpr uint64_t mebibyte = uint64_t(1) << 20;
constexpr uint64_t least_budget = 256 * mebibyte;    ///< below it a merge is slow
constexpr uint64_t least_temporary = 16 * mebibyte;  ///< MPI's files
constexpr uint64_t least_shared = 64 * mebibyte;     ///< MPI's messages within a machine
constexpr uint64_t least_locked = 1024 * mebibyte;   ///< of a fast network's buffers
constexpr uint64_t least_files = 1024;

using Ranks = std::vector<const RankSurroundings*>;

void look_at_cores(const std::string& host, const Ranks& ranks, std::vector<Finding>& findings) {
    std::set<int> all;
    for (const RankSurroundings* rank : ranks) all.insert(rank->cores.begin(), rank->cores.end());
    const int cores = int(all.size()), offered = ranks.front()->machine_cores, count = int(ranks.size());
    if (cores < count && cores < offered) {
        findings.push_back({fmt::format("{}: {} ranks are bound to {} of {} cores and take turns on them", host, count,
                                        cores, offered),
                            "srun --cpu-bind=cores with --cpus-per-task, or mpirun --bind-to none"});
    } else if (cores < count) {
        findings.push_back({fmt::format("{}: {} ranks on {} cores", host, count, cores),
                            "fewer ranks on a node (--ntasks-per-node), or more cores (--cpus-per-task)"});
    } else if (cores * 2 <= offered &&
               std::all_of(ranks.begin(), ranks.end(), [](auto* rank) { return rank->cores.size() == 1; })) {
        findings.push_back({fmt::format("{}: each of {} ranks is bound to one core; {} of {} are not used", host, count,
                                        offered - cores, offered),
                            "srun --cpus-per-task=N, or mpirun --bind-to none"});
    }
}

void look_at_memory(const std::string& host, const Ranks& ranks, uint64_t wanted, std::vector<Finding>& findings) {
    uint64_t free = UINT64_MAX;
    for (const RankSurroundings* rank : ranks) free = std::min(free, rank->memory);
    const uint64_t count = ranks.size();
    if (wanted > 0 && wanted > free / count)
        findings.push_back(
            {fmt::format("{}: {} ranks with {} each need more than the {} that machine and cgroup leave", host, count,
                         bytes_text(wanted), bytes_text(free)),
             fmt::format("--memory {} at most, fewer ranks on a node, or more memory for the job (--mem=0: all)",
                         bytes_text(free / 2 / count))});
    else if (wanted == 0 && free / 2 / count < least_budget)
        findings.push_back({fmt::format("{}: machine and cgroup leave {} for {} ranks, so {} for the tensors of each",
                                        host, bytes_text(free), count, bytes_text(free / 2 / count)),
                            "more memory for the job (--mem=0: all of the node), or fewer ranks on a node"});
}

void look_at_disks(const std::string& host, const Ranks& ranks, uint64_t room, std::vector<Finding>& findings) {
    const DiskSurroundings& temporary = ranks.front()->temporary;
    if (!temporary.error.empty() || temporary.free < least_temporary)
        findings.push_back({fmt::format("{}: {}, where MPI keeps its files, {}", host, printable(temporary.folder, 100),
                                        temporary.free < least_temporary && temporary.error.empty()
                                            ? "is full"
                                            : "cannot be used: " + temporary.error),
                            "make room there, or set TMPDIR to a folder on the node's own disk"});
    for (const RankSurroundings* rank : ranks)
        for (const DiskSurroundings& disk : rank->disks) {
            if (disk.folder == temporary.folder && !temporary.error.empty()) continue;
            if (!disk.error.empty())
                findings.push_back(
                    {fmt::format("{}: {} cannot be written: {}", host, printable(disk.folder, 100), disk.error),
                     "make it, make room, or choose another folder that this node sees"});
            else if (disk.free < room)
                findings.push_back({fmt::format("{}: {} has room for {}, and {} are to be written", host,
                                                printable(disk.folder, 100), bytes_text(disk.free), bytes_text(room)),
                                    "make room, or choose another folder"});
        }
}

void look_at_devices(const std::string& host, const Ranks& ranks, std::vector<Finding>& findings) {
    const RankSurroundings& first = *ranks.front();
    if (first.gpu_devices && first.gpus == 0)
        findings.push_back({fmt::format("{}: there are GPUs, and the program cannot use them", host),
                            "a build for CUDA (docs/gpu.md), and --gpus-per-node for the job"});
    if (first.gpus > 0 && int(ranks.size()) > first.gpus)
        findings.push_back(
            {fmt::format("{}: {} ranks share {} GPUs", host, ranks.size(), first.gpus), "a rank for each GPU"});
    if (first.shared_memory < least_shared)
        findings.push_back({fmt::format("{}: /dev/shm, through which ranks of a machine talk, has {} left", host,
                                        bytes_text(first.shared_memory)),
                            "remove what former jobs left there; in a container start it with a larger --shm-size"});
    if (first.fast_network && first.locked_memory < least_locked)
        findings.push_back(
            {fmt::format("{}: only {} may be locked in memory, and the network's buffers need more", host,
                         bytes_text(first.locked_memory)),
             "ulimit -l unlimited for slurmd (PropagateResourceLimitsExcept=MEMLOCK); ask the administrators"});
    if (first.open_files < least_files)
        findings.push_back(
            {fmt::format("{}: a rank may open {} files only", host, first.open_files), "ulimit -n 65536"});
}

}  // namespace

std::vector<Finding> find_problems(const std::vector<RankSurroundings>& ranks, const DoctorQuestions& questions) {
    std::vector<Finding> findings;
    std::map<std::string, Ranks> hosts;
    std::set<std::string> versions;
    for (const RankSurroundings& rank : ranks) {
        hosts[rank.host].push_back(&rank);
        versions.insert(rank.version);
    }
    if (versions.size() > 1)
        findings.push_back({fmt::format("the ranks run {} versions of the program", versions.size()),
                            "the same file on all nodes: AMALGAM as a path on a file system that all see"});
    for (const auto& [host, here] : hosts) {
        look_at_cores(host, here, findings);
        look_at_memory(host, here, questions.memory, findings);
        look_at_disks(host, here, questions.room, findings);
        look_at_devices(host, here, findings);
    }
    return findings;
}

std::optional<Finding> unconnected(const Launch& launch,
                                   const std::function<std::optional<std::string>(const char* name)>& environment) {
    if (launch.launcher != "srun" || launch.size == 1) return std::nullopt;
    for (const char* name : {"PMIX_RANK", "PMI_RANK", "PMI_FD"})
        if (environment(name)) return std::nullopt;
    return Finding{fmt::format("srun started {} tasks and offers them no PMI: each takes itself for rank 0 of 1 and "
                               "would do the whole work",
                               launch.size),
                   "srun --mpi=pmix (srun --mpi=list shows what there is), or mpirun inside the allocation"};
}

}  // namespace amalgam
