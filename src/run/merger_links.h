// Folds whose models lie with several groups: what a merger keeps for them.
#pragma once
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "src/run/merger.h"
#include "src/run/model_groups.h"

namespace amalgam {

/// A window goes through the stages of its task, one every other step: while a stage computes, what the former computed before
/// travels. After the last stage the result goes to the ranks that write it.
struct Merger::Links {
    explicit Links(Merger& merger);

    Merger& merger;
    int group = 0;
    std::vector<Part> own;                        ///< what this rank writes of the row's parts
    std::vector<std::vector<TaskPart>> by_group;  ///< the same of every rank of the row, by task
    uint64_t memory = 0;                          ///< the least of the row: all cut the same windows
    int threads = 1;

    struct Item {
        Span span;
        std::vector<ChainStage> stages;
        std::vector<int> writers;  ///< groups
        size_t step = 0;           ///< of its first stage
        size_t step_of(size_t stage) const { return step + 2 * stage; }
        size_t arrival() const { return step_of(stages.size()); }
    };
    using Buffer = std::shared_ptr<void>;  // of the device
    std::map<std::pair<size_t, size_t>, Buffer>
        buffers;                                     ///< (item, stage that reads it, or the number of stages: writers)
    std::vector<std::pair<uint64_t, Buffer>> spare;  ///< by size, for later items
    std::vector<uint64_t> counted;  ///< by item: a block with something to count is not journaled (see Merger::apply)
    std::vector<std::pair<size_t, FinishedBlock>> written;  ///< by item

    /// A block is finished if all that write a part of it found theirs.
    void share_finished();
    /// Collective over the row, with the same spans.
    void apply(const std::vector<Span>& spans);

  private:
    std::vector<Item> cut(const std::vector<Span>& spans) const;
    bool writes(const Item& item) const;
    uint64_t bytes_for(const Item& item, size_t stage) const;
    Buffer& buffer(const Item& item, size_t index, size_t stage);
    void retire(const std::vector<Item>& items, const std::vector<size_t>& alive, size_t step);
    void start(const std::vector<Item>& items, const std::vector<size_t>& alive, size_t step);
    void compute(const std::vector<Item>& items, const std::vector<size_t>& alive, size_t step);
    void run_stage(const Item& item, size_t index, size_t stage, Scratch& scratch);
    void write_item(const Item& item, size_t index, Scratch& scratch);
};

}  // namespace amalgam
