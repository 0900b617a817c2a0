// What the controller and its groups tell each other, as text.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "src/evaluate/evaluate.h"
#include "src/recipe/recipe.h"

namespace amalgam {

/// Which items a candidate is asked.
enum class ItemSet { search, validation, heldout };
std::string_view item_set_name(ItemSet set);

/// Scores of one task.
struct TaskScores {
    double score = 0;
    double likelihood = 0;      ///< mean log-likelihood of a judged token; 0 of texts that are written
    std::vector<double> items;  ///< in the order of the file
    bool operator==(const TaskScores&) const = default;
};

/// Scores of a candidate.
struct Answer {
    double score = 0;       ///< mean of tasks by weight
    double likelihood = 0;  ///< likewise, of tasks that have one
    std::vector<TaskScores> tasks;
    bool raced_out =
        false;  ///< was not asked all items; the scores are of those it was asked, `score` is what all would give
    bool operator==(const Answer&) const = default;
};

Answer answer_of(const Evaluation& evaluation);

/// JSON; numbers keep all their bits. decode_answer() throws Error for what encode_answer() does not write.
std::string encode_answer(const Answer& answer);
Answer decode_answer(const std::string& text);

/// What a group is to score: the recipe as TOML and the items.
struct Instruction {
    std::string recipe;
    ItemSet set = ItemSet::search;
    std::vector<std::vector<double>> cut = {};  ///< by task: scores of the candidate to race against; none: no race
};
std::string encode_instruction(const Instruction& instruction);
Instruction decode_instruction(const std::string& text);

/// Whether some items are neither right (1) nor wrong (0).
bool is_graded(const std::vector<double>& items);
/// A task's items as one character each: 0 and 1, or, if some are graded, digits of floor(9.999 x score).
std::string item_digits(const std::vector<double>& items);
/// Back from digits of items that are right or wrong. Throws Error for other characters.
std::vector<double> items_of_digits(std::string_view digits);

}  // namespace amalgam
