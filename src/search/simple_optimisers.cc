#include "src/search/simple_optimisers.h"

#include <algorithm>

#include "src/base/error.h"

namespace amalgam {
namespace {

constexpr int64_t default_batch = 16;

class RandomSearch : public OptimiserBase {
  public:
    RandomSearch(std::vector<Gene> genes, const OptimiserSettings& settings)
        : OptimiserBase("random", std::move(genes), settings),
          population_(settings.population > 0 ? settings.population : default_batch) {}

    std::vector<std::pair<std::string, double>> facts() const override { return {{"population", double(population_)}}; }

  protected:
    std::vector<Candidate> draw(const std::vector<std::vector<double>>& injected) override {
        std::vector<Candidate> candidates;
        for (const auto& genome : injected) candidates.push_back(candidate_at(genome, true));
        for (int64_t k = int64_t(candidates.size()); k < population_; ++k)
            candidates.push_back(candidate_at(anywhere(Draw::population, k), false));
        return candidates;
    }
    void learn(const std::vector<Candidate>&, const std::vector<Key>&, const std::vector<bool>&) override {}
    void exchange(OptimiserState&) override {}
    int64_t room() const override { return population_; }

  private:
    int64_t population_;
};

/// Points in the order of their numbers, whose digits are the genes' values, the first gene's the highest digit.
class Grid : public OptimiserBase {
  public:
    Grid(std::vector<Gene> genes, const OptimiserSettings& settings)
        : OptimiserBase("grid", std::move(genes), settings),
          population_(settings.population > 0 ? settings.population : default_batch) {
        check(settings.steps >= 2 && settings.steps <= 1 << 20, "steps {} of a grid are not from 2 to {}",
              settings.steps, 1 << 20);
        for (const Gene& gene : this->genes()) {
            check(points_ <= (int64_t(1) << 50) / values_of(gene),
                  "the grid has more than 2^50 points: take fewer genes or steps");
            points_ *= values_of(gene);
        }
    }

    std::vector<std::pair<std::string, double>> facts() const override {
        return {{"points", double(points_)}, {"asked", double(next_)}};
    }

  protected:
    std::vector<Candidate> draw(const std::vector<std::vector<double>>& injected) override {
        std::vector<Candidate> candidates;
        for (const auto& genome : injected) candidates.push_back(candidate_at(genome, true));
        for (int64_t number : numbers(int64_t(candidates.size())))
            candidates.push_back(candidate_at(point(number), false));
        return candidates;
    }

    void learn(const std::vector<Candidate>& candidates, const std::vector<Key>&,
               const std::vector<bool>& missing) override {
        const auto injected = std::count_if(candidates.begin(), candidates.end(),
                                            [](const Candidate& candidate) { return candidate.injected; });
        const std::vector<int64_t> asked = numbers(injected);
        again_.clear();
        for (size_t i = 0; i < asked.size(); ++i) {
            next_ = std::max(next_, asked[i] + 1);
            if (missing[i + size_t(injected)]) again_.push_back(asked[i]);
        }
        if (next_ == points_ && again_.empty()) stop("every point of the grid was asked");
    }

    void exchange(OptimiserState& state) override {
        state.count("next", next_, 0, points_);
        state.counts("again", again_, population_, 0, points_ - 1);
    }
    int64_t room() const override { return population_ - int64_t(again_.size()); }

  private:
    int64_t values_of(const Gene& gene) const {
        return gene.kind == Gene::Kind::continuous ? settings().steps : int64_t(gene.high - gene.low) + 1;
    }

    /// Those that were not waited for, then new ones.
    std::vector<int64_t> numbers(int64_t injected) const {
        std::vector<int64_t> found = again_;
        for (int64_t number = next_; number < points_ && int64_t(found.size()) + injected < population_; ++number)
            found.push_back(number);
        return found;
    }

    std::vector<double> point(int64_t number) const {
        std::vector<double> values(genes().size());
        for (size_t i = values.size(); i-- > 0;) {
            const Gene& gene = genes()[i];
            const int64_t count = values_of(gene), digit = number % count;
            number /= count;
            values[i] = gene.low + (gene.high - gene.low) * (double(digit) / double(count - 1));
        }
        return values;
    }

    int64_t population_, points_ = 1, next_ = 0;
    std::vector<int64_t> again_;
};

}  // namespace

std::unique_ptr<Optimiser> make_random(std::vector<Gene> genes, const OptimiserSettings& settings) {
    return std::make_unique<RandomSearch>(std::move(genes), settings);
}

std::unique_ptr<Optimiser> make_grid(std::vector<Gene> genes, const OptimiserSettings& settings) {
    return std::make_unique<Grid>(std::move(genes), settings);
}

}  // namespace amalgam
