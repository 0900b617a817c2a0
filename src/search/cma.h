// CMA-ES and sep-CMA as optimisers: bounds, whole numbers, ties, failures, restarts.
#pragma once
#include <memory>

#include "src/search/box.h"
#include "src/search/cma_model.h"
#include "src/search/learning_rates.h"
#include "src/search/margin.h"
#include "src/search/optimiser_base.h"
#include "src/search/stopping.h"

namespace amalgam {

class CmaOptimiser : public OptimiserBase {
  public:
    CmaOptimiser(std::string name, std::vector<Gene> genes, const OptimiserSettings& settings, bool diagonal);

    std::vector<double> mean() const override;
    std::vector<std::pair<std::string, double>> facts() const override;

    /// For comparisons with other programs: rates and weights of this run.
    CmaConstants& constants() { return constants_; }
    const CmaModel& model() const { return model_; }
    const Margin& margin() const { return margin_; }

  protected:
    std::vector<Candidate> draw(const std::vector<std::vector<double>>& injected) override;
    void learn(const std::vector<Candidate>& candidates, const std::vector<Key>& keys,
               const std::vector<bool>& missing) override;
    void exchange(OptimiserState& state) override;
    int64_t room() const override { return population_; }

  private:
    /// Budgets of BIPOP, and what the present run is.
    struct Runs {
        int64_t restarts = 0, large_restarts = 0, small_used = 0, large_used = 0;
        bool large = false;
    };

    void begin(int64_t population, double sigma, bool anywhere_in_box);
    void restart();
    Vector step_of(const Candidate& candidate) const;
    std::vector<double> genome_at(const Vector& raw) const;
    bool learn_generation(const std::vector<Candidate>& candidates, const std::vector<Key>& keys,
                          const std::vector<bool>& missing);

    bool diagonal_;
    Vector units_;  ///< gene = coordinate x unit: every coordinate starts with the same deviation
    std::vector<Box> boxes_;
    CmaModel model_;
    CmaConstants constants_;
    Margin margin_;
    LearningRates rates_;
    std::unique_ptr<StopRules> rules_;
    Runs runs_;
    int64_t population_ = 0, first_population_ = 0, held_ = 0;
    double start_sigma_ = 1;
};

}  // namespace amalgam
