// A guess at the best genome, from a smooth model of the objective over the candidates so far.
#pragma once
#include <vector>

#include "src/search/optimiser.h"

namespace amalgam {

struct ScoredGenome {
    std::vector<double> genome;
    double objective = 0;
};

/// The largest expected value of a GaussianProcess over `recent` candidates, looked for around `mean` and
/// around the best of them, no farther than they typically lie apart. Distances are in units of the genes' sigma. Empty as
/// long as there are too few. Injected into CMA-ES (Hansen, Injecting external solutions into CMA-ES, 2011), a bad guess is one
/// candidate among many, and teaches the model.
std::vector<double> surrogate_guess(const std::vector<Gene>& genes, std::vector<ScoredGenome> recent,
                                    const std::vector<double>& mean);

/// So many of the latest candidates are worth giving to surrogate_guess.
constexpr size_t surrogate_memory = 150;

}  // namespace amalgam
