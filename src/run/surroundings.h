// What a rank finds around it, before any work: for `amalgam doctor`.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/comm/communicator.h"
#include "src/comm/session.h"

namespace amalgam {

struct DoctorQuestions {
    std::vector<std::string> disks;   ///< folders that will be used
    std::vector<std::string> shared;  ///< those of them that all nodes have to see
    uint64_t memory = 0;              ///< budget that each rank will be given; 0: not known
    uint64_t room = 0;                ///< bytes that will be written to each disk
    uint64_t probe = 0;               ///< bytes to write and read again for a disk's speed
};

struct DiskSurroundings {
    std::string folder;
    std::string error;  ///< why it cannot be used; "": it can
    std::string kind;   ///< of file system: "nfs", "lustre", "tmpfs", ...; "" if it is none of those
    uint64_t free = 0;  ///< bytes
    double write_rate = 0,
           read_rate = 0;  ///< bytes a second, past the page cache where the file system allows it; 0: not measured
    bool shared = false;   ///< a file that rank 0 made there is to be seen here
};

struct GpuSurroundings {
    std::string name, place;
    uint64_t memory = 0;
    bool supported = false;
};

struct RankSurroundings {
    int rank = 0, ranks = 1;
    int job_ranks = 1;  ///< that Slurm was asked for, for all of the job
    std::string host;   ///< under Slurm the node's name
    std::string launcher, version;
    std::vector<int> cores;              ///< that it may run on
    int machine_cores = 1;               ///< that the job has on this machine, as far as known
    double core_time = 0;                ///< cores whose time the control group may use; 0: no limit
    uint64_t memory = 0;                 ///< free, of machine and control group
    int cgroup = 0;                      ///< version of the control group that may limit memory; 0: none
    uint64_t memory_limit = UINT64_MAX;  ///< of the control group; UINT64_MAX: none
    uint64_t job_memory = 0;             ///< that Slurm gave the job on this machine; 0: all, or not known
    uint64_t shared_memory = 0;          ///< free in /dev/shm
    uint64_t locked_memory = 0;          ///< that it may lock
    uint64_t open_files = 0;             ///< that it may open
    std::vector<GpuSurroundings> gpus;   ///< that the program sees
    bool gpu_devices = false;            ///< the machine has some
    bool fast_network = false;           ///< a card that needs locked memory
    DiskSurroundings temporary;          ///< where MPI keeps its files
    std::vector<DiskSurroundings> disks;
    std::vector<std::pair<std::string, std::string>> facts;  ///< MPI, NCCL, PMI, Slurm: name and value
};

/// TMPDIR of the environment, or /tmp.
std::string temporary_folder();
/// Whether it can be written; a few bytes are.
DiskSurroundings look_at_temporary();
/// Under Slurm the node's name.
std::string host_name();
/// Writes and removes a file on each disk; of the ranks of a machine, the first one does. Collective.
RankSurroundings look_around(Communicator& world, const DoctorQuestions& questions);

std::string pack_surroundings(const RankSurroundings& surroundings);
/// Throws if the text is not of this version of the program.
RankSurroundings unpack_surroundings(const std::string& text);

}  // namespace amalgam
