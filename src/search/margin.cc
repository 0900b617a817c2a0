#include "src/search/margin.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"
#include "src/search/normal_distribution.h"

namespace amalgam {

Margin::Margin(const std::vector<Gene>& genes, Vector units) : genes_(genes), units_(std::move(units)) {
    for (size_t i = 0; i < genes_.size(); ++i)
        if (genes_[i].kind != Gene::Kind::continuous) whole_.push_back(int64_t(i));
    reset();
}

void Margin::reset() { stretch_.assign(genes_.size(), 1); }

void Margin::correct(CmaModel& model, double share) {
    for (int64_t i : whole_) correct_gene(model, i, share);
}

void Margin::correct_gene(CmaModel& model, int64_t i, double share) {
    const Gene& gene = genes_[size_t(i)];
    const double unit = units_[size_t(i)];
    double& mean = model.mean()[size_t(i)];
    const double plain = model.sigma() * model.deviation(i);
    const double scale = plain * stretch_[size_t(i)];
    const double first = (gene.low + 0.5) / unit, last = (gene.high - 0.5) / unit;
    if (mean <= first || mean > last) {
        // In an outermost value: there is one way out.
        const double threshold = mean <= first ? first : last;
        const double distance = std::abs(mean - threshold);
        if (normal_below(-distance / scale) < share)
            mean = threshold + std::copysign(scale * normal_exceeded_with(share), mean - threshold);
        return;
    }
    const double low = (std::ceil(mean * unit - 0.5) - 0.5) / unit, high = low + 1 / unit;
    double below = normal_below((low - mean) / scale), above = normal_below((mean - high) / scale);
    const double middle = 1 - below - above;
    below = std::max(below, share / 2);
    above = std::max(above, share / 2);
    const double excess = 1 - below - above - middle, total = below + middle + above - 1.5 * share;
    const double new_below = std::clamp(below + excess * (below - share / 2) / total, 1e-10, 0.5 - 1e-10);
    const double new_above = std::clamp(above + excess * (above - share / 2) / total, 1e-10, 0.5 - 1e-10);
    const double reach_low = normal_exceeded_with(new_below), reach_high = normal_exceeded_with(new_above);
    mean = (low * reach_high + high * reach_low) / (reach_low + reach_high);
    stretch_[size_t(i)] = std::clamp((high - low) / (plain * (reach_low + reach_high)), 1e-100, 1e100);
}

void Margin::exchange(OptimiserState& state) {
    state.numbers("stretch", stretch_, int64_t(genes_.size()));
    if (!state.reading()) return;
    check(std::all_of(stretch_.begin(), stretch_.end(), [](double value) { return value >= 1e-100 && value <= 1e100; }),
          "state of an optimiser: a stretch is not a positive number: the state is damaged");
}

}  // namespace amalgam
