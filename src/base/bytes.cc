#include "src/base/bytes.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>

#include "src/base/error.h"

namespace amalgam {
namespace {

constexpr std::string_view scales = "kmgtp";

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
    return text;
}

bool digit(char c) { return c >= '0' && c <= '9'; }

/// Bytes of a unit, 0 if it is none.
uint64_t unit_bytes(std::string_view unit) {
    std::string lower(unit);
    for (char& c : lower) c = char(std::tolower(static_cast<unsigned char>(c)));
    if (lower.empty() || lower == "b") return 1;
    size_t power = scales.find(lower[0]);
    if (power == std::string_view::npos) return 0;
    uint64_t step = lower.substr(1) == "b" ? 1000 : lower.substr(1) == "ib" ? 1024 : 0;
    uint64_t bytes = step;
    for (size_t i = 0; i < power; ++i) bytes *= step;
    return bytes;
}

}  // namespace

uint64_t parse_bytes(std::string_view text) {
    const std::string_view all = trimmed(text);
    const std::string shown = printable(text, 40);
    size_t whole_end = size_t(std::find_if_not(all.begin(), all.end(), digit) - all.begin());
    check(whole_end > 0,
          "\"{}\" is not an amount of bytes (it must begin with a digit): write for instance 5GB, 512MiB or "
          "1000000",
          shown);
    size_t fraction_end = whole_end;
    if (whole_end < all.size() && all[whole_end] == '.') {
        fraction_end = size_t(std::find_if_not(all.begin() + long(whole_end) + 1, all.end(), digit) - all.begin());
        size_t digits = fraction_end - whole_end - 1;
        check(digits >= 1 && digits <= 4,
              "\"{}\" is not an amount of bytes (between one and four digits may follow the point)", shown);
    }
    const std::string_view unit = trimmed(all.substr(fraction_end));
    check(
        unit.size() != 1 || unit_bytes(unit) > 0 || scales.find(char(std::tolower(unit[0]))) == std::string_view::npos,
        "\"{}\" is ambiguous: write {}B for powers of 1,000 or {}iB for powers of 1,024", shown, unit, unit);
    const uint64_t step = unit_bytes(unit);
    check(step > 0, "\"{}\": \"{}\" is not a unit of bytes: use B, kB, MB, GB, TB, PB or KiB, MiB, GiB, TiB, PiB",
          shown, printable(unit, 20));
    uint64_t whole = 0;
    bool fits = true;
    for (char c : all.substr(0, whole_end))
        fits = fits && !__builtin_mul_overflow(whole, 10, &whole) &&
               !__builtin_add_overflow(whole, uint64_t(c - '0'), &whole);
    uint64_t fraction = 0, divisor = 1;
    if (fraction_end > whole_end) {
        check(step > 1, "\"{}\" is not an amount of bytes (a part of a byte): give a unit, such as {}GB", shown,
              all.substr(0, fraction_end));
        for (char c : all.substr(whole_end + 1, fraction_end - whole_end - 1)) {
            fraction = 10 * fraction + uint64_t(c - '0');
            divisor *= 10;
        }
    }
    uint64_t bytes = 0;
    fits = fits && !__builtin_mul_overflow(whole, step, &bytes) &&
           !__builtin_add_overflow(bytes, fraction * step / divisor, &bytes);
    check(fits, "\"{}\" is too large (2^64 bytes are the limit)", shown);
    return bytes;
}

std::string bytes_text(uint64_t bytes) {
    if (bytes < 1000) return fmt::format("{} B", bytes);
    constexpr std::string_view names[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    size_t unit = 0;
    uint64_t step = 1000;
    while (unit + 1 < std::size(names) && bytes / step >= 1000) {
        step *= 1000;
        ++unit;
    }
    // Cut, not rounded: 999,999 bytes must not read "1000 kB".
    const uint64_t whole = bytes / step;
    const int decimals = whole >= 100 ? 0 : whole >= 10 ? 1 : 2;
    uint64_t hundredths = (bytes % step) / (step / 100);
    std::string text = fmt::format("{}.{:02}", whole, hundredths);
    text.resize(text.size() - size_t(2 - decimals));
    while (text.find('.') != std::string::npos && (text.back() == '0' || text.back() == '.')) {
        const bool point = text.back() == '.';
        text.pop_back();
        if (point) break;
    }
    return fmt::format("{} {}", text, names[unit]);
}

}  // namespace amalgam
