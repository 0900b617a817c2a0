// How a written answer is judged. Pure functions.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace amalgam {

/// The last decimal number in a text: "-1,234.50" is -1234.5; a sign counts unless it joins two numbers or words (as in
/// "3-4"); commas count between groups of three digits. Digits and signs of full width count as others do.
std::optional<double> last_number(std::string_view text);

/// Words of a text: runs of letters and digits, those of ASCII in lower case. Of scripts that set no blanks between words
/// (Chinese, Japanese, Thai, Lao, Khmer, Myanmar), each character is one.
std::vector<std::string> words_of(std::string_view text);

/// F1 of the longest common subsequence: 2 L / (lengths of both). 1 for two empty sequences.
double rouge_l(std::span<const int32_t> a, std::span<const int32_t> b);
double rouge_l(std::span<const std::string> a, std::span<const std::string> b);

/// Share of `ids` that are in `allowed` (sorted); 0 if there are no ids.
double allowed_share(std::span<const int32_t> ids, std::span<const int32_t> allowed);

}  // namespace amalgam
