// What NSGA-II and differential evolution have in common: a population of points that live on.
#pragma once
#include "src/search/optimiser_base.h"

namespace amalgam {

class PopulationOptimiser : public OptimiserBase {
  public:
    std::vector<std::pair<std::string, double>> facts() const override;

  protected:
    PopulationOptimiser(std::string name, std::vector<Gene> genes, const OptimiserSettings& settings,
                        int64_t default_population, int64_t least_population);

    struct Member {
        std::vector<double> values;
        Key key;
    };

    std::vector<Candidate> draw(const std::vector<std::vector<double>>& injected) override;
    void exchange(OptimiserState& state) override;
    int64_t room() const override { return population_; }

    /// Child number k of the members.
    virtual std::vector<double> child(int64_t k) const = 0;
    /// Called before the children of a generation are made.
    virtual void prepare() {}

    int64_t population() const { return population_; }
    std::vector<Member> members_;  ///< empty before the first generation is told

  private:
    int64_t population_;
};

std::unique_ptr<Optimiser> make_nsga2(std::vector<Gene> genes, const OptimiserSettings& settings);
std::unique_ptr<Optimiser> make_differential_evolution(std::vector<Gene> genes, const OptimiserSettings& settings);

}  // namespace amalgam
