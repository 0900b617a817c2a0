// Words as a shell reads them back.
#pragma once
#include <string>
#include <string_view>

namespace amalgam {

/// The word itself if a shell takes every letter of it as it is, else in single quotes.
std::string shell_word(std::string_view word);

}  // namespace amalgam
