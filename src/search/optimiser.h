// Optimisers that are asked for candidates and told what became of them; they evaluate nothing themselves.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace amalgam {

/// One gene of a genome. Continuous genes are bounded by the box transform (box.h); binary and integer genes are
/// rounded when a candidate is built, with the margin of CMA-ES with margin (margin.h).
struct Gene {
    enum class Kind { continuous, integer, binary };
    std::string name = {};
    Kind kind = Kind::continuous;
    double low = 0, high = 1;  ///< may be infinite for continuous genes
    double start = 0.5;        ///< mean of the first generation
    double sigma = 1. / 6;     ///< standard deviation of the first generation, in the gene's own unit
    std::string group = {};    ///< greedy-soup switches genes of one group together, such as all of a model; "": alone
};

/// A point to evaluate: `genome` is what a recipe is built from (within bounds, whole numbers where genes are), `raw`
/// what the optimiser drew.
struct Candidate {
    std::vector<double> genome, raw;
    bool injected = false;        ///< given from outside, not drawn
    std::vector<bool> idle = {};  ///< of its outcome, once that is told
};

/// What became of a candidate; objectives are maximised, compared in order of the list where an optimiser knows only
/// one (the second breaks ties of the first). Invalid ones, and those with an objective that is not finite, rank last.
struct Outcome {
    bool valid = true;
    bool missing = false;  ///< not waited for: has no weight in the update
    std::vector<double> objectives = {};
    /// Genes without a part in this candidate, such as the scale of a layer that is left out: from what became of it,
    /// CMA-ES learns nothing about where they should be. Empty: all have a part.
    std::vector<bool> idle = {};
};

enum class Restarts { none, ipop, bipop };

/// What an optimiser is made with, besides the genes. Which of them an optimiser reads: its table, in optimisers.h.
struct OptimiserSettings {
    uint64_t seed = 0;
    int64_t population = 0;  ///< candidates of a generation; 0: the optimiser's own rule
    double sigma_scale = 1;  ///< factor on every gene's sigma
    bool active = true;      ///< negative weights for the worst
    Restarts restarts = Restarts::none;
    bool learning_rate_adaptation = false;
    double differential_weight = 0.5;
    double crossover = 0.9;
    double crossover_index = 15;
    double mutation_index = 20;
    int64_t steps = 5;  ///< values of a continuous gene on a grid
};

class Optimiser {
  public:
    virtual ~Optimiser() = default;
    /// The next generation; the same one until tell(). Pure in (genes, settings, what was told and injected so far).
    /// Empty once stopped().
    virtual std::vector<Candidate> ask() = 0;
    /// In the order of ask(). Throws Error if their number or the number of objectives is another.
    virtual void tell(const std::vector<Outcome>& outcomes) = 0;
    /// Genomes to take the place of drawn ones in the next ask() that draws, or the ones after it if they are many.
    virtual void inject(const std::vector<std::vector<double>>& genomes) = 0;
    /// Whether injected genomes wait for a place.
    virtual bool has_waiting() const = 0;
    virtual int64_t generation() const = 0;
    /// Candidate in the middle of the distribution; empty if there is no such thing.
    virtual std::vector<double> mean() const = 0;
    /// "" while it goes on, else why it ended.
    virtual std::string stopped() const = 0;
    /// Numbers worth showing: sigma, condition, restarts.
    virtual std::vector<std::pair<std::string, double>> facts() const = 0;
    /// Complete state, one line of text a value; load() on an optimiser made with the same genes and settings goes on
    /// to the same bits, also from between ask() and tell(). load() throws Error on a text that is not such a state,
    /// and leaves the optimiser as it was.
    virtual std::string save() const = 0;
    virtual void load(const std::string& state) = 0;
};

/// The optimiser called `name` in the table of optimisers.h. Throws Error if there is none, or if it cannot work with
/// these genes or settings.
std::unique_ptr<Optimiser> make_optimiser(const std::string& name, std::vector<Gene> genes,
                                          const OptimiserSettings& settings);

}  // namespace amalgam
