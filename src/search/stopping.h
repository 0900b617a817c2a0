// When a run of CMA-ES has nothing more to find.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "src/search/cma_model.h"
#include "src/search/ranking.h"

namespace amalgam {

class StopRules {
  public:
    /// Where `patient`, no progress is no reason: learning rates that adapt to noise are slow where it is strong.
    StopRules(int64_t genes, int64_t population, bool patient);

    /// Keys of a generation, best first, without failed ones; at least one.
    void record(const std::vector<Key>& sorted);

    /// "" or why the run ends. `start_sigma`: sigma of the run's first generation.
    std::string reason(const CmaModel& model, double start_sigma) const;

    void exchange(OptimiserState& state, int64_t objectives);

  private:
    bool flat() const;
    bool stagnated() const;

    int64_t flat_window_, window_;
    bool patient_;
    std::vector<Key> best_, median_;  ///< of the last generations of the longer window, oldest first
    Key worst_;                       ///< of the last generation
};

}  // namespace amalgam
