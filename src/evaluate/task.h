// Task files: what a model is asked, and how its answers are judged (docs/tasks.md).
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/files.h"
#include "src/evaluate/decoder_config.h"
#include "src/evaluate/token_table.h"

namespace amalgam {

enum class Metric {
    perplexity,         ///< one over the perplexity of texts
    choice,             ///< share of items whose right choice has the largest log-likelihood
    choice_normalised,  ///< the same with log-likelihoods divided by the choices' lengths in tokens
    exact_match,        ///< share of items whose greedy continuation is the answer and then ends
    last_number,        ///< share of items whose greedy continuation has the answer's last number last
    rouge_l,            ///< mean ROUGE-L F1 of greedy continuations and answers
    language,           ///< share of items whose greedy continuation is in allowed tokens
};
std::string_view metric_name(Metric metric);

struct TaskItem {
    int64_t line = 0;
    std::vector<int32_t> prompt;  ///< perplexity: the whole text
    std::vector<int32_t> answer;  ///< may be empty where the metric judges text
    std::vector<std::vector<int32_t>> choices;
    int64_t right = 0;        ///< index of the right choice
    std::string answer_text;  ///< "answer", where the metric judges text
};

struct Task {
    std::string name;
    std::string path;
    Metric metric = Metric::exact_match;
    double weight = 1;                         ///< in the objective
    int64_t limit = 64;                        ///< most tokens of a continuation
    std::vector<int32_t> end_ids;              ///< tokens that end a continuation; empty: the model's own
    std::vector<int32_t> allowed_ids;          ///< sorted; the language filter, empty: none
    double allowed_share = 1;                  ///< least share of a continuation's tokens that must be allowed
    std::shared_ptr<const TokenTable> tokens;  ///< nullptr if the file names none
    std::vector<TaskItem> items;
};

/// Whether items are judged by a text that the model writes, token by token; else one pass decides.
bool needs_generation(Metric metric);

/// Reads a task file. Throws Error that begins with path and line.
Task read_task(Files& files, const std::string& path);

/// The same from text, without a token table; `folder_name` names tasks in files that are called search or heldout.
Task parse_task(std::string_view text, const std::string& path);

/// Throws Error naming path and line of an item that a model of this config cannot be asked: ids beyond its vocabulary,
/// texts longer than its context, no token that ends a continuation.
void check_task(const Task& task, const DecoderConfig& config);

}  // namespace amalgam
