// Order of candidates by what became of them.
#pragma once
#include <cstdint>
#include <vector>

#include "src/search/optimiser.h"

namespace amalgam {

/// Objectives of one candidate; empty for one that failed.
using Key = std::vector<double>;

/// Of an outcome: empty if it is not valid, or an objective is not finite.
Key key_of(const Outcome& outcome);

/// Whether `a` is better: valid before failed, then the first objective that differs.
bool better(const Key& a, const Key& b);

struct Ranking {
    std::vector<int64_t> order;   ///< places of those that are not missing, best first
    std::vector<int64_t> blocks;  ///< for each place in `order` the number of its block of equal keys, from 0
};

/// Equal candidates stand in the order of their points, so that the order of arrival decides nothing.
Ranking rank(const std::vector<Key>& keys, const std::vector<bool>& missing,
             const std::vector<std::vector<double>>& points);

/// The mean of the weights of its block for each place.
std::vector<double> average_ties(const std::vector<double>& weights, const std::vector<int64_t>& blocks);

}  // namespace amalgam
