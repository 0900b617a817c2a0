// NSGA-II (Deb et al. 2002) with simulated binary crossover and polynomial mutation.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "src/search/pareto.h"
#include "src/search/population_optimiser.h"

namespace amalgam {
namespace {

class Nsga2 : public PopulationOptimiser {
  public:
    Nsga2(std::vector<Gene> genes, const OptimiserSettings& settings)
        : PopulationOptimiser("nsga2", std::move(genes), settings, 40, 4) {}

    std::vector<std::pair<std::string, double>> facts() const override {
        auto facts = PopulationOptimiser::facts();
        const auto fronts = fronts_of(keys());
        facts.emplace_back("front", double(std::count(fronts.begin(), fronts.end(), 0)));
        return facts;
    }

  protected:
    void prepare() override {
        fronts_ = fronts_of(keys());
        crowding_ = crowding_of(keys(), fronts_);
    }

    std::vector<double> child(int64_t k) const override {
        // Two children of one pair of parents stand next to each other.
        const int64_t pair = k / 2;
        const auto &first = members_[winner(pair, 0)].values, &second = members_[winner(pair, 1)].values;
        std::vector<double> values = k % 2 == 0 ? first : second;
        const std::vector<double>& other = k % 2 == 0 ? second : first;
        if (draws().uniform(Draw::parent, pair, 4) < settings().crossover)
            for (size_t i = 0; i < values.size(); ++i) values[i] = crossed(pair, i, values[i], other[i]);
        for (size_t i = 0; i < values.size(); ++i)
            if (draws().uniform(Draw::mutation, k, 2 * int64_t(i)) < 1 / double(gene_count()))
                values[i] = mutated(k, i, values[i]);
        return values;
    }

    void learn(const std::vector<Candidate>& candidates, const std::vector<Key>& told,
               const std::vector<bool>& missing) override {
        for (size_t i = 0; i < candidates.size(); ++i)
            if (!missing[i]) members_.push_back({candidates[i].genome, told[i]});
        const std::vector<Key> all = keys();
        const std::vector<int64_t> fronts = fronts_of(all);
        const std::vector<double> crowding = crowding_of(all, fronts);
        std::vector<size_t> order(members_.size());
        std::iota(order.begin(), order.end(), size_t(0));
        std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
            return fronts[a] != fronts[b] ? fronts[a] < fronts[b] : crowding[a] > crowding[b];
        });
        order.resize(std::min(order.size(), size_t(population())));
        std::vector<Member> kept;
        for (size_t i : order) kept.push_back(std::move(members_[i]));
        members_ = std::move(kept);
    }

  private:
    std::vector<Key> keys() const {
        std::vector<Key> found;
        for (const Member& member : members_) found.push_back(member.key);
        return found;
    }

    size_t winner(int64_t pair, int64_t side) const {
        const auto pick = [&](int64_t place) {
            return size_t(draws().index(Draw::parent, pair, 2 * side + place, int64_t(members_.size())));
        };
        const size_t a = pick(0), b = pick(1);
        if (fronts_[a] != fronts_[b]) return fronts_[a] < fronts_[b] ? a : b;
        return crowding_[a] >= crowding_[b] ? a : b;
    }

    double crossed(int64_t pair, size_t i, double own, double other) const {
        const Gene& gene = genes()[i];
        const auto place = int64_t(i);
        if (draws().uniform(Draw::crossover, 2 * pair, place) < 0.5 || own == other) return own;
        const double share = draws().uniform(Draw::crossover, 2 * pair + 1, place);
        // The two children's values change sides as often as not: that is what mixes the parents.
        const bool swapped = draws().uniform(Draw::crossover, 2 * pair, gene_count() + place) < 0.5;
        if (gene.kind != Gene::Kind::continuous) return swapped ? other : own;
        // Bounded form: a child beyond a bound has no probability.
        const double low = std::min(own, other), high = std::max(own, other), index = settings().crossover_index;
        const bool lower = (own == low) != swapped;
        const double room = lower ? low - gene.low : gene.high - high;
        const double alpha = 2 - std::pow(1 + 2 * room / (high - low), -(index + 1));
        const double spread = share <= 1 / alpha ? std::pow(share * alpha, 1 / (index + 1))
                                                 : std::pow(1 / (2 - share * alpha), 1 / (index + 1));
        const double middle = (low + high) / 2, half = spread * (high - low) / 2;
        return std::clamp(lower ? middle - half : middle + half, gene.low, gene.high);
    }

    double mutated(int64_t k, size_t i, double value) const {
        const Gene& gene = genes()[i];
        const double share = draws().uniform(Draw::mutation, k, 2 * int64_t(i) + 1), range = gene.high - gene.low;
        if (gene.kind == Gene::Kind::binary) return 1 - value;
        const double power = settings().mutation_index + 1;
        const double room = (share < 0.5 ? value - gene.low : gene.high - value) / range;
        const double rest = std::pow(1 - room, power);
        const double step = share < 0.5 ? std::pow(2 * share + (1 - 2 * share) * rest, 1 / power) - 1
                                        : 1 - std::pow(2 * (1 - share) + 2 * (share - 0.5) * rest, 1 / power);
        double moved = std::clamp(value + step * range, gene.low, gene.high);
        if (gene.kind == Gene::Kind::continuous) return moved;
        moved = fit_gene(gene, moved);
        // A whole number that was to change does.
        return moved != value ? moved : fit_gene(gene, value + (share < 0.5 ? -1 : 1));
    }

    std::vector<int64_t> fronts_;
    std::vector<double> crowding_;
};

}  // namespace

std::unique_ptr<Optimiser> make_nsga2(std::vector<Gene> genes, const OptimiserSettings& settings) {
    return std::make_unique<Nsga2>(std::move(genes), settings);
}

}  // namespace amalgam
