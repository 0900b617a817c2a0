// Thresholds over a whole model at once: the authors' trim (compat = "paper").
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "src/run/key_scan.h"
#include "src/run/tensor_work.h"

namespace amalgam {

/// Counts over all merged tensors of every model; everything equal to a threshold is kept. Used like a KeyScan, with the
/// windows of all tasks.
class ModelTrim {
  public:
    /// Only tasks of TaskKind::merge count.
    ModelTrim(const Merge& merge, const WorkSettings& settings);

    bool done() const;
    void begin_round();
    void scan(int64_t task, const Window& window, Scratch& scratch);
    /// Collective over all ranks.
    void exchange(Communicator& ranks);
    void end_round();

    /// For the trim of one input of a task: magnitudes kept are in [low, high).
    struct Band {
        uint64_t low = 0, high = ~uint64_t(0);
    };
    Band band(const TaskInput& input) const;
    int emptied() const;

    std::string save() const;
    void load(const std::string& bytes);

  private:
    struct Order {
        int position = 0;
        bool top = false;  ///< the upper end of a band
        int64_t elements = 0, k = 0;
    };
    void sample(int64_t task, const Window& window, Scratch& scratch);
    void take_thresholds();

    WorkSettings settings_;
    bool wide_ = false;
    std::vector<Order> orders_;
    std::vector<ThresholdSearch> searches_;
    bool sampling_ = true, loaded_ = false;
    int64_t stride_ = 1;                          ///< one block in so many is sampled from
    std::vector<int64_t> first_sample_;           ///< by task: place of its sample in that of each order
    std::vector<std::vector<uint64_t>> samples_;  ///< by order
    struct Totals {
        std::vector<KeyCounts> counts;
        std::vector<std::vector<uint64_t>> bins;
    };
    std::vector<Totals> by_thread_;
    std::vector<uint64_t> thresholds_;  ///< by order, once done
};

}  // namespace amalgam
