// amalgam doctor: what a job offers, and what would go wrong in it.
#include <cstdlib>
#include <optional>
#include <set>

#include "jobs/commands.h"
#include "jobs/on_ranks.h"
#include "jobs/table.h"
#include "src/base/bytes.h"
#include "src/base/log.h"
#include "src/run/findings.h"
#include "src/run/surroundings.h"

namespace amalgam {
namespace {

constexpr Option options[] = {
    {"disk", "FOLDER",
     "a folder that will be read or written: how much room it has and how fast it is; repeatable [TMPDIR or /tmp]",
     true},
    {"memory", "BYTES", "budget that each rank will be given; says if the ranks of a node do not have that much"},
    {"room", "BYTES", "what will be written to each --disk; says if it does not fit [1GiB]"},
    {"probe", "BYTES", "how much to write and read again for a disk's speed; 0: nothing [64MiB]"},
};
constexpr std::string_view description =
    "Looks at each rank: cores, memory, disks, MPI, GPUs, the launcher and Slurm. Prints what there is, and under "
    "\"problems\" what would go wrong and what to do about it. Exit code 0: no problems, 1: some.";
constexpr std::string_view examples =
    "amalgam doctor\n"
    "mpirun -n 4 amalgam doctor --disk /scratch\n"
    "srun --mpi=pmix amalgam doctor --disk /scratch --disk /local --memory 16GiB";

void print_report(const std::vector<RankSurroundings>& ranks, const std::vector<Finding>& findings) {
    std::string text;
    Table table("llrrll");
    table.add({"rank", "node", "cores", "memory", "GPU", "launcher"});
    for (const RankSurroundings& rank : ranks)
        table.add({fmt::format("{}", rank.rank), printable(rank.host, 40),
                   fmt::format("{} of {}", rank.cores.size(), rank.machine_cores), bytes_text(rank.memory),
                   rank.gpus > 0 ? plural(rank.gpus, "GPU") : "-", rank.launcher.empty() ? "-" : rank.launcher});
    text += table.text("  ");
    Table disks("llrrr");
    disks.add({"disk", "node", "free", "writes", "reads"});
    std::set<std::pair<std::string, std::string>> shown;
    for (const RankSurroundings& rank : ranks)
        for (const DiskSurroundings& disk : rank.disks)
            if (shown.insert({rank.host, disk.folder}).second)
                disks.add({printable(disk.folder, 60), printable(rank.host, 40), bytes_text(disk.free),
                           disk.write_rate > 0 ? bytes_text(uint64_t(disk.write_rate)) + "/s" : "-",
                           disk.read_rate > 0 ? bytes_text(uint64_t(disk.read_rate)) + "/s" : "-"});
    text += "\n" + disks.text("  ");
    for (const auto& [name, value] : ranks.front().facts)
        text += fmt::format("  {}: {}\n", name, printable(value, 200));
    if (findings.empty()) text += "\nno problems\n";
    for (const Finding& finding : findings)
        text += fmt::format("\nproblem: {}\n  what to do: {}\n", finding.what, finding.remedy);
    print_out(text);
}

int run(const Arguments& arguments) {
    DoctorQuestions questions;
    questions.disks = arguments.texts("disk");
    if (questions.disks.empty()) questions.disks.push_back(temporary_folder());
    questions.memory = arguments.bytes("memory", 0);
    questions.room = arguments.bytes("room", uint64_t(1) << 30);
    questions.probe = arguments.bytes("probe", uint64_t(64) << 20);
    const auto environment = [](const char* name) -> std::optional<std::string> {
        const char* value = std::getenv(name);
        return value ? std::optional<std::string>(value) : std::nullopt;
    };
    const auto lonely = unconnected(find_launch(), environment);
    if (lonely) {
        const auto alone = self_communicator();
        const std::vector<RankSurroundings> here = {look_around(*alone, nullptr, questions)};
        std::vector<Finding> findings = find_problems(here, questions);
        findings.insert(findings.begin(), *lonely);
        if (here.front().rank == 0) print_report(here, findings);
        return 1;
    }
    return run_on_ranks([&](Session& session) {
        Communicator& world = session.world();
        const std::vector<std::string> packed =
            world.gather(pack_surroundings(look_around(world, &session, questions)), 0);
        uint64_t problems = 0;
        if (world.rank() == 0) {
            std::vector<RankSurroundings> ranks;
            for (const std::string& text : packed) ranks.push_back(unpack_surroundings(text));
            const std::vector<Finding> findings = find_problems(ranks, questions);
            print_report(ranks, findings);
            problems = findings.size();
        }
        return world.all_reduce_max(problems) > 0 ? 1 : 0;
    });
}

}  // namespace

const Command doctor_command = {
    "doctor", "Say what a node and a job offer, and what would go wrong", description, {}, options, examples, true,
    run};

}  // namespace amalgam
