// Greedy soup: models by falling score, each added if the average with it is not worse.
#include <algorithm>
#include <numeric>

#include "src/base/error.h"
#include "src/search/simple_optimisers.h"

namespace amalgam {
namespace {

class GreedySoup : public OptimiserBase {
  public:
    GreedySoup(std::vector<Gene> genes, const OptimiserSettings& settings)
        : OptimiserBase("greedy-soup", std::move(genes), settings),
          batch_(settings.population > 0 ? settings.population : 1) {
        std::vector<std::string> names;
        for (const Gene& gene : this->genes()) {
            const auto known = std::find(names.begin(), names.end(), gene.group);
            const auto model = gene.group.empty() ? names.end() : known;
            model_of_.push_back(model - names.begin());
            if (model == names.end()) names.push_back(gene.group);
        }
        models_ = int64_t(names.size());
        keys_.resize(size_t(models_));
        known_.assign(size_t(models_), 0);
    }

    std::vector<double> mean() const override { return soup_.empty() ? std::vector<double>() : genome_of(soup_); }

    std::vector<std::pair<std::string, double>> facts() const override {
        return {{"models", double(models_)}, {"in the soup", double(soup_.size())}, {"tried", double(next_)}};
    }

  protected:
    std::vector<Candidate> draw(const std::vector<std::vector<double>>& injected) override {
        std::vector<Candidate> candidates;
        for (const auto& genome : injected) candidates.push_back(candidate_at(genome, true));
        for (const std::vector<int64_t>& models : trials())
            candidates.push_back(candidate_at(genome_of(models), false));
        return candidates;
    }

    void learn(const std::vector<Candidate>& candidates, const std::vector<Key>& keys,
               const std::vector<bool>& missing) override {
        const auto first = size_t(std::count_if(candidates.begin(), candidates.end(),
                                                [](const Candidate& candidate) { return candidate.injected; }));
        const std::vector<Key> told(keys.begin() + int64_t(first), keys.end());
        const std::vector<bool> late(missing.begin() + int64_t(first), missing.end());
        if (order_.empty())
            learn_singles(told, late);
        else
            learn_additions(told, late);
        if (!order_.empty() && next_ == int64_t(order_.size())) stop("every model was tried");
    }

    void exchange(OptimiserState& state) override {
        std::vector<std::vector<double>> keys;
        for (const Key& key : keys_)
            if (!key.empty()) keys.push_back(key);
        std::vector<std::vector<double>> best;
        if (!best_.empty()) best.push_back(best_);
        state.counts("known", known_, models_, 0, 2);
        state.rows("single_keys", keys, objective_count(), models_);
        state.counts("order", order_, models_, 0, models_ - 1);
        state.counts("soup", soup_, models_, 0, models_ - 1);
        state.count("next", next_, 0, int64_t(order_.size()));
        state.rows("best", best, objective_count(), 1);
        if (!state.reading()) return;
        check(int64_t(known_.size()) == models_ &&
                  std::count(known_.begin(), known_.end(), 2) == int64_t(keys.size()) &&
                  (order_.empty() || (next_ > 0 && !soup_.empty() && !best.empty())),
              "state of an optimiser: its models do not fit together: the state is damaged");
        size_t row = 0;
        for (size_t i = 0; i < keys_.size(); ++i) keys_[i] = known_[i] == 2 ? keys[row++] : Key{};
        best_ = best.empty() ? Key{} : best[0];
    }

    int64_t room() const override { return int64_t(1) << 20; }

  private:
    /// What is asked: each model alone, then the soup with each of the next models.
    std::vector<std::vector<int64_t>> trials() const {
        std::vector<std::vector<int64_t>> found;
        if (order_.empty()) {
            for (int64_t model = 0; model < models_; ++model)
                if (known_[size_t(model)] == 0) found.push_back({model});
            return found;
        }
        for (int64_t place = next_; place < int64_t(order_.size()) && place < next_ + batch_; ++place) {
            std::vector<int64_t> with = soup_;
            with.push_back(order_[size_t(place)]);
            found.push_back(std::move(with));
        }
        return found;
    }

    void learn_singles(const std::vector<Key>& keys, const std::vector<bool>& late) {
        const auto asked = trials();
        for (size_t i = 0; i < asked.size(); ++i) {
            if (late[i]) continue;
            const auto model = size_t(asked[i][0]);
            known_[model] = keys[i].empty() ? 1 : 2;
            keys_[model] = keys[i];
        }
        if (std::count(known_.begin(), known_.end(), 0) > 0) return;
        std::vector<int64_t> order;
        for (int64_t model = 0; model < models_; ++model)
            if (known_[size_t(model)] == 2) order.push_back(model);
        if (order.empty()) return stop("every model failed");
        std::stable_sort(order.begin(), order.end(),
                         [&](int64_t a, int64_t b) { return better(keys_[size_t(a)], keys_[size_t(b)]); });
        order_ = std::move(order);
        soup_ = {order_[0]};
        best_ = keys_[size_t(order_[0])];
        next_ = 1;
    }

    /// All were asked for the soup as it is: behind the first that joins, answers are for a soup that is no more.
    void learn_additions(const std::vector<Key>& keys, const std::vector<bool>& late) {
        for (size_t i = 0; i < keys.size() && !late[i]; ++i) {
            const int64_t model = order_[size_t(next_++)];
            if (keys[i].empty() || better(best_, keys[i])) continue;
            soup_.push_back(model);
            best_ = keys[i];
            return;
        }
    }

    std::vector<double> genome_of(const std::vector<int64_t>& models) const {
        std::vector<double> values;
        for (size_t i = 0; i < genes().size(); ++i) {
            const Gene& gene = genes()[i];
            const bool member = std::find(models.begin(), models.end(), model_of_[i]) != models.end();
            const bool whole = gene.kind != Gene::Kind::continuous;
            values.push_back(!member ? 0 : whole ? gene.high : 1 / double(models.size()));
        }
        return values;
    }

    int64_t batch_, models_ = 0, next_ = 0;
    std::vector<int64_t> model_of_;  ///< of each gene
    std::vector<Key> keys_;          ///< of each model alone
    std::vector<int64_t> known_;     ///< of each model alone: 0 not told, 1 failed, 2 has a key
    std::vector<int64_t> order_, soup_;
    Key best_;  ///< of the soup
};

}  // namespace

std::unique_ptr<Optimiser> make_greedy_soup(std::vector<Gene> genes, const OptimiserSettings& settings) {
    return std::make_unique<GreedySoup>(std::move(genes), settings);
}

}  // namespace amalgam
