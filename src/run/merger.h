// Carries out one rank's part of a merge.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "src/base/thread_pool.h"
#include "src/comm/communicator.h"
#include "src/comm/transport.h"
#include "src/device/device.h"
#include "src/plan/plan.h"
#include "src/plan/price.h"
#include "src/recipe/resolve.h"
#include "src/run/held_inputs.h"
#include "src/run/input_files.h"
#include "src/run/journal.h"
#include "src/run/model_trim.h"
#include "src/run/output_sink.h"
#include "src/run/tensor_work.h"

namespace amalgam {

/// Elements of a result that are not what the arithmetic gave, or no numbers.
struct OutputCounts {
    int64_t saturated = 0;  ///< cut to the largest number of an 8-bit dtype
    int64_t nonfinite = 0;
};

/// Of all threads together.
struct ThreadSeconds {
    double read = 0;     ///< in reads past the page cache, by threads that do nothing else
    double wait = 0;     ///< for those
    double compute = 0;  ///< with reading through a mapping: what is touched first is read then
    double write = 0;

    void add(const ThreadSeconds& other);
};

/// What one rank did; summed over ranks for the report.
struct MergeTotals {
    uint64_t bytes_read = 0, bytes_written = 0, bytes_resumed = 0;
    int64_t emptied_inputs = 0;
    int64_t unchanged = 0, folded = 0;  ///< elements equal to the base, and all that were compared
    double statistics_seconds = 0, fold_seconds = 0, resume_seconds = 0;
    uint64_t statistics_bytes = 0;  ///< of bytes_read, for statistics
    ThreadSeconds threads;
    bool stopped = false;                                         ///< something was left undone, as asked
    std::map<std::pair<int64_t, int>, int64_t> nonfinite_inputs;  ///< (task, model) -> elements
    std::map<int64_t, OutputCounts> outputs;  ///< task -> what is wrong with its result; else absent
    std::vector<FinishedBlock> digests;       ///< of the blocks this rank reports

    void count_output(int64_t task, const OutputCounts& counts);
};

/// Ranks that hold different models (design 4). The ranks of a row, one of each group in order, own neighbouring shards.
struct ModelAxis {
    Communicator* row = nullptr;      ///< nullptr: every rank reads all models
    std::vector<int> group_of_model;  ///< see model_groups()
    /// Folds pass from group to group as planes; the merger's world is the ranks of one group, its plan the joined one, and
    /// this the plan of all ranks. nullptr: inputs are exchanged within the row instead.
    const ShardPlan* link_plan = nullptr;
};

/// Whether it is counted how many elements of a task's result are the base's.
bool compares_with_base(const MethodInfo& method, const TensorTask& task);

enum class TaskFilter { all, merges, copies };

struct MergerSettings {
    WorkSettings work;
    ModelAxis axis;
    TaskFilter filter = TaskFilter::all;
    uint64_t memory = uint64_t(1) << 30;
    Device* device = nullptr;                ///< must outlive the merger
    int64_t block = block_elements;          ///< elements of a work block on the CPU, a multiple of 256
    std::function<void(uint64_t)> progress;  ///< bytes of input and output done
    std::function<void()> touch;             ///< called for every window of every pass
    std::function<bool()> stop;              ///< whether to end early, with what is journaled; once true, always true
};

class Merger {
  public:
    /// `finished`: what former starts left, read from the journals. All references must outlive the merger. Collective over
    /// the row of the model axis.
    Merger(Communicator& world, const Merge& merge, const OutputLayout& layout, const ShardPlan& plan,
           InputFiles& inputs, OutputSink& outputs, Journal& journal, const JournalContents& finished,
           MergerSettings settings);
    ~Merger();

    /// Collective. Throws Error if this rank cannot go on: the others then wait for it and must be ended.
    MergeTotals run();

  private:
    struct Part {
        TaskPart where;
        std::unique_ptr<TensorWork> work;
        std::vector<bool> finished;  ///< by block from where.first on
        bool has_finished(int64_t block) const { return finished[size_t(block - where.first)]; }
        bool all_finished() const;
        bool untouched() const;
    };
    struct Span {
        Part* part = nullptr;
        int64_t first_block = 0, last_block = 0;
    };
    using Body = std::function<void(Part&, const Window&, Scratch&)>;

