// What identifies a search and its candidates.
#pragma once
#include <string>

#include "src/search/search.h"

namespace amalgam {

/// XXH64 as 16 digits.
std::string text_hash(const std::string& text);

/// Of what the trajectory depends on; the budget is not part of it. A journal of another key is not gone on with.
std::string search_key(const SearchInputs& inputs);

/// Of the items of these tasks, in their order: says whether two searches asked the same.
std::string items_hash(const std::vector<Task>& tasks);

}  // namespace amalgam
