// What identifies a search and its candidates.
#pragma once
#include <map>
#include <string>

#include "src/search/search.h"

namespace amalgam {

/// XXH64 as 16 digits.
std::string text_hash(const std::string& text);

/// What the trajectory depends on; the budget is not part of it. A journal of another key is not gone on with.
struct SearchKey {
    std::map<std::string, std::string> parts;  ///< hashes, by what a user calls them
    std::string heldout;                       ///< of the held-out items, on which it does not depend
    std::string text() const;
};
SearchKey search_key(const SearchInputs& inputs);

/// Of all that decides what the items of these tasks score, in their order: says whether two searches asked the same.
std::string items_hash(const std::vector<Task>& tasks);

}  // namespace amalgam
