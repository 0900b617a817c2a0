// Folds tensors of merges that are never written, one candidate after the other over the same models.
#pragma once
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "src/base/thread_pool.h"
#include "src/device/device.h"
#include "src/recipe/resolve.h"
#include "src/run/input_files.h"
#include "src/run/magnitude_orders.h"
#include "src/run/tensor_work.h"

namespace amalgam {

/// Bytes of an output tensor in its dtype.
using TensorBytes = std::shared_ptr<const std::vector<std::byte>>;

/// What candidates share: open models, threads, and what was learnt of the models: the order of magnitudes of task vectors,
/// and tensors that no recipe changes. Members are called by one thread at a time, unless they say otherwise.
class CandidateMaker {
  public:
    /// `memory`: bytes for windows of folds and for what is learnt; folded tensors come on top. The pool outlives it.
    CandidateMaker(ThreadPool& pool, uint64_t memory);
    ~CandidateMaker();

    using Body = std::function<void(const Window&, Scratch&)>;
    /// All windows of a task, on all threads; on thread `thread` of a loop that runs already, if that is not negative.
    void for_windows(const Merge& merge, const TensorTask& task, const TensorWork& work, int thread, const Body& body);
    /// Folds one tensor; likewise. With `thread`, several threads may call.
    TensorBytes fold(const Merge& merge, const TensorTask& task, TensorWork& work, int thread);

    ThreadPool& pool() { return pool_; }
    /// Work that was done, and that was not since its result was known; of this rank.
    struct Counts {
        int64_t folded = 0, known = 0;
        int64_t thresholds_looked_up = 0, thresholds_counted = 0;
        Counts operator-(const Counts& other) const {
            return {folded - other.folded, known - other.known, thresholds_looked_up - other.thresholds_looked_up,
                    thresholds_counted - other.thresholds_counted};
        }
    };
    Counts counts() const;

  private:
    struct Source;

    std::vector<Window> cut(const TensorTask& task, const TensorWork& work) const;
    void place(Window& window, const Merge& merge, const TensorTask& task);
    const InputFile& file(const Merge& merge, const TaskInput& input);
    std::string identity(const Merge& merge, const TaskInput& input) const;
    bool same_in_all(const Merge& merge, const TensorTask& task);
    std::shared_ptr<const MagnitudeOrder> order(const Merge& merge, const TensorTask& task, int input, int thread);
    void look_up_thresholds(const Merge& merge, const TensorTask& task, TensorWork& work, int thread);
    TensorBytes compute(const Merge& merge, const TensorTask& task, TensorWork& work, int thread);

    ThreadPool& pool_;
    uint64_t memory_;
    std::unique_ptr<Device> device_;
    std::vector<std::unique_ptr<Lane>> lanes_;
    std::vector<Scratch> scratch_;

    mutable std::mutex mutex_;  ///< of all below
    std::map<std::string, std::unique_ptr<InputFile>> files_;
    std::map<std::string, std::shared_ptr<const MagnitudeOrder>> orders_;
    std::map<std::string, bool> same_;
    std::map<std::string, TensorBytes> unchanged_;
    uint64_t learnt_bytes_ = 0;
    Counts counts_;
};

}  // namespace amalgam
