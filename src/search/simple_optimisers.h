// Baselines that every search is compared with: random points, a grid, a greedy soup.
#pragma once
#include "src/search/optimiser_base.h"

namespace amalgam {

std::unique_ptr<Optimiser> make_random(std::vector<Gene> genes, const OptimiserSettings& settings);
std::unique_ptr<Optimiser> make_grid(std::vector<Gene> genes, const OptimiserSettings& settings);
std::unique_ptr<Optimiser> make_greedy_soup(std::vector<Gene> genes, const OptimiserSettings& settings);

}  // namespace amalgam
