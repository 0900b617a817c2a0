#include "src/base/nearest.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace amalgam {
namespace {

// Names are short; anything longer is no misspelling of one, and hostile input must not buy quadratic work.
constexpr size_t longest_word = 64;

char folded(char letter) { return letter >= 'A' && letter <= 'Z' ? char(letter - 'A' + 'a') : letter; }

int edits(std::string_view a, std::string_view b) {
    std::array<std::array<int, longest_word + 1>, 3> rows{};
    for (size_t j = 0; j <= b.size(); ++j) rows[0][j] = int(j);
    for (size_t i = 1; i <= a.size(); ++i) {
        auto& row = rows[i % 3];
        const auto& above = rows[(i + 2) % 3];
        const auto& two_above = rows[(i + 1) % 3];
        row[0] = int(i);
        for (size_t j = 1; j <= b.size(); ++j) {
            const bool same = folded(a[i - 1]) == folded(b[j - 1]);
            row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (same ? 0 : 1)});
            if (i > 1 && j > 1 && folded(a[i - 1]) == folded(b[j - 2]) && folded(a[i - 2]) == folded(b[j - 1]))
                row[j] = std::min(row[j], two_above[j - 2] + 1);
        }
    }
    return rows[a.size() % 3][b.size()];
}

}  // namespace

std::string_view nearest(std::string_view word, std::span<const std::string_view> names) {
    if (word.empty() || word.size() > longest_word) return {};
    int fewest = std::clamp(int(word.size()) / 3, 1, 3) + 1;
    std::string_view found;
    for (std::string_view name : names) {
        if (name.empty() || name.size() > longest_word) continue;
        const int count = edits(word, name);
        if (count < fewest) {
            fewest = count;
            found = name;
        }
    }
    return found;
}

std::string did_you_mean(std::string_view word, std::span<const std::string_view> names) {
    const std::string_view found = nearest(word, names);
    if (!found.empty()) return fmt::format(" (did you mean \"{}\"?)", found);
    if (names.empty()) return {};
    return fmt::format(" (valid: {})", fmt::join(names, ", "));
}

}  // namespace amalgam
