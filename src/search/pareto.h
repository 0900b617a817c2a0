// Fronts of points with several objectives, all maximised.
#pragma once
#include <cstdint>
#include <vector>

#include "src/search/ranking.h"

namespace amalgam {

/// Whether `a` is nowhere worse than `b` and somewhere better; every key dominates one that failed.
bool dominates(const Key& a, const Key& b);

/// For each key its front: 0 for those that none dominates, 1 for those that only front 0 dominates, and so on.
std::vector<int64_t> fronts_of(const std::vector<Key>& keys);

/// Crowding distance of each key within its front (Deb et al. 2002); infinite at the ends.
std::vector<double> crowding_of(const std::vector<Key>& keys, const std::vector<int64_t>& fronts);

/// Area that points of two objectives dominate above `reference`.
double hypervolume(std::vector<Key> points, const Key& reference);

}  // namespace amalgam
