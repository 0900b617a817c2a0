// amalgam doctor: what a job offers, and what would go wrong in it.
#include <csignal>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>

#include "jobs/commands.h"
#include "jobs/json.h"
#include "jobs/on_ranks.h"
#include "jobs/table.h"
#include "src/base/bytes.h"
#include "src/base/log.h"
#include "src/run/cgroup.h"
#include "src/run/findings.h"
#include "src/run/surroundings.h"

namespace amalgam {
namespace {

constexpr Option options[] = {
    {"disk", "FOLDER",
     "a folder that will be read or written: how much room it has, how fast it is, whether all nodes see it; "
     "repeatable "
     "[TMPDIR or /tmp]",
     true},
    {"shared", "FOLDER", "the same of a folder that all nodes have to see, as that of a merge's output; repeatable",
     true},
    {"memory", "BYTES", "budget that each rank will be given; says if the ranks of a node do not have that much"},
    {"room", "BYTES", "what will be written to each --disk; says if it does not fit [1GiB]"},
    {"probe", "BYTES", "how much to write and read again for a disk's speed; 0: nothing [64MiB]"},
    {"json", "", "as JSON, with every rank"},
};
constexpr std::string_view description =
    "Looks at each rank: cores, memory, disks, MPI, GPUs, the launcher and Slurm. Prints what there is, and each "
    "problem: what is wrong, why that matters, and what to do about it. Exit code 0: no problems, 1: some.";
constexpr std::string_view examples =
    "amalgam doctor\n"
    "mpirun -n 4 amalgam doctor --disk /scratch\n"
    "srun --mpi=pmix --kill-on-bad-exit=1 amalgam doctor --shared /scratch --disk /local --memory 16GiB";

using Ranks = std::vector<RankSurroundings>;

std::string rate_text(double rate) { return rate > 0 ? bytes_text(uint64_t(rate)) + "/s" : "-"; }

/// A line for each node.
std::string node_table(const Ranks& ranks) {
    std::map<std::string, std::vector<const RankSurroundings*>> nodes;
    std::vector<std::string> order;
    for (const RankSurroundings& rank : ranks) {
        if (nodes[rank.host].empty()) order.push_back(rank.host);
        nodes[rank.host].push_back(&rank);
    }
    Table table("llllrl");
    table.add({"node", "ranks", "cores", "each rank", "free memory", "GPUs"});
    for (const std::string& host : order) {
        const auto& here = nodes[host];
        std::vector<int> numbers;
        std::set<int> cores;
        std::set<std::vector<int>> sets;
        std::map<std::string, std::string> gpus;
        uint64_t memory = UINT64_MAX;
        for (const RankSurroundings* rank : here) {
            numbers.push_back(rank->rank);
            cores.insert(rank->cores.begin(), rank->cores.end());
            sets.insert(rank->cores);
            for (const GpuSurroundings& gpu : rank->gpus) gpus[gpu.place] = gpu.name;
            memory = std::min(memory, rank->memory);
        }
        const bool same = sets.size() == 1 && here.size() > 1;
        table.add({printable(host, 40), number_list(numbers),
                   fmt::format("{} of {}: {}", cores.size(), here.front()->machine_cores,
                               number_list({cores.begin(), cores.end()})),
                   fmt::format("{}{}", here.front()->cores.size(), same ? " shared" : ""), bytes_text(memory),
                   gpus.empty() ? "-" : fmt::format("{} x {}", gpus.size(), printable(gpus.begin()->second, 40))});
    }
    return table.text("  ");
}

std::string disk_table(const Ranks& ranks) {
    std::set<std::string> hosts;
    for (const RankSurroundings& rank : ranks) hosts.insert(rank.host);
    Table table("lllrrrl");
    table.add({"disk", "node", "kind", "free", "writes", "reads", hosts.size() > 1 ? "shared" : ""});
    for (const RankSurroundings& rank : ranks)
        for (const DiskSurroundings& disk : rank.disks)
            table.add({printable(disk.folder, 60), printable(rank.host, 40), disk.kind.empty() ? "-" : disk.kind,
                       bytes_text(disk.free), rate_text(disk.write_rate), rate_text(disk.read_rate),
                       hosts.size() > 1 ? (disk.shared ? "yes" : "no") : ""});
    return table.text("  ");
}

std::string where(const Finding& finding) {
    if (finding.hosts.empty()) return "";
    const size_t others = finding.hosts.size() - 1;
    return fmt::format("{}{}: ", printable(finding.hosts.front(), 40),
                       others == 0 ? "" : fmt::format(" (and {} like it)", plural(int64_t(others), "node")));
}

void print_text(const Ranks& ranks, const std::vector<Finding>& findings) {
    const RankSurroundings& first = ranks.front();
    std::string text = fmt::format("amalgam {}, {}{}\n\n", first.version, plural(int64_t(ranks.size()), "rank"),
                                   first.launcher.empty() ? "" : ", started by " + first.launcher);
    text += node_table(ranks) + "\n" + disk_table(ranks) + "\n";
    for (const auto& [name, value] : first.facts) text += fmt::format("  {}: {}\n", name, printable(value, 200));
    if (findings.empty()) text += "\nno problems\n";
    for (const Finding& finding : findings)
        text += fmt::format("\nproblem: {}{}\n  why it matters: {}\n  what to do: {}\n", where(finding), finding.what,
                            finding.why, finding.remedy);
    print_out(text);
}

Json disk_json(const DiskSurroundings& disk) {
    return {{"folder", disk.folder},         {"error", disk.error},         {"kind", disk.kind},    {"free", disk.free},
            {"write_rate", disk.write_rate}, {"read_rate", disk.read_rate}, {"shared", disk.shared}};
}

/// UINT64_MAX stands for no limit.
Json limit_json(uint64_t limit) { return limit == UINT64_MAX ? Json(nullptr) : Json(limit); }

Json rank_json(const RankSurroundings& rank) {
    Json json = {{"rank", rank.rank},
                 {"host", rank.host},
                 {"launcher", rank.launcher},
                 {"cores", rank.cores},
                 {"machine_cores", rank.machine_cores},
                 {"core_time", rank.core_time},
                 {"memory", rank.memory},
                 {"cgroup", rank.cgroup},
                 {"memory_limit", limit_json(rank.memory_limit)},
                 {"job_memory", rank.job_memory},
                 {"shared_memory", rank.shared_memory},
                 {"locked_memory", limit_json(rank.locked_memory)},
                 {"open_files", limit_json(rank.open_files)},
                 {"fast_network", rank.fast_network},
                 {"temporary", disk_json(rank.temporary)}};
    json["gpus"] = json["disks"] = Json::array();
    for (const GpuSurroundings& gpu : rank.gpus)
        json["gpus"].push_back(
            {{"name", gpu.name}, {"place", gpu.place}, {"memory", gpu.memory}, {"supported", gpu.supported}});
    for (const DiskSurroundings& disk : rank.disks) json["disks"].push_back(disk_json(disk));
    json["facts"] = Json::object();
    for (const auto& [name, value] : rank.facts) json["facts"][name] = value;
    return json;
}

void print_json(const Ranks& ranks, const std::vector<Finding>& findings) {
    Json json = {{"version", ranks.front().version}, {"ranks", Json::array()}, {"problems", Json::array()}};
    for (const RankSurroundings& rank : ranks) json["ranks"].push_back(rank_json(rank));
    for (const Finding& finding : findings)
        json["problems"].push_back({{"name", finding.name},
                                    {"hosts", finding.hosts},
                                    {"what", finding.what},
                                    {"why", finding.why},
                                    {"what_to_do", finding.remedy}});
    print_out(json_text(json));
}

void print_report(const Arguments& arguments, const Ranks& ranks, const std::vector<Finding>& findings) {
    if (arguments.has("json"))
        print_json(ranks, findings);
    else
        print_text(ranks, findings);
}

std::optional<std::string> variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? std::optional<std::string>(value) : std::nullopt;
}

/// For what keeps MPI from starting: each process is alone then, and one of the job or of each machine speaks. The others end
/// quietly and well, for a launcher ends all as soon as one has not.
int run_alone(const Arguments& arguments, const DoctorQuestions& questions, const Finding& reason, bool speaks) {
    if (!speaks) return 0;
    const auto alone = self_communicator();
    const Ranks here = {look_around(*alone, questions)};
    std::vector<Finding> findings = find_problems(here, questions);
    std::erase_if(findings, [&](const Finding& finding) { return finding.name == reason.name; });
    findings.insert(findings.begin(), reason);
    print_report(arguments, here, findings);
    return 1;
}

int run_together(const Arguments& arguments, const DoctorQuestions& questions, Communicator& world) {
    const std::vector<std::string> packed = world.gather(pack_surroundings(look_around(world, questions)), 0);
    uint64_t problems = 0;
    if (world.rank() == 0) {
        Ranks ranks;
        for (const std::string& text : packed) ranks.push_back(unpack_surroundings(text));
        const std::vector<Finding> findings = find_problems(ranks, questions);
        print_report(arguments, ranks, findings);
        problems = findings.size();
    }
    return world.all_reduce_max(problems) > 0 ? 1 : 0;
}

bool first_of_machine() {
    for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID", "MPI_LOCALRANKID"})
        if (const auto value = variable(name)) return *value == "0";
    return true;
}

int run(const Arguments& arguments) {
    DoctorQuestions questions;
    questions.disks = arguments.texts("disk");
    questions.shared = arguments.texts("shared");
    questions.disks.insert(questions.disks.end(), questions.shared.begin(), questions.shared.end());
    if (questions.disks.empty()) questions.disks.push_back(temporary_folder());
    questions.memory = arguments.bytes("memory", 0);
    questions.room = arguments.bytes("room", uint64_t(1) << 30);
    questions.probe = arguments.bytes("probe", uint64_t(64) << 20);
    // A limit of file sizes is then an error of the disk.
    std::signal(SIGXFSZ, SIG_IGN);

    const Launch launch = find_launch();
    if (const auto reason = unconnected(launch, variable))
        return run_alone(arguments, questions, *reason, launch.rank == 0);
    if (launch.parallel)
        if (const auto reason = no_place_for_mpi(host_name(), look_at_temporary()))
            return run_alone(arguments, questions, *reason, first_of_machine());
    if (const std::string doubt = doubtful_launch(launch, variable); !doubt.empty() && launch.rank == 0)
        log_warning("{}", doubt);

    try {
        return run_on_ranks([&](Session& session) { return run_together(arguments, questions, session.world()); });
    } catch (const UsageError&) {
        throw;
    } catch (const Error& error) {  // of the session: what a rank does ends in an exit code
        return run_alone(arguments, questions, unusable_mpi(error.what()), launch.rank == 0);
    }
}

}  // namespace

const Command doctor_command = {
    "doctor", "Say what a node and a job offer, and what would go wrong", description, {}, options, examples, true,
    run};

}  // namespace amalgam
