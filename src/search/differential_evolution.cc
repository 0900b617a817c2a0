// Differential evolution, rand/1/bin (Storn and Price 1997).
#include <algorithm>

#include "src/search/population_optimiser.h"

namespace amalgam {
namespace {

class DifferentialEvolution : public PopulationOptimiser {
  public:
    DifferentialEvolution(std::vector<Gene> genes, const OptimiserSettings& settings)
        : PopulationOptimiser("de", std::move(genes), settings, population_of(genes.size()), 4) {}

    std::vector<double> mean() const override {
        std::vector<double> sum(genes().size(), 0);
        for (const Member& member : members_)
            for (size_t i = 0; i < sum.size(); ++i) sum[i] += member.values[i];
        if (members_.empty()) return {};
        for (size_t i = 0; i < sum.size(); ++i) sum[i] = fit_gene(genes()[i], sum[i] / double(members_.size()));
        return sum;
    }

  protected:
    std::vector<double> child(int64_t k) const override {
        const Draws random = draws();
        const auto count = int64_t(members_.size());
        // Three others, each another.
        std::vector<int64_t> chosen{k};
        for (int64_t place = 0; place < 3; ++place) {
            int64_t pick = random.index(Draw::parent, k, place, count - int64_t(chosen.size()));
            std::vector<int64_t> sorted = chosen;
            std::sort(sorted.begin(), sorted.end());
            for (int64_t taken : sorted) pick += pick >= taken;
            chosen.push_back(pick);
        }
        const auto value = [&](size_t which, size_t i) { return members_[size_t(chosen[which])].values[i]; };
        std::vector<double> values = members_[size_t(k)].values;
        const int64_t forced = random.index(Draw::crossover, k, gene_count(), gene_count());
        for (size_t i = 0; i < values.size(); ++i) {
            const auto place = int64_t(i);
            if (place != forced && random.uniform(Draw::crossover, k, place) >= settings().crossover) continue;
            const double origin = value(1, i),
                         moved = origin + settings().differential_weight * (value(2, i) - value(3, i));
            const Gene& gene = genes()[i];
            // Beyond a bound: somewhere between it and where the step began.
            const double share = random.uniform(Draw::mutation, k, place);
            values[i] = moved < gene.low    ? gene.low + share * (origin - gene.low)
                        : moved > gene.high ? gene.high - share * (gene.high - origin)
                                            : moved;
        }
        return values;
    }

    void learn(const std::vector<Candidate>& candidates, const std::vector<Key>& keys,
               const std::vector<bool>& missing) override {
        if (int64_t(members_.size()) < population()) {
            members_.clear();
            for (size_t i = 0; i < candidates.size(); ++i) members_.push_back({candidates[i].raw, keys[i]});
            return;
        }
        for (size_t i = 0; i < candidates.size(); ++i)
            if (!missing[i] && !better(members_[i].key, keys[i])) members_[i] = {candidates[i].raw, keys[i]};
    }

  private:
    static int64_t population_of(size_t genes) { return std::clamp<int64_t>(5 * int64_t(genes), 20, 100); }
};

}  // namespace

std::unique_ptr<Optimiser> make_differential_evolution(std::vector<Gene> genes, const OptimiserSettings& settings) {
    return std::make_unique<DifferentialEvolution>(std::move(genes), settings);
}

}  // namespace amalgam
