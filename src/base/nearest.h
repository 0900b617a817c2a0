// The valid name a misspelt one probably meant.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace amalgam {

/// The name with the fewest edits (insert, delete, replace, swap of neighbours; letter case is free) from `word`, the
/// first of several; "" if even that one needs more than a third of the word's length (at least 1, at most 3 edits).
std::string_view nearest(std::string_view word, std::span<const std::string_view> names);

/// ` (did you mean "weight"?)`, else ` (valid: a, b, c)`, to be appended to a message.
std::string did_you_mean(std::string_view word, std::span<const std::string_view> names);

}  // namespace amalgam
