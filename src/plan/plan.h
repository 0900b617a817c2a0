// Who does what in a merge. Pure: ranks, sizes and budgets are arguments.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "src/checkpoint/layout.h"
#include "src/plan/tensor_task.h"

namespace amalgam {

/// Statistics and shards count in blocks of this many elements (design 3: the shape of sums).
constexpr int64_t block_elements = 65536;

/// Bytes of a page: a page of an output file has one writer.
constexpr uint64_t page_bytes = 4096;

/// Blocks of an output tensor; the last may be short. A tensor without elements has none.
constexpr int64_t block_count(int64_t elements) { return (elements + block_elements - 1) / block_elements; }

/// A place in the sequence of all blocks of all output tensors.
struct BlockPlace {
    int64_t task = 0;
    int64_t block = 0;
    auto operator<=>(const BlockPlace&) const = default;
};

/// A place in the sequence of all output files.
struct BytePlace {
    int file = 0;
    uint64_t byte = 0;
    auto operator<=>(const BytePlace&) const = default;
};

/// One rank's part of one output tensor.
struct TaskPart {
    int64_t task = 0;
    /// Blocks whose sums and counts this rank contributes to the tensor's statistics. Parts of ranks do not overlap.
    int64_t own_first = 0, own_last = 0;
    /// Blocks this rank computes: those with bytes it writes. A block on a border may be computed by two ranks.
    int64_t first = 0, last = 0;
    /// Bytes of the tensor it writes, counted from the start of the file. Ranks never write to the same page.
    uint64_t write_begin = 0, write_end = 0;
    /// Ranks that join in this tensor, and in its collectives: [first_rank, last_rank).
    int first_rank = 0, last_rank = 0;
    bool shared() const { return last_rank - first_rank > 1; }
};

/// Splits the blocks of all tensors over ranks in contiguous runs of about equal traffic.
class ShardPlan {
  public:
    ShardPlan(std::span<const TensorTask> tasks, const OutputLayout& layout, int ranks);

    /// The plan in which every `group` consecutive ranks of this one are one; `group` divides the ranks.
    ShardPlan joined(int group) const;

    int ranks() const { return ranks_; }
    /// What `rank` does, in output order.
    std::vector<TaskPart> parts(int rank) const;
    /// Bytes that all inputs and the output of a task hold together.
    uint64_t traffic(int64_t task) const { return traffic_[size_t(task)]; }

  private:
    ShardPlan(const ShardPlan&) = default;
    BytePlace byte_of(const BlockPlace& place) const;
    int first_rank(int64_t task) const;
    int last_rank(int64_t task) const;
    TaskPart part(int rank, int64_t task) const;

    std::span<const TensorTask> tasks_;
    const OutputLayout& layout_;
    int ranks_;
    std::vector<uint64_t> traffic_;
    std::vector<BlockPlace> blocks_;  ///< rank r owns blocks [blocks_[r], blocks_[r + 1])
    std::vector<BytePlace> bytes_;    ///< and writes bytes [bytes_[r], bytes_[r + 1])
};

/// Bytes of elements [first, first + count) of an input as it lies in its file.
uint64_t input_bytes(const TaskInput& input, int64_t count);
/// All tensors a task reads: its inputs and the base.
std::vector<const TaskInput*> all_inputs(const TensorTask& task);

}  // namespace amalgam
