#include "src/search/population_optimiser.h"

#include <algorithm>

#include "src/base/error.h"

namespace amalgam {

PopulationOptimiser::PopulationOptimiser(std::string name, std::vector<Gene> genes, const OptimiserSettings& settings,
                                         int64_t default_population, int64_t least_population)
    : OptimiserBase(std::move(name), std::move(genes), settings),
      population_(settings.population > 0 ? settings.population : default_population) {
    check(population_ >= least_population, "population {} is too small for this optimiser: {} at least", population_,
          least_population);
}

std::vector<Candidate> PopulationOptimiser::draw(const std::vector<std::vector<double>>& injected) {
    std::vector<Candidate> candidates;
    for (const auto& genome : injected) candidates.push_back(candidate_at(genome, true));
    const bool first = int64_t(members_.size()) < population_;
    if (!first) prepare();
    for (int64_t k = int64_t(candidates.size()); k < population_; ++k)
        candidates.push_back(candidate_at(first ? anywhere(Draw::population, k) : child(k), false));
    return candidates;
}

std::vector<std::pair<std::string, double>> PopulationOptimiser::facts() const {
    const auto failed = std::count_if(members_.begin(), members_.end(), [](const Member& m) { return m.key.empty(); });
    return {{"population", double(population_)}, {"failed members", double(failed)}};
}

void PopulationOptimiser::exchange(OptimiserState& state) {
    // Failed members have no key: their rows are marked.
    std::vector<std::vector<double>> values, keys;
    std::vector<int64_t> valid;
    for (const Member& member : members_) {
        values.push_back(member.values);
        keys.push_back(member.key.empty() ? Key(size_t(objective_count()), 0) : member.key);
        valid.push_back(!member.key.empty());
    }
    state.rows("members", values, gene_count(), population_);
    state.rows("keys", keys, objective_count(), population_);
    state.counts("valid", valid, population_, 0, 1);
    if (!state.reading()) return;
    const bool no_keys = objective_count() == 0 && keys.empty() &&
                         std::all_of(valid.begin(), valid.end(), [](int64_t one) { return one == 0; });
    check(values.size() == valid.size() && (keys.size() == valid.size() || no_keys),
          "state of an optimiser: its members do not fit together: the state is damaged");
    members_.clear();
    for (size_t i = 0; i < values.size(); ++i)
        members_.push_back({std::move(values[i]), valid[i] ? std::move(keys[i]) : Key{}});
}

}  // namespace amalgam
