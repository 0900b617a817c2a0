// Whether the result gets a tokenizer, and one that fits its embedding.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "src/base/files.h"
#include "src/plan/tensor_task.h"
#include "src/recipe/part.h"

namespace amalgam {

/// `merged` are the models that take part, `donor` the one whose tokenizer the result gets. Throws Error if
/// tokenizer_source names a model without one while another has one. Warns of a donor by default that has none, of more
/// tokens than the result has rows for, and of models whose tokenizer is another one than the donor's.
std::vector<std::string> check_tokenizers(Files& files, const Recipe& recipe, std::span<const OpenModel> merged,
                                          const OpenModel& donor, const std::vector<TensorTask>& tasks);

/// Highest token of a tokenizer.json + 1; 0 if the text does not say.
int64_t token_count(const std::string& tokenizer);

}  // namespace amalgam
