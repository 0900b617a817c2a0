// Scores of a model on tasks.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "src/base/thread_pool.h"
#include "src/comm/communicator.h"
#include "src/evaluate/scorer.h"
#include "src/evaluate/task.h"
#include "src/evaluate/weights.h"

namespace amalgam {

struct ItemResult {
    double score = 0;  ///< 0 to 1
    std::vector<double>
        log_likelihoods;           ///< of the text or answer as a whole, or of each choice; none of generated texts
    int64_t tokens = 0;            ///< that were judged or written
    std::vector<int32_t> written;  ///< generated ids, without the end
    std::string text;              ///< the same as text, if there is a token table
};

struct TaskResult {
    std::string name;
    Metric metric = Metric::exact_match;
    double weight = 1;
    double score = 0;     ///< 0 to 1, larger is better; perplexity: one over it, over all tokens
    double mean_nll = 0;  ///< negative log-likelihood a judged token; 0 for generated texts
    int64_t tokens = 0;
    std::vector<ItemResult> items;  ///< in the order of the file
};

struct Evaluation {
    double score = 0;  ///< mean of the tasks' scores by weight
    std::vector<TaskResult> tasks;
};

/// Whether these tokens are in the language that the task asks for, if it asks for one.
bool passes_filter(const Task& task, const std::vector<int32_t>& ids);

/// Adds what a model answered to further items of the same tasks: scores are those of all items then.
void add_items(Evaluation& evaluation, Evaluation more);

/// Asks the model everything. Tasks that one pass decides share it.
/// Throws Error for tasks that do not fit the model (check_task) and weights that sum to 0, BrokenModel for logits that
/// are not finite.
Evaluation evaluate(Scorer& scorer, const std::vector<Task>& tasks);
/// On the CPU; the result is the same for any number of threads. Collective over `ranks`, if any are given: they share the
/// work, the result is the same for any number.
Evaluation evaluate(WeightSource& weights, const std::vector<Task>& tasks, ThreadPool& pool,
                    Communicator* ranks = nullptr);

}  // namespace amalgam