    const TensorTask& task(const Part& part) const { return merge_.tasks[size_t(part.where.task)]; }
    void open_axis();
    bool is_local(const TaskInput& input) const;
    void check_inputs(const TensorTask& task);
    void count_unchanged(const TensorTask& what, const FoldCounts& counts, int64_t elements);
    std::vector<Part> make_parts(const ShardPlan& plan, int rank) const;
    int64_t statistics_key(int64_t task) const;
    std::vector<const TaskInput*> inputs_read(const TensorTask& task) const;
    void find_finished(std::vector<Part>& parts);
    void trim_models();
    void settle_shared();
    void run_unit(size_t first, size_t last);
    void make_work_of(Part& part);
    size_t unit_end(size_t first) const;
    void scan_spans(Part& part, std::vector<Span>& spans) const;
    void settle(std::vector<Part*> unsettled);
    void apply(Part& part, const Window& window, Scratch& scratch);
    /// Of inputs [first, last) of the window, the base being number 0 if the task has one.
    void count_nonfinite(const Part& part, const Window& window, Lane& lane, size_t first = 0, size_t last = SIZE_MAX);
    void write(const Part& part, const Window& window, std::span<const std::byte> bytes);
    std::vector<FinishedBlock> digests_of(const Part& part, const Window& window,
                                          std::span<const std::byte> bytes) const;
    void bring(const Part& part, Window& window, Scratch& scratch, bool sparse);
    /// Runs body over all spans, a window at a time, on all threads. `sparse`: through the mapping, whatever the mode.
    void for_windows(const std::vector<Span>& spans, bool sparse, const Body& body);
    void for_mapped(const std::vector<Span>& windows, const Body& body, bool drop, bool sparse);
    void for_direct(std::vector<Span> windows, const Body& body);
    void for_held(const std::vector<Span>& windows, const Body& body);
    uint64_t hold_limit(const Part& part) const;
    bool holds(const std::vector<Part*>& unsettled);
    /// Collective over the row, whatever each rank wants. Returns whether all ranks said that they are done.
    bool for_exchanged(const std::vector<Span>& windows, const Body& body, bool done);
    std::vector<Span> cut(const std::vector<Span>& spans, bool sparse);
    int64_t window_blocks(const Part& part) const;
    int window_threads(uint64_t largest_window) const;
    uint64_t block_bytes(const Part& part) const;
    bool reports(const Part& part, int64_t block) const;
    Window shape_window(const Span& span) const;
    void work_on(const Span& span, Window& window, int thread, bool sparse, const Body& body);
    void drop_inputs(const Window& window);
    bool stops();
    bool stops_before_unit();
    void drop_windows(const std::vector<Span>& windows, size_t first, size_t last);
    bool any_direct(const std::vector<Span>& spans);

    Communicator& world_;
    const Merge& merge_;
    const OutputLayout& layout_;
    const ShardPlan& plan_;
    InputFiles& inputs_;
    OutputSink& outputs_;
    Journal& journal_;
    const JournalContents& finished_;
    MergerSettings settings_;
    ThreadPool pool_;
    std::vector<Scratch> scratch_;
    std::vector<std::unique_ptr<Lane>> lanes_, host_lanes_;  ///< by thread
    std::vector<std::vector<std::byte>> out_buffers_;
    std::vector<Part> parts_;
    std::unique_ptr<Transport> transport_;  ///< within the row
    struct Links;
    std::unique_ptr<Links> links_;
    std::unique_ptr<ModelTrim> trim_;
    HeldInputs held_;
    std::mutex mutex_;
    MergeTotals totals_;
    std::atomic<bool> stopping_{
        false};  ///< never taken back: whoever leaves work out says so at every agreement after it
    std::atomic<uint64_t> bytes_read_{0}, bytes_written_{0}, mapped_since_drop_{0};
    std::atomic<double> read_seconds_{0}, wait_seconds_{0}, work_seconds_{0}, write_seconds_{0};
};

}  // namespace amalgam
