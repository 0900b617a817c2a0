// Whole-number genes of CMA-ES: a margin of probability on the neighbours of the mean's value.
#pragma once
#include <cstdint>
#include <vector>

#include "src/search/cma_model.h"
#include "src/search/optimiser.h"

namespace amalgam {

/// Points are rounded after each whole gene's step was stretched by its factor; the update sees the steps as drawn.
class Margin {
  public:
    /// `units`: what a coordinate of 1 means for a gene.
    Margin(const std::vector<Gene>& genes, Vector units);

    bool has_whole_genes() const { return !whole_.empty(); }
    void reset();
    /// Factor on gene i's step.
    double stretch(int64_t i) const { return stretch_[size_t(i)]; }
    /// After an update: keeps every neighbour's probability at or above `share`.
    void correct(CmaModel& model, double share);
    void exchange(OptimiserState& state);

  private:
    void correct_gene(CmaModel& model, int64_t i, double share);

    const std::vector<Gene>& genes_;
    Vector units_, stretch_;
    std::vector<int64_t> whole_;
};

}  // namespace amalgam
