#include "src/search/pareto.h"

#include <algorithm>
#include <limits>

#include "src/base/error.h"

namespace amalgam {

bool dominates(const Key& a, const Key& b) {
    if (a.empty() || b.empty()) return b.empty() && !a.empty();
    bool somewhere = false;
    for (size_t i = 0; i < a.size(); ++i) {
        if (a[i] < b[i]) return false;
        somewhere |= a[i] > b[i];
    }
    return somewhere;
}

std::vector<int64_t> fronts_of(const std::vector<Key>& keys) {
    const size_t count = keys.size();
    std::vector<std::vector<size_t>> below(count);
    std::vector<int64_t> above(count), fronts(count);
    for (size_t i = 0; i < count; ++i)
        for (size_t j = 0; j < count; ++j)
            if (dominates(keys[i], keys[j])) {
                below[i].push_back(j);
                ++above[j];
            }
    std::vector<size_t> front;
    for (size_t i = 0; i < count; ++i)
        if (above[i] == 0) front.push_back(i);
    for (int64_t number = 0; !front.empty(); ++number) {
        std::vector<size_t> next;
        for (size_t i : front) {
            fronts[i] = number;
            for (size_t j : below[i])
                if (--above[j] == 0) next.push_back(j);
        }
        front = std::move(next);
    }
    return fronts;
}

std::vector<double> crowding_of(const std::vector<Key>& keys, const std::vector<int64_t>& fronts) {
    std::vector<double> crowding(keys.size(), 0);
    const int64_t last = keys.empty() ? -1 : *std::max_element(fronts.begin(), fronts.end());
    std::vector<std::vector<size_t>> members(static_cast<size_t>(last + 1));
    for (size_t i = 0; i < keys.size(); ++i) members[size_t(fronts[i])].push_back(i);
    for (std::vector<size_t>& front : members) {
        const size_t objectives = keys[front[0]].size();
        for (size_t objective = 0; objective < objectives; ++objective) {
            const auto value = [&](size_t i) { return keys[i][objective]; };
            std::stable_sort(front.begin(), front.end(), [&](size_t a, size_t b) { return value(a) < value(b); });
            const double range = value(front.back()) - value(front.front());
            crowding[front.front()] = crowding[front.back()] = std::numeric_limits<double>::infinity();
            if (!(range > 0)) continue;
            for (size_t k = 1; k + 1 < front.size(); ++k)
                crowding[front[k]] += (value(front[k + 1]) - value(front[k - 1])) / range;
        }
    }
    return crowding;
}

double hypervolume(std::vector<Key> points, const Key& reference) {
    check(reference.size() == 2, "a hypervolume of {} objectives: only that of two is known", reference.size());
    std::sort(points.begin(), points.end(), better);
    double area = 0, height = reference[1];
    for (const Key& point : points) {
        if (point.size() != 2 || point[0] <= reference[0] || point[1] <= height) continue;
        area += (point[0] - reference[0]) * (point[1] - height);
        height = point[1];
    }
    return area;
}

}  // namespace amalgam
