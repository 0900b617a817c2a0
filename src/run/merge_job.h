// A whole merge, from recipe to published folder, on all ranks.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "src/comm/communicator.h"
#include "src/device/device.h"

namespace amalgam {

/// How input bytes reach the processor.
enum class ReadMode { automatic, mmap, direct };

struct MergeOptions {
    std::string recipe, out;
    std::vector<std::string> set;  ///< overrides of the recipe
    uint64_t memory = 0;  ///< budget of a rank in bytes; 0: half of what is free, divided by the ranks of the node
    int threads = 0;      ///< of a rank; 0: the cores it may use, divided by the ranks of the node
    ReadMode read = ReadMode::automatic;
    uint64_t shard_size = 5'000'000'000;
    int model_groups = 0;  ///< groups of ranks that read different models; 0: as many as the recipe names, else 1
    DeviceKind device = DeviceKind::automatic;
    int64_t block = 0;  ///< elements of a work block; 0: chosen from the caches
    bool force = false;
    bool allow_unknown = false;
    bool skip_on_mismatch = false;
    bool take_integers = false;
    bool fail_on_nonfinite = false;
    bool quiet = false;             ///< no progress
    std::string report;             ///< JSON file; "": none
    std::string command;            ///< for the model card; "": of the recipe beside the weights, with command_options
    std::string command_options;    ///< " --shard-size 1GB": what decides the output beside the recipe
    std::string version, compiler;  ///< of the program, for the report
    std::function<bool()> stop;     ///< whether to end early; once true, always true
};

enum class MergeEnd { finished, stopped };

/// Collective. `stopped` if any rank was asked to stop in time: nothing is published, and the same call goes on later. Every rank throws the same AgreedError for what is wrong with recipe, inputs or output; an Error that is not
/// agreed means the others must be ended (Session::abort).
MergeEnd run_merge(Communicator& world, const MergeOptions& options);

}  // namespace amalgam
