#include "src/search/ranking.h"

#include <algorithm>
#include <cmath>

namespace amalgam {

Key key_of(const Outcome& outcome) {
    if (!outcome.valid || outcome.missing) return {};
    const bool finite = std::all_of(outcome.objectives.begin(), outcome.objectives.end(),
                                    [](double objective) { return std::isfinite(objective); });
    return finite ? outcome.objectives : Key{};
}

bool better(const Key& a, const Key& b) {
    if (a.empty() || b.empty()) return b.empty() && !a.empty();
    return std::lexicographical_compare(b.begin(), b.end(), a.begin(), a.end());
}

Ranking rank(const std::vector<Key>& keys, const std::vector<bool>& missing,
             const std::vector<std::vector<double>>& points) {
    Ranking ranking;
    for (size_t i = 0; i < keys.size(); ++i)
        if (!missing[i]) ranking.order.push_back(int64_t(i));
    std::stable_sort(ranking.order.begin(), ranking.order.end(), [&](int64_t a, int64_t b) {
        const auto i = size_t(a), j = size_t(b);
        if (better(keys[i], keys[j])) return true;
        if (better(keys[j], keys[i])) return false;
        return points[i] < points[j];
    });
    for (size_t place = 0; place < ranking.order.size(); ++place) {
        const bool new_block =
            place > 0 && better(keys[size_t(ranking.order[place - 1])], keys[size_t(ranking.order[place])]);
        ranking.blocks.push_back(place == 0 ? 0 : ranking.blocks.back() + new_block);
    }
    return ranking;
}

std::vector<double> average_ties(const std::vector<double>& weights, const std::vector<int64_t>& blocks) {
    std::vector<double> averaged(weights.size());
    for (size_t first = 0; first < blocks.size();) {
        size_t end = first;
        double sum = 0;
        while (end < blocks.size() && blocks[end] == blocks[first]) sum += weights[end++];
        // A block of one keeps its bits.
        std::fill(averaged.begin() + int64_t(first), averaged.begin() + int64_t(end), sum / double(end - first));
        first = end;
    }
    return averaged;
}

}  // namespace amalgam
