// How one method makes one output tensor: statistics in rounds, then a fold.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/fold_kind.h"
#include "kernels/fold_pass.h"
#include "kernels/tree_sum.h"
#include "src/comm/communicator.h"
#include "src/recipe/resolve.h"
#include "src/run/key_scan.h"
#include "src/run/window.h"

namespace amalgam {

/// What a merge tells every tensor's work.
struct WorkSettings {
    const MethodInfo* method = nullptr;
    const Merge* merge = nullptr;  ///< for the names of models in messages; may be nullptr
    Compat compat = Compat::mergekit;
    uint64_t seed = 0;
    int threads = 1;
    int64_t sample_keys = 65536;  ///< of one selection; a smaller sample costs passes, never the result
    int64_t sample_piece = 64;    ///< consecutive elements of a sample; longer where every piece is a read from a disk
    std::vector<bool> here;       ///< by model: whether this rank reads it; empty: all
    bool is_here(const TaskInput& input) const { return here.empty() || here[size_t(input.model)]; }
};

/// The inputs of a task that this rank reads, in recipe order: those that windows hold.
std::vector<const TaskInput*> inputs_here(const TensorTask& task, const WorkSettings& settings);

/// A fold whose models are spread over ranks: what one of them does.
struct FoldLink {
    size_t first_input = 0, last_input = SIZE_MAX;  ///< of the window's inputs
    const void* planes_in = nullptr;  ///< in the lane's memory, plane after plane of the window's elements
    void* planes_out = nullptr;       ///< nullptr: finishes
};

/// Whether a method's merges are folds of models one after the other, once statistics of each model alone are known.
bool folds_in_links(const MethodInfo& method);

/// The rounds: while (!settled()) { begin_round(); scan() each window of own blocks it wants; exchange() if the tensor is
/// shared; end_round(); } then apply() in any order. scan() and apply() may be called by several threads at once.
class TensorWork {
  public:
    virtual ~TensorWork() = default;

    virtual bool settled() const { return true; }
    virtual void begin_round() {}
    /// Whether the round looks at blocks [first, last) of the tensor.
    virtual bool wants(int64_t /*first*/, int64_t /*last*/) const { return true; }
    /// Whether the round wants the blocks this rank computes too, not just those it owns.
    virtual bool wants_computed_blocks() const { return false; }
    /// A round that touches little of the data: read it through the mapping, whatever the way of reading.
    virtual bool sparse_round() const { return false; }
    virtual void scan(const Window& /*window*/, Scratch& /*scratch*/) {}
    /// Sums what the ranks of a shared tensor found. Collective over `ranks`.
    virtual void exchange(Communicator& /*ranks*/) {}
    virtual void end_round() {}

    /// Windows must hold the whole rows of their elements.
    virtual bool whole_rows() const { return false; }
    /// Whether windows must lie in the host's memory, whatever the device.
    virtual bool on_host() const { return false; }
    /// Computes the window's elements into `out`, in the lane's memory.
    virtual FoldCounts apply(const Window& window, Scratch& scratch, std::byte* out) const = 0;
    /// The same for a part of the inputs. Only if folds_in_links(); link_kind() tells the number of planes.
    virtual FoldCounts apply_link(const Window& window, Scratch& scratch, std::byte* out, const FoldLink& link) const;
    virtual FoldKind link_kind() const;

    /// Thresholds of task vectors that the rounds would find, of KeyKind::distance; whoever knows them gives them instead.
    virtual std::vector<KeyOrder> wanted_thresholds() const { return {}; }
    virtual void take_wanted(const std::vector<Threshold>& /*thresholds*/) {}

    /// Settled statistics as bytes, so that a resumed merge need not gather them again; "" if there are none worth it.
    virtual std::string save() const { return ""; }
    virtual void load(const std::string& /*bytes*/) {}

    /// Task vectors of which nothing is kept: int(density x n) is 0.
    virtual int emptied_inputs() const { return 0; }
    /// Memory that one window of `elements` takes from a thread beyond inputs and output.
    virtual int64_t scratch_bytes(int64_t /*elements*/) const { return 0; }
};

/// Thresholds over the whole model (compat = "paper"), gathered before any tensor is folded.
class ModelTrim;

/// The work of one task. `trim` may be nullptr; it must outlive the work. Throws Error for what the method cannot do.
std::unique_ptr<TensorWork> make_work(const TensorTask& task, const WorkSettings& settings, const ModelTrim* trim);

/// Value of a field of a method for a task, or `otherwise` if the method has no such field.
double global_field(const MethodInfo& method, const TensorTask& task, std::string_view name, double otherwise);
double model_field(const MethodInfo& method, const TaskInput& input, std::string_view name, double otherwise);

/// Sums that a pass gave by block of a window.
inline void add_by_block(TreeSum& sums, const Window& window, const std::vector<double>& values) {
    const auto each = int64_t(values.size()) / window.blocks();
    for (int64_t block = 0; block < window.blocks(); ++block)
        sums.add(window.first_block() + block, {values.begin() + block * each, values.begin() + (block + 1) * each});
}

inline void add_counts(FoldCounts& total, const FoldCounts& part) {
    total.nonfinite_input |= part.nonfinite_input;
    total.nonfinite_output += part.nonfinite_output;
    total.saturated += part.saturated;
    total.unchanged += part.unchanged;
}

}  // namespace amalgam
