// What a merge costs each rank, and how long that takes on a given machine: from headers alone. Pure.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/method_info.h"
#include "src/checkpoint/layout.h"
#include "src/plan/tensor_task.h"

namespace amalgam {

/// Upper bounds, not measurements: a selection may settle without its counting pass, a cached file need not be read.
struct RankPrice {
    int64_t tensors = 0;      ///< it has a part of
    int64_t shared = 0;       ///< of these, with other ranks
    int64_t collectives = 0;  ///< it joins for statistics
    uint64_t sent = 0;        ///< bytes it gives to them
    uint64_t handed = 0;      ///< bytes it hands to ranks of other groups: planes and results, or inputs
    uint64_t read = 0;        ///< input bytes, each once
    /// Input bytes that come from storage once more: statistics and fold both need them, and they do not fit in memory.
    uint64_t again = 0;
    uint64_t passed = 0;  ///< input bytes that go through the processor, over all passes
    uint64_t written = 0;
    uint64_t memory = 0;  ///< tensor data held at a time
    double products = 0;  ///< multiplications and additions of Gram matrices

    void add(const RankPrice& other);
};

struct Price {
    std::vector<RankPrice> ranks;
    RankPrice total;            ///< sums, but for `memory`: the most of any rank
    double imbalance = 1;       ///< most bytes read and written by a rank over the mean
    uint64_t least_memory = 0;  ///< budget below which a rank cannot work
    bool looks_first = false;   ///< some tensors need statistics before they are folded
    bool links = false;         ///< several groups hand planes on, not inputs
    /// Input bytes that the disks of a node must hold if each node reads from its own: the most of any group.
    uint64_t held = 0;
};

/// Of a rank's budget: what tensors that are folded together may take, with what is written of them. Inputs of no more than
/// that are read once, though statistics come first; so are those of the tensors that ranks share, which all wait till then.
constexpr uint64_t unit_memory(uint64_t budget) { return budget / 4; }
/// What tensors that ranks share may take beside it.
constexpr uint64_t shared_memory(uint64_t budget) { return budget / 16; }

struct PriceOptions {
    int ranks = 1;        ///< at least 1
    uint64_t memory = 0;  ///< budget of a rank in bytes; 0: no limit
    bool paper = false;   ///< compat = "paper"
    int groups = 1;       ///< of ranks, that read different models; divides the ranks
    /// By model the group that reads it, -1: every group. Only used, and then complete, with several groups.
    std::vector<int> group_of_model = {};
};

/// Numbers per element that a fold of this method hands from group to group; 0: it exchanges its inputs instead.
int link_planes(const MethodInfo& method);

/// `tasks` and `layout` belong together. Linear in tensors and in ranks.
Price price_merge(std::span<const TensorTask> tasks, const OutputLayout& layout, const MethodInfo& method,
                  const PriceOptions& options);

/// A cluster in a few numbers, all per second; 0: not known, its stage takes no time.
struct Machine {
    std::string name;
    int ranks_per_node = 1;
    double read = 0, write = 0;              ///< bytes, of a node from and to storage
    double total_read = 0, total_write = 0;  ///< bytes, of the file system for all nodes together
    double memory = 0;                       ///< bytes, of a node
    double arithmetic = 0;                   ///< double-precision operations, of a node
    double network = 0;                      ///< bytes, of a node
    double latency = 0;                      ///< seconds, of a collective
    bool local = false;                      ///< `read` is from disks of the node's own
};

/// Seconds of the slowest node at each stage.
struct StageTimes {
    int nodes = 1;
    double read = 0, write = 0, memory = 0, arithmetic = 0, network = 0;
    double whole = 0;        ///< of the longest: stages overlap
    const char* bound = "";  ///< its name; "" if nothing takes time
    /// Not a stage: to bring the models that a node reads to its own disks over the network, if they are not there.
    double fetch = 0;
};

StageTimes stage_times(const Price& price, const Machine& machine);

}  // namespace amalgam
