// The one exception of the project.
#pragma once
#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace amalgam {

/// Something the user can read: what is wrong, why it is a problem, what to do.
class Error : public std::runtime_error {
  public:
    explicit Error(const std::string& text) : std::runtime_error(text) {}
};

template <class... Arguments>
[[noreturn]] void fail(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    throw Error(fmt::format(format, std::forward<Arguments>(arguments)...));
}

/// Throws Error with the formatted text unless `condition` holds.
template <class... Arguments>
void check(bool condition, fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    if (!condition) throw Error(fmt::format(format, std::forward<Arguments>(arguments)...));
}

/// "No such file or directory" for errno values.
std::string errno_text(int error);

/// Behind a message that a file cannot be written: what to do about a full disk; else empty.
std::string space_advice(int error);

/// Text from a file, safe to show: control characters and bytes that are not UTF-8 become \xNN, and what is longer than
/// `limit` bytes is cut and ends with "...".
std::string printable(std::string_view text, size_t limit = 1000);

}  // namespace amalgam
