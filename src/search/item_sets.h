// Whether what is searched on may be searched on: public test sets may not, held-out items should not be among it.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "src/search/search.h"

namespace amalgam {

/// The public benchmark whose test set a file seems to be, by its name and that of its folder ("gsm8k/test.jsonl",
/// "mgsm-ja-test.jsonl"); "" for others.
std::string public_test_set(std::string_view path);

/// Warnings about held-out and validation items that are searched on too. Throws Error for a public test set among the files
/// that are searched on, or that the winner is chosen on, unless the search file allows it: a merge that was chosen by them
/// scores well on them, which says nothing.
std::vector<std::string> check_item_sets(const SearchInputs& inputs);

}  // namespace amalgam
