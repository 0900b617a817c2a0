// Messages to the user on stderr: whole lines, from any thread, and of rank 0 unless a rank speaks for itself.
#pragma once
#include <fmt/core.h>

#include <string_view>
#include <utility>

namespace amalgam {

/// Messages below the level that is set are dropped.
enum class LogLevel { debug, info, warning, error, silent };

/// Default: LogLevel::info.
void set_log_level(LogLevel level);

/// Who this process is. Until it is called: rank 0 of 1.
void set_log_rank(int rank, int ranks);

/// While on, a line first clears the terminal's current line, where a progress bar is drawn.
void set_log_over_progress(bool on);

/// One line of any level; warnings and errors say so. With `every_rank` the line is written on whichever rank calls, with
/// "rank 3: " before it if there is more than one; else on rank 0 only.
void log_line(LogLevel level, bool every_rank, std::string_view text);

template <class... Arguments>
void log_debug(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    log_line(LogLevel::debug, false, fmt::format(format, std::forward<Arguments>(arguments)...));
}

template <class... Arguments>
void log_info(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    log_line(LogLevel::info, false, fmt::format(format, std::forward<Arguments>(arguments)...));
}

template <class... Arguments>
void log_warning(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    log_line(LogLevel::warning, false, fmt::format(format, std::forward<Arguments>(arguments)...));
}

template <class... Arguments>
void log_error(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    log_line(LogLevel::error, false, fmt::format(format, std::forward<Arguments>(arguments)...));
}

/// From whichever rank calls.
template <class... Arguments>
void log_here(LogLevel level, fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    log_line(level, true, fmt::format(format, std::forward<Arguments>(arguments)...));
}

}  // namespace amalgam
