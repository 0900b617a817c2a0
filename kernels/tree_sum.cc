#include "kernels/tree_sum.h"

#include <cstring>
#include <stdexcept>

namespace amalgam {

void TreeSum::add(int64_t block, std::vector<double> terms) { insert(0, block, std::move(terms)); }

void TreeSum::insert(int level, int64_t index, std::vector<double> sums) {
    while ((int64_t(1) << level) < blocks_) {
        int64_t sibling = index ^ 1;
        bool sibling_exists = (sibling << level) < blocks_;
        if (sibling_exists) {
            auto other = held_.find({level, sibling});
            if (other == held_.end()) break;
            // Left plus right, whichever came first.
            if (index & 1) std::swap(sums, other->second);
            for (int64_t i = 0; i < width_; ++i) sums[size_t(i)] += other->second[size_t(i)];
            held_.erase(other);
        }
        index >>= 1;
        ++level;
    }
    held_.emplace(std::pair{level, index}, std::move(sums));
}

std::string TreeSum::partials() const {
    std::string bytes;
    for (const auto& [place, sums] : held_) {
        int64_t head[2] = {place.first, place.second};
        bytes.append(reinterpret_cast<const char*>(head), sizeof head);
        bytes.append(reinterpret_cast<const char*>(sums.data()), sums.size() * sizeof(double));
    }
    return bytes;
}

void TreeSum::merge(const std::string& partials) {
    const size_t record = 2 * sizeof(int64_t) + size_t(width_) * sizeof(double);
    if (partials.size() % record) throw std::logic_error("partial sums of another width");
    for (size_t at = 0; at < partials.size(); at += record) {
        int64_t head[2];
        std::memcpy(head, partials.data() + at, sizeof head);
        std::vector<double> sums(static_cast<size_t>(width_));
        std::memcpy(sums.data(), partials.data() + at + sizeof head, sums.size() * sizeof(double));
        insert(int(head[0]), head[1], std::move(sums));
    }
}

const std::vector<double>& TreeSum::total() const {
    if (held_.size() != 1 || (int64_t(1) << held_.begin()->first.first) < blocks_)
        throw std::logic_error("not every block is in the sum");
    return held_.begin()->second;
}

}  // namespace amalgam
