// What a search does with its evaluations.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "src/search/search.h"

namespace amalgam {

/// The averages of so many of the best candidates are contenders.
constexpr size_t averaged[] = {5, 10, 20};

/// Of so many evaluations those that are left for the distribution's mean and for averages of the best candidates, of which
/// there are many more.
int64_t count_means(const SearchConfig& config, const Optimiser& optimiser, int64_t budget);

/// Throws Error if spaces or the optimiser cannot work as they are set; returns what to warn of: evaluations of which the
/// optimiser never learns.
std::vector<std::string> check_budget(const SearchInputs& inputs);

}  // namespace amalgam
