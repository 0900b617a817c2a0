// The one exception of the project.
#pragma once
#include <fmt/core.h>

#include <stdexcept>
#include <string>
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

}  // namespace amalgam
