// A merge that is never written: its tensors are folded in memory, when a decoder asks for them.
#pragma once
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "src/base/thread_pool.h"
#include "src/checkpoint/output_config.h"
#include "src/device/device.h"
#include "src/evaluate/weights.h"
#include "src/recipe/resolve.h"
#include "src/run/input_files.h"
#include "src/run/model_trim.h"
#include "src/run/tensor_work.h"

namespace amalgam {

/// Files whose answers are remembered, so that the recipes of many candidates read the headers of their models once.
std::unique_ptr<Files> remembering_files(Files& source);

/// What a merge writes as config.json, and what to tell the user about it.
OutputConfig merged_config(const Merge& merge);

/// What candidates share: threads, and what they work with.
class CandidateMaker {
  public:
    /// `memory`: bytes that the windows of a fold may take; folded tensors come on top. The pool outlives it.
    CandidateMaker(ThreadPool& pool, uint64_t memory);
    ~CandidateMaker();

    ThreadPool& pool() { return pool_; }

  private:
    friend class Candidate;
    using Body = std::function<void(const Window&, Scratch&)>;
    /// Windows of a tensor, on all threads; on thread `thread` of a loop that runs already, if that is not negative.
    void for_windows(const TensorTask& task, const TensorWork& work, InputFiles& inputs, int thread, const Body& body);
    std::vector<Window> cut(const TensorTask& task, const TensorWork& work) const;
    std::vector<std::byte> fold(const TensorTask& task, TensorWork& work, InputFiles& inputs, int thread);

    ThreadPool& pool_;
    uint64_t memory_;
    std::unique_ptr<Device> device_;
    std::vector<std::unique_ptr<Lane>> lanes_;
    std::vector<Scratch> scratch_;
};

/// One candidate.
class Candidate {
  public:
    /// Both outlive the candidate and its readers.
    Candidate(CandidateMaker& maker, const Merge& merge);
    ~Candidate();

    /// Bytes of all tensors together.
    uint64_t bytes() const;
    /// Folds every tensor now; they stay in memory. Else each is folded when it is read, every time.
    void fold_all();
    /// Its tensors. Throws Error for one that is not there or has another shape.
    std::unique_ptr<TensorReader> reader();
    /// Bytes of an output tensor in its dtype: those that a merge writes.
    std::vector<std::byte> tensor(const std::string& name);

  private:
    class Reader;
    const TensorTask& task(const std::string& name) const;
    std::vector<std::byte> fold(const TensorTask& task, int thread);

    CandidateMaker& maker_;
    const Merge& merge_;
    WorkSettings settings_;
    InputFiles inputs_;
    std::unique_ptr<ModelTrim> trim_;
    std::map<std::string, size_t> places_;  ///< of tasks
    std::map<std::string, std::vector<std::byte>> folded_;
};

}  // namespace amalgam
