#include "src/run/surroundings.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "src/base/error.h"
#include "src/comm/nccl.h"
#include "src/device/device.h"
#include "src/run/descriptor.h"
#include "src/run/resources.h"

namespace amalgam {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

uint64_t free_bytes(const std::string& folder) {
    struct statvfs status {};
    return ::statvfs(folder.c_str(), &status) == 0 ? uint64_t(status.f_bavail) * status.f_frsize : 0;
}

/// Writes a file, waits until it is on the disk, and reads it again without the page cache.
void measure(DiskSurroundings& disk, const std::string& path, uint64_t bytes) {
    std::vector<char> buffer(size_t(1) << 20, 'x');
    const int file = ::open(path.c_str(), O_CREAT | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) {
        disk.error = errno_text(errno);
        return;
    }
    auto start = Clock::now();
    uint64_t done = 0;
    while (done < bytes && disk.error.empty()) {
        const ssize_t count = ::write(file, buffer.data(), std::min<uint64_t>(buffer.size(), bytes - done));
        if (count <= 0) disk.error = errno_text(errno);
        done += uint64_t(std::max<ssize_t>(count, 0));
    }
    if (::fsync(file) != 0 && disk.error.empty()) disk.error = errno_text(errno);
    if (disk.error.empty() && bytes > 1) {
        disk.write_rate = double(bytes) / seconds_since(start);
        ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
        start = Clock::now();
        for (done = 0; done < bytes;) {
            const ssize_t count = ::pread(file, buffer.data(), buffer.size(), off_t(done));
            if (count <= 0) break;
            done += uint64_t(count);
        }
        disk.read_rate = double(done) / seconds_since(start);
    }
    ::close(file);
    ::unlink(path.c_str());
}

DiskSurroundings look_at_disk(const std::string& folder, uint64_t probe) {
    DiskSurroundings disk;
    disk.folder = folder;
    std::error_code error;
    if (!std::filesystem::is_directory(folder, error)) {
        disk.error = error ? error.message() : "there is no such folder";
        return disk;
    }
    disk.free = free_bytes(folder);
    // A byte, if nothing is to be measured or there is no room: can it be written at all?
    const uint64_t bytes = probe < disk.free / 2 ? std::max<uint64_t>(probe, 1) : 1;
    measure(disk, fmt::format("{}/.amalgam-doctor-{}-{}", folder, variable("SLURM_NODEID"), ::getpid()), bytes);
    return disk;
}

std::vector<int> own_cores() {
    cpu_set_t set;
    CPU_ZERO(&set);
    std::vector<int> cores;
    if (::sched_getaffinity(0, sizeof set, &set) != 0) return cores;
    for (int core = 0; core < CPU_SETSIZE; ++core)
        if (CPU_ISSET(core, &set)) cores.push_back(core);
    return cores;
}

uint64_t limit_of(int resource) {
    rlimit limit{};
    if (::getrlimit(__rlimit_resource(resource), &limit) != 0) return 0;
    return limit.rlim_max == RLIM_INFINITY ? UINT64_MAX : uint64_t(limit.rlim_max);
}

std::string host_name() {
    if (std::string node = variable("SLURMD_NODENAME"); !node.empty()) return node;
    char name[256] = "";
    ::gethostname(name, sizeof name - 1);
    return name;
}

void add_facts(RankSurroundings& here, const Session* session) {
    if (session) here.facts.emplace_back("MPI", session->library());
    std::string transports;
    for (const char* name :
         {"OMPI_MCA_pml", "OMPI_MCA_btl", "OMPI_MCA_mtl", "UCX_TLS", "UCX_NET_DEVICES", "FI_PROVIDER"})
        if (const std::string value = variable(name); !value.empty())
            transports += fmt::format("{}{}={}", transports.empty() ? "" : " ", name, value);
    here.facts.emplace_back("transports", transports.empty() ? "chosen by MPI" : transports);
    here.facts.emplace_back("PMI", !variable("PMIX_RANK").empty()  ? "PMIx"
                                   : !variable("PMI_RANK").empty() ? "PMI"
                                                                   : "none");
    here.facts.emplace_back("NCCL", nccl_available() ? "built in" : "not built in");
    for (const char* name :
         {"SLURM_JOB_ID", "SLURM_JOB_PARTITION", "SLURM_JOB_NUM_NODES", "SLURM_JOB_NODELIST", "SLURM_NTASKS",
          "SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_RESTART_COUNT"})
        if (const std::string value = variable(name); !value.empty()) here.facts.emplace_back(name, value);
}

using Json = nlohmann::json;

Json disk_json(const DiskSurroundings& disk) {
    return {disk.folder, disk.error, disk.free, disk.write_rate, disk.read_rate};
}

DiskSurroundings disk_of(const Json& json) { return {json[0], json[1], json[2], json[3], json[4]}; }

}  // namespace

