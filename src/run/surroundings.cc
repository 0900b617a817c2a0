#include "src/run/surroundings.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "src/base/bytes.h"
#include "src/base/error.h"
#include "src/comm/nccl.h"
#include "src/device/device.h"
#include "src/run/cgroup.h"
#include "src/run/descriptor.h"
#include "src/run/resources.h"

namespace amalgam {
namespace {

constexpr double most_probe_seconds = 5;  ///< of a slow disk, each way
constexpr uint64_t least_probe = 4096;    ///< less says nothing about speed

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

/// The file systems of clusters, by the numbers that statfs() gives.
std::string kind_of(const std::string& folder) {
    struct statfs status {};
    if (::statfs(folder.c_str(), &status) != 0) return "";
    switch (uint32_t(status.f_type)) {
        case 0x01021994: return "tmpfs";
        case 0x6969: return "nfs";
        case 0x0bd00bd0: return "lustre";
        case 0x47504653: return "gpfs";
        case 0x19830326: return "beegfs";
        case 0x00c36400: return "ceph";
        case 0xff534d42: return "cifs";
        case 0x65735546: return "fuse";
        case 0x58465342: return "xfs";
        case 0xef53: return "ext4";
        case 0x9123683e: return "btrfs";
        case 0x2fc12fc1: return "zfs";
        case 0x794c7630: return "overlay";
        default: return "";
    }
}

/// Writes a file, waits until it is on the disk, and reads it again without the page cache. It has lost its name before, so that
/// nothing is left whatever happens.
void measure(DiskSurroundings& disk, const std::string& path, uint64_t bytes) {
    std::vector<char> buffer(size_t(1) << 20, 'x');
    const Descriptor file(::open(path.c_str(), O_CREAT | O_RDWR | O_EXCL | O_CLOEXEC, 0600));
    if (!file) {
        disk.error = errno_text(errno);
        return;
    }
    ::unlink(path.c_str());
    auto start = Clock::now();
    uint64_t written = 0;
    while (written < bytes && disk.error.empty() && seconds_since(start) < most_probe_seconds) {
        const ssize_t count = ::write(file.number(), buffer.data(), std::min<uint64_t>(buffer.size(), bytes - written));
        if (count <= 0) disk.error = errno_text(count < 0 ? errno : ENOSPC);
        written += uint64_t(std::max<ssize_t>(count, 0));
    }
    if (::fsync(file.number()) != 0 && disk.error.empty()) disk.error = errno_text(errno);
    if (!disk.error.empty() || written < least_probe) return;
    disk.write_rate = double(written) / seconds_since(start);
    ::posix_fadvise(file.number(), 0, 0, POSIX_FADV_DONTNEED);
    start = Clock::now();
    uint64_t read = 0;
    while (read < written && seconds_since(start) < most_probe_seconds) {
        const ssize_t count = ::pread(file.number(), buffer.data(), buffer.size(), off_t(read));
        if (count <= 0) break;
        read += uint64_t(count);
    }
    disk.read_rate = double(read) / seconds_since(start);
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
    disk.kind = kind_of(folder);
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

uint64_t limit_of(int resource, rlim_t rlimit::*kind) {
    rlimit limit{};
    if (::getrlimit(__rlimit_resource(resource), &limit) != 0) return 0;
    return limit.*kind == RLIM_INFINITY ? UINT64_MAX : uint64_t(limit.*kind);
}

std::string pmi_flavour() {
    if (!variable("PMIX_RANK").empty()) {
        const std::string version = variable("PMIX_VERSION");
        return version.empty() ? "PMIx" : "PMIx " + version;
    }
    if (!variable("PMI_RANK").empty() || !variable("PMI_FD").empty()) {
        const std::string type = variable("SLURM_MPI_TYPE");
        return type.empty() ? "PMI" : "PMI (" + type + ")";
    }
    return "none";
}

void add_facts(RankSurroundings& here) {
    here.facts.emplace_back("MPI", Session::library());
    std::string transports;
    for (const char* name :
         {"OMPI_MCA_pml", "OMPI_MCA_btl", "OMPI_MCA_mtl", "UCX_TLS", "UCX_NET_DEVICES", "FI_PROVIDER"})
        if (const std::string value = variable(name); !value.empty())
            transports += fmt::format("{}{}={}", transports.empty() ? "" : " ", name, value);
    here.facts.emplace_back("transports", transports.empty() ? "chosen by MPI" : transports);
    here.facts.emplace_back("PMI", pmi_flavour());
    here.facts.emplace_back("NCCL", nccl_available() ? "built in" : "not built in");
    here.facts.emplace_back("memory limit",
                            here.cgroup == 0 ? "no control group"
                            : here.memory_limit == UINT64_MAX
                                ? fmt::format("none (cgroup v{})", here.cgroup)
                                : fmt::format("{} (cgroup v{})", bytes_text(here.memory_limit), here.cgroup));
    for (const char* name : {"SLURM_JOB_ID", "SLURM_JOB_PARTITION", "SLURM_JOB_NUM_NODES", "SLURM_JOB_NODELIST",
                             "SLURM_NTASKS", "SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU",
                             "SLURM_RESTART_COUNT", "CUDA_VISIBLE_DEVICES"})
        if (const std::string value = variable(name); !value.empty()) here.facts.emplace_back(name, value);
}

/// What Slurm gave the job of this machine, whether or not anything holds it to that.
uint64_t memory_of_job() {
    const auto mebibytes = [](const char* name) { return number_behind("x " + variable(name), "x") << 20; };
    if (const uint64_t node = mebibytes("SLURM_MEM_PER_NODE")) return node;
    return mebibytes("SLURM_MEM_PER_CPU") * uint64_t(std::max(0, std::atoi(variable("SLURM_CPUS_ON_NODE").c_str())));
}

/// Whether the nodes see a file that rank 0 makes.
void look_for_shared(Communicator& world, const std::vector<std::string>& folders,
                     std::vector<DiskSurroundings>& disks) {
    std::string name;
    if (world.rank() == 0)
        name = fmt::format(".amalgam-doctor-{}-{}-{}", host_name(), ::getpid(),
                           std::chrono::system_clock::now().time_since_epoch().count());
    world.broadcast(name, 0);
    const auto path = [&](const std::string& folder) { return folder + "/" + name; };
    if (world.rank() == 0)
        for (const std::string& folder : folders)
            Descriptor(::open(path(folder).c_str(), O_CREAT | O_WRONLY | O_EXCL | O_CLOEXEC, 0600));
    world.barrier();
    for (DiskSurroundings& disk : disks)
        disk.shared = Descriptor(::open(path(disk.folder).c_str(), O_RDONLY | O_CLOEXEC)).number() >= 0;
    world.barrier();
    if (world.rank() == 0)
        for (const std::string& folder : folders) ::unlink(path(folder).c_str());
}

using Json = nlohmann::json;

Json disk_json(const DiskSurroundings& disk) {
    return {disk.folder, disk.error, disk.kind, disk.free, disk.write_rate, disk.read_rate, disk.shared};
}

DiskSurroundings disk_of(const Json& json) {
    return {json.at(0), json.at(1), json.at(2), json.at(3), json.at(4), json.at(5), json.at(6)};
}

Json gpu_json(const GpuSurroundings& gpu) { return {gpu.name, gpu.place, gpu.memory, gpu.supported}; }

GpuSurroundings gpu_of(const Json& json) { return {json.at(0), json.at(1), json.at(2), json.at(3)}; }

/// The numbers and texts, in one place for both ways.
template <class Surroundings, class Visit>
void visit_fields(Surroundings& here, const Visit& visit) {
    visit("rank", here.rank), visit("ranks", here.ranks), visit("job_ranks", here.job_ranks), visit("host", here.host);
    visit("launcher", here.launcher), visit("version", here.version), visit("cores", here.cores);
    visit("machine_cores", here.machine_cores), visit("core_time", here.core_time), visit("memory", here.memory);
    visit("cgroup", here.cgroup), visit("memory_limit", here.memory_limit), visit("job_memory", here.job_memory);
    visit("shared_memory", here.shared_memory), visit("locked_memory", here.locked_memory);
    visit("open_files", here.open_files), visit("gpu_devices", here.gpu_devices);
    visit("fast_network", here.fast_network), visit("facts", here.facts);
}

}  // namespace

std::string temporary_folder() {
    const std::string folder = variable("TMPDIR");
    return folder.empty() ? "/tmp" : folder;
}

DiskSurroundings look_at_temporary() { return look_at_disk(temporary_folder(), 0); }

std::string host_name() {
    if (std::string node = variable("SLURMD_NODENAME"); !node.empty()) return node;
    char name[256] = "";
    ::gethostname(name, sizeof name - 1);
    return name;
}

RankSurroundings look_around(Communicator& world, const DoctorQuestions& questions) {
    const Launch launch = find_launch();
    RankSurroundings here;
    here.rank = world.size() > 1 ? world.rank() : launch.rank;
    here.ranks = world.size();
    here.job_ranks = std::max(1, std::atoi(variable("SLURM_NTASKS").c_str()));
    here.host = host_name();
    here.launcher = launch.launcher;
    here.version = AMALGAM_VERSION;
    here.cores = own_cores();
    here.machine_cores = std::max(1, int(::sysconf(_SC_NPROCESSORS_ONLN)));
    // Not more than the job was given, though the machine may have more.
    if (const int given = std::atoi(variable("SLURM_CPUS_ON_NODE").c_str()); given > 0)
        here.machine_cores = std::min(here.machine_cores, given);
    here.core_time = cgroup_cores(system_text);
    const CgroupMemory group = cgroup_memory(system_text);
    here.memory = std::min(machine_memory(), group.free);
    here.cgroup = group.version;
    here.memory_limit = group.limit;
    here.job_memory = memory_of_job();
    here.shared_memory = free_bytes("/dev/shm");
    here.locked_memory = limit_of(RLIMIT_MEMLOCK, &rlimit::rlim_cur);
    here.open_files = limit_of(RLIMIT_NOFILE, &rlimit::rlim_max);  // to which a merge raises it
    for (CudaDeviceFacts& gpu : cuda_devices())
        here.gpus.push_back({std::move(gpu.name), std::move(gpu.place), gpu.memory, gpu.supported});
    here.gpu_devices = ::access("/dev/nvidia0", F_OK) == 0;
    here.fast_network = ::access("/dev/infiniband", F_OK) == 0;
    here.temporary = look_at_temporary();
    if (world.node_rank() == 0)
        for (const std::string& folder : questions.disks) here.disks.push_back(look_at_disk(folder, questions.probe));
    look_for_shared(world, questions.disks, here.disks);
    add_facts(here);
    return here;
}

std::string pack_surroundings(const RankSurroundings& here) {
    Json json;
    visit_fields(here, [&](const char* name, const auto& value) { json[name] = value; });
    json["temporary"] = disk_json(here.temporary);
    json["disks"] = json["gpus"] = Json::array();
    for (const DiskSurroundings& disk : here.disks) json["disks"].push_back(disk_json(disk));
    for (const GpuSurroundings& gpu : here.gpus) json["gpus"].push_back(gpu_json(gpu));
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

RankSurroundings unpack_surroundings(const std::string& text) {
    const Json json = Json::parse(text);
    RankSurroundings there;
    visit_fields(there, [&](const char* name, auto& value) { json.at(name).get_to(value); });
    there.temporary = disk_of(json.at("temporary"));
    for (const Json& disk : json.at("disks")) there.disks.push_back(disk_of(disk));
    for (const Json& gpu : json.at("gpus")) there.gpus.push_back(gpu_of(gpu));
    return there;
}

}  // namespace amalgam
