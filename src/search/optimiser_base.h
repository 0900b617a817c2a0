// What every optimiser has in common: genes, generations, injected genomes, the frame of its state.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "src/search/optimiser.h"
#include "src/search/optimiser_state.h"
#include "src/search/random_draws.h"
#include "src/search/ranking.h"

namespace amalgam {

/// The gene's value nearest to `value`: within bounds, whole where the gene is.
double fit_gene(const Gene& gene, double value);

class OptimiserBase : public Optimiser {
  public:
    std::vector<Candidate> ask() final;
    void tell(const std::vector<Outcome>& outcomes) final;
    void inject(const std::vector<std::vector<double>>& genomes) final;
    bool has_waiting() const final { return !waiting_.empty(); }
    int64_t generation() const final { return generation_; }
    std::vector<double> mean() const override { return {}; }
    std::string stopped() const final { return stopped_; }
    std::string save() const final;
    void load(const std::string& state) final;

  protected:
    /// Throws Error if a gene makes no sense.
    OptimiserBase(std::string name, std::vector<Gene> genes, const OptimiserSettings& settings);

    /// The candidates of this generation; those of `injected` come first. The same until learn() was called.
    virtual std::vector<Candidate> draw(const std::vector<std::vector<double>>& injected) = 0;
    /// `keys` in the order of the candidates: empty where one failed or is missing.
    virtual void learn(const std::vector<Candidate>& candidates, const std::vector<Key>& keys,
                       const std::vector<bool>& missing) = 0;
    /// Writes or reads what draw() and learn() depend on.
    virtual void exchange(OptimiserState& state) = 0;
    /// Most injected genomes that a generation takes.
    virtual int64_t room() const = 0;

    void stop(std::string reason) { stopped_ = std::move(reason); }
    Candidate candidate_at(const std::vector<double>& values, bool injected) const;
    /// A point of the box, every one as likely.
    std::vector<double> anywhere(Draw purpose, int64_t candidate) const;
    Draws draws() const { return {settings_.seed, generation_}; }
    int64_t gene_count() const { return int64_t(genes_.size()); }
    int64_t objective_count() const { return objective_count_; }
    const std::vector<Gene>& genes() const { return genes_; }
    const OptimiserSettings& settings() const { return settings_; }

  private:
    void exchange_all(OptimiserState& state);
    std::string fingerprint() const;

    std::string name_;
    std::vector<Gene> genes_;
    OptimiserSettings settings_;
    int64_t generation_ = 0, objective_count_ = 0;
    std::string stopped_;
    std::vector<std::vector<double>> waiting_, taken_;  ///< injected: for later, and part of this generation
    bool asked_ = false;
    std::vector<Candidate> candidates_;
};

}  // namespace amalgam