std::string temporary_folder() {
    const std::string folder = variable("TMPDIR");
    return folder.empty() ? "/tmp" : folder;
}

RankSurroundings look_around(Communicator& world, const Session* session, const DoctorQuestions& questions) {
    const Launch launch = find_launch();
    RankSurroundings here;
    here.rank = session ? world.rank() : launch.rank;
    here.ranks = world.size();
    here.host = host_name();
    here.launcher = launch.launcher;
    here.version = AMALGAM_VERSION;
    here.cores = own_cores();
    here.machine_cores = std::max(1, int(::sysconf(_SC_NPROCESSORS_ONLN)));
    // Not more than the job was given, though the machine may have more.
    if (const int given = std::atoi(variable("SLURM_CPUS_ON_NODE").c_str()); given > 0)
        here.machine_cores = std::min(here.machine_cores, given);
    here.memory = free_memory();
    here.shared_memory = free_bytes("/dev/shm");
    here.locked_memory = limit_of(RLIMIT_MEMLOCK);
    here.open_files = limit_of(RLIMIT_NOFILE);
    here.gpus = cuda_device_count();
    here.gpu_devices = ::access("/dev/nvidia0", F_OK) == 0;
    here.fast_network = ::access("/dev/infiniband", F_OK) == 0;
    here.temporary = look_at_disk(temporary_folder(), 0);
    if (world.node_rank() == 0)
        for (const std::string& folder : questions.disks) here.disks.push_back(look_at_disk(folder, questions.probe));
    add_facts(here, session);
    return here;
}

std::string pack_surroundings(const RankSurroundings& here) {
    Json disks = Json::array();
    for (const DiskSurroundings& disk : here.disks) disks.push_back(disk_json(disk));
    return Json{{"rank", here.rank},
                {"ranks", here.ranks},
                {"host", here.host},
                {"launcher", here.launcher},
                {"version", here.version},
                {"cores", here.cores},
                {"machine_cores", here.machine_cores},
                {"memory", here.memory},
                {"shared_memory", here.shared_memory},
                {"locked_memory", here.locked_memory},
                {"open_files", here.open_files},
                {"gpus", here.gpus},
                {"gpu_devices", here.gpu_devices},
                {"fast_network", here.fast_network},
                {"temporary", disk_json(here.temporary)},
                {"disks", std::move(disks)},
                {"facts", here.facts}}
        .dump(-1, ' ', false, Json::error_handler_t::replace);
}

RankSurroundings unpack_surroundings(const std::string& text) {
    const Json json = Json::parse(text);
    RankSurroundings there;
    const auto get = [&](const char* name, auto& value) { json.at(name).get_to(value); };
    get("rank", there.rank), get("ranks", there.ranks), get("host", there.host), get("launcher", there.launcher);
    get("version", there.version), get("cores", there.cores), get("machine_cores", there.machine_cores);
    get("memory", there.memory), get("shared_memory", there.shared_memory), get("locked_memory", there.locked_memory);
    get("open_files", there.open_files), get("gpus", there.gpus), get("gpu_devices", there.gpu_devices);
    get("fast_network", there.fast_network), get("facts", there.facts);
    there.temporary = disk_of(json.at("temporary"));
    for (const Json& disk : json.at("disks")) there.disks.push_back(disk_of(disk));
    return there;
}

}  // namespace amalgam
