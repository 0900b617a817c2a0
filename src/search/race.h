// Racing: a candidate that is clearly worse than another on the items asked so far is not asked the rest.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "src/evaluate/evaluate.h"
#include "src/evaluate/task.h"
#include "src/search/messages.h"

namespace amalgam {

/// The items of the tasks in rounds of about `block`: each round has its share of every task, in the order of the files. One
/// round for block 0. Every round has items of every task, so there are no more rounds than the smallest task has items.
std::vector<std::vector<Task>> rounds_of(const std::vector<Task>& tasks, int64_t block);

/// Scores of items by task, and the weights of the tasks.
struct RaceScores {
    std::span<const std::vector<double>> own;  ///< of the items asked so far
    std::span<const std::vector<double>> cut;  ///< of at least as many
    std::span<const double> weights;
};

/// One-sided p-value of the paired test: how likely is it that a candidate which is as good as the other falls so far behind?
/// Where all scores are 0 or 1 and every item weighs the same, the exact sign test (McNemar); else Student's t of the weighted
/// means, with the variances of each task. 1 if it is not behind.
double race_p_value(const RaceScores& scores);

/// Whether the race is over after `round` (from 0) of `rounds`: `level` is shared out equally among the tests.
bool is_beaten(const RaceScores& scores, size_t round, size_t rounds, double level);

/// The score that all items would give: the cut's on all items and the mean difference on those asked so far.
double race_estimate(const RaceScores& scores);

/// One candidate's race against the answers of another.
class Race {
  public:
    /// `cut`: scores of all items by task; empty: nobody to race against. Both outlive it.
    Race(const std::vector<Task>& tasks, const std::vector<std::vector<double>>& cut, size_t rounds, double level);
    /// After each round but the last: whether it is over.
    bool is_over(const Evaluation& so_far);
    /// The answer of a candidate that was asked so much.
    Answer answer(const Evaluation& evaluation) const;

  private:
    const std::vector<std::vector<double>>& cut_;
    std::vector<double> weights_;
    size_t rounds_, round_ = 0;
    double level_;
    bool over_ = false;
};

}  // namespace amalgam
