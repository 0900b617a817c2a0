#include "jobs/table.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

namespace amalgam {
namespace {

/// Characters, for text that is UTF-8.
size_t width_of(std::string_view text) {
    return size_t(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

std::string Table::text(std::string_view indent) const {
    std::vector<size_t> widths(columns_.size(), 0);
    for (const auto& row : rows_)
        for (size_t i = 0; i < row.size() && i < widths.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
    std::string text;
    for (const auto& row : rows_) {
        std::string line(indent);
        for (size_t i = 0; i < row.size() && i < widths.size(); ++i) {
            const std::string blanks(widths[i] - width_of(row[i]), ' ');
            if (i > 0) line += "  ";
            line += columns_[i] == 'r' ? blanks + row[i] : row[i] + blanks;
        }
        line.erase(line.find_last_not_of(' ') + 1);
        text += line + "\n";
    }
    return text;
}

std::string count_text(int64_t count) {
    if (count < 1000) return fmt::format("{}", count);
    if (count < 10'000) return fmt::format("{},{:03}", count / 1000, count % 1000);
    constexpr const char* units[] = {"k", "M", "B", "T", "Q"};
    double value = double(count) / 1000;
    size_t unit = 0;
    // 999,950 must not become "1000 k".
    while (value >= 999.5 && unit + 1 < std::size(units)) {
        value /= 1000;
        ++unit;
    }
    return fmt::format("{:.{}f} {}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0, units[unit]);
}

std::string number_text(double value) { return fmt::format("{}", value); }

std::string seconds_text(double seconds) {
    if (!(seconds >= 0) || std::isinf(seconds)) return "-";
    if (seconds < 1e-3) return fmt::format("{:.0f} us", seconds * 1e6);
    if (seconds < 1) return fmt::format("{:.1f} ms", seconds * 1e3);
    if (seconds < 120) return fmt::format("{:.1f} s", seconds);
    if (seconds < 7200) return fmt::format("{:.1f} min", seconds / 60);
    return fmt::format("{:.1f} h", seconds / 3600);
}

std::string plural(int64_t count, std::string_view noun) {
    return fmt::format("{} {}{}", count_text(count), noun, count == 1 ? "" : "s");
}

}  // namespace amalgam
