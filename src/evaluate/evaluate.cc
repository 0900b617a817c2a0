#include "src/evaluate/evaluate.h"

#include <algorithm>
#include <cmath>
#include <deque>

#include "src/base/error.h"
#include "src/evaluate/decoder.h"
#include "src/evaluate/metrics.h"

namespace amalgam {
namespace {

const std::vector<int32_t>& ends_of(const Task& task, const DecoderConfig& config) {
    return task.end_ids.empty() ? config.end_ids : task.end_ids;
}

bool contains(const std::vector<int32_t>& ids, int32_t id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
}

/// All texts of all tasks that one pass decides.
struct Questions {
    std::deque<std::vector<int32_t>> texts;
    std::vector<ScoredSequence> sequences;

    void ask(const std::vector<int32_t>& prompt, const std::vector<int32_t>& answer, const std::vector<int32_t>& end) {
        std::vector<int32_t>& text = texts.emplace_back(prompt);
        text.insert(text.end(), answer.begin(), answer.end());
        text.insert(text.end(), end.begin(), end.end());
        sequences.push_back({text, int64_t(prompt.size())});
    }
};

void ask_task(const Task& task, const DecoderConfig& config, Questions& questions) {
    for (const TaskItem& item : task.items) {
        if (task.metric == Metric::perplexity)
            questions.sequences.push_back({item.prompt, 1});
        else if (task.metric == Metric::exact_match)
            questions.ask(item.prompt, item.answer, {ends_of(task, config).front()});
        else
            for (const std::vector<int32_t>& choice : item.choices) questions.ask(item.prompt, choice, {});
    }
}

double sum_of(const std::vector<TokenScore>& scores) {
    double sum = 0;
    for (const TokenScore& score : scores) sum += score.log_likelihood;
    return sum;
}

/// Greedy decoding would write exactly this answer: its token is the likeliest at every place, and so is an end behind it.
bool is_greedy(const std::vector<TokenScore>& scores, const std::vector<int32_t>& answer,
               const std::vector<int32_t>& ends) {
    for (size_t place = 0; place < answer.size(); ++place)
        if (scores[place].best != answer[place]) return false;
    return contains(ends, scores.back().best);
}

ItemResult judge_choices(const Task& task, const TaskItem& item, const std::vector<TokenScore>* scores) {
    ItemResult result;
    double best = -INFINITY;
    size_t place = 0;
    for (size_t choice = 0; choice < item.choices.size(); ++choice) {
        const double sum = sum_of(scores[choice]);
        const double count = double(item.choices[choice].size());
        const double value = task.metric == Metric::choice_normalised ? sum / count : sum;
        if (value > best) {
            best = value;
            place = choice;
        }
        result.log_likelihoods.push_back(sum);
        result.tokens += int64_t(scores[choice].size());
    }
    result.score = int64_t(place) == item.right ? 1 : 0;
    return result;
}

/// The item's result from the scores of its texts; moves on to the next item's.
ItemResult judge_item(const Task& task, const DecoderConfig& config, const TaskItem& item,
                      const std::vector<TokenScore>*& scores) {
    if (!item.choices.empty()) {
        const ItemResult result = judge_choices(task, item, scores);
        scores += item.choices.size();
        return result;
    }
    const std::vector<TokenScore>& own = *scores++;
    ItemResult result;
    result.log_likelihoods = {sum_of(own)};
    result.tokens = int64_t(own.size());
    if (task.metric == Metric::perplexity)
        result.score = std::exp(result.log_likelihoods[0] / double(result.tokens));
    else
        result.score = is_greedy(own, item.answer, ends_of(task, config)) && passes_filter(task, item.answer) ? 1 : 0;
    return result;
}

/// What one pass decides, for all tasks together.
void score_tasks(const std::vector<Task>& tasks, Scorer& scorer, const DecoderConfig& config,
                 std::vector<TaskResult>& results) {
    Questions questions;
    for (const Task& task : tasks)
        if (!needs_generation(task.metric)) ask_task(task, config, questions);
    if (questions.sequences.empty()) return;
    const std::vector<std::vector<TokenScore>> scores = scorer.score(questions.sequences);
    const std::vector<TokenScore>* next = scores.data();
    for (size_t number = 0; number < tasks.size(); ++number) {
        if (needs_generation(tasks[number].metric)) continue;
        for (const TaskItem& item : tasks[number].items)
            results[number].items.push_back(judge_item(tasks[number], config, item, next));
    }
}

double judge_written(const Task& task, const TaskItem& item, const ItemResult& result) {
    if (!passes_filter(task, result.written)) return 0;
    if (task.metric == Metric::language) return 1;
    if (!task.tokens) return rouge_l(result.written, item.answer);
    const std::string answer = item.answer_text.empty() ? task.tokens->text(item.answer) : item.answer_text;
    if (task.metric == Metric::rouge_l) return rouge_l(words_of(result.text), words_of(answer));
    const auto found = last_number(result.text);
    return found && found == last_number(answer) ? 1 : 0;
}

void generate_task(const Task& task, Scorer& scorer, const DecoderConfig& config, TaskResult& result) {
    std::vector<std::span<const int32_t>> prompts;
    for (const TaskItem& item : task.items) prompts.emplace_back(item.prompt);
    std::vector<std::vector<int32_t>> written = scorer.generate(prompts, {ends_of(task, config), task.limit});
    for (size_t number = 0; number < task.items.size(); ++number) {
        ItemResult item;
        item.written = std::move(written[number]);
        item.tokens = int64_t(item.written.size());
        if (task.tokens) item.text = task.tokens->text(item.written);
        item.score = judge_written(task, task.items[number], item);
        result.items.push_back(std::move(item));
    }
}

void sum_up(TaskResult& result) {
    double sum = 0, log_likelihood = 0;
    result.tokens = 0;
    for (const ItemResult& item : result.items) {
        sum += item.score;
        result.tokens += item.tokens;
        for (double value : item.log_likelihoods) log_likelihood += value;
    }
    if (!needs_generation(result.metric)) result.mean_nll = -log_likelihood / double(result.tokens);
    result.score = result.metric == Metric::perplexity ? std::exp(-result.mean_nll) : sum / double(result.items.size());
}

void sum_up(Evaluation& evaluation) {
    double weight = 0;
    for (const TaskResult& task : evaluation.tasks) weight += task.weight;
    evaluation.score = 0;
    for (TaskResult& task : evaluation.tasks) {
        sum_up(task);
        evaluation.score += task.weight / weight * task.score;
    }
}

}  // namespace

bool passes_filter(const Task& task, const std::vector<int32_t>& ids) {
    return task.allowed_ids.empty() || allowed_share(ids, task.allowed_ids) >= task.allowed_share;
}

void add_items(Evaluation& evaluation, Evaluation more) {
    for (size_t number = 0; number < evaluation.tasks.size(); ++number) {
        std::vector<ItemResult>& items = evaluation.tasks[number].items;
        std::move(more.tasks[number].items.begin(), more.tasks[number].items.end(), std::back_inserter(items));
    }
    sum_up(evaluation);
}

Evaluation evaluate(Scorer& scorer, const std::vector<Task>& tasks) {
    const DecoderConfig& config = scorer.config();
    double weight = 0;
    Evaluation result;
    for (const Task& task : tasks) {
        check_task(task, config);
        weight += task.weight;
        result.tasks.push_back({task.name, task.metric, task.weight, 0, 0, 0, {}});
    }
    check(weight > 0, "the weights of the tasks sum to {}: a score needs a sum above 0", weight);
    score_tasks(tasks, scorer, config, result.tasks);
    for (size_t number = 0; number < tasks.size(); ++number)
        if (needs_generation(tasks[number].metric)) generate_task(tasks[number], scorer, config, result.tasks[number]);
    sum_up(result);
    return result;
}

Evaluation evaluate(WeightSource& weights, const std::vector<Task>& tasks, ThreadPool& pool, Communicator* ranks) {
    Decoder decoder(weights, pool, ranks);
    return evaluate(decoder, tasks);
}

}  // namespace amalgam
