#include "src/evaluate/metrics.h"

#include <algorithm>
#include <charconv>

#include "src/evaluate/characters.h"

namespace amalgam {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

size_t digits_from(std::string_view text, size_t at) {
    size_t count = 0;
    while (at + count < text.size() && is_digit(text[at + count])) ++count;
    return count;
}

/// The number that begins at `at`, where a digit is, without commas; `at` moves behind it.
std::string take_number(std::string_view text, size_t& at) {
    size_t count = digits_from(text, at);
    std::string number(text.substr(at, count));
    at += count;
    if (count <= 3)
        while (at < text.size() && text[at] == ',' && digits_from(text, at + 1) == 3) {
            number += text.substr(at + 1, 3);
            at += 4;
        }
    if (at < text.size() && text[at] == '.' && (count = digits_from(text, at + 1)) > 0) {
        number += text.substr(at, count + 1);
        at += count + 1;
    }
    return number;
}

/// The text with digits in ASCII, and so are the signs of numbers between digits of full width; of others, clauses are made.
std::string with_narrow_numbers(std::string_view text) {
    constexpr char32_t minus = 0x2212, wide_minus = 0xff0d;
    const auto wide_digit_at = [&](size_t at) {
        return at < text.size() && is_digit(narrow(character_at(text, at).code));
    };
    std::string result;
    bool behind_digit = false;
    for (size_t at = 0; at < text.size();) {
        const Character character = character_at(text, at);
        const char ascii = narrow(character.code);
        const bool before_digit = wide_digit_at(at + character.bytes);
        if (is_digit(ascii) || ((ascii == ',' || ascii == '.') && behind_digit && before_digit))
            result += ascii;
        else if (character.code == minus || character.code == wide_minus)
            result += '-';
        else
            result += text.substr(at, character.bytes);
        behind_digit = is_digit(ascii);
        at += character.bytes;
    }
    return result;
}

template <class T>
double rouge(std::span<const T> a, std::span<const T> b) {
    if (a.empty() && b.empty()) return 1;
    // lengths[j]: longest common subsequence of what was read of a, and the first j of b.
    std::vector<int64_t> lengths(b.size() + 1, 0);
    for (const T& item : a) {
        int64_t diagonal = 0;
        for (size_t j = 0; j < b.size(); ++j) {
            const int64_t above = lengths[j + 1];
            lengths[j + 1] = item == b[j] ? diagonal + 1 : std::max(above, lengths[j]);
            diagonal = above;
        }
    }
    return 2 * double(lengths.back()) / double(a.size() + b.size());
}

}  // namespace

std::optional<double> last_number(std::string_view any_text) {
    const std::string text = with_narrow_numbers(any_text);
    std::optional<double> result;
    for (size_t at = 0; at < text.size();) {
        if (!is_digit(text[at])) {
            ++at;
            continue;
        }
        const bool negative = at > 0 && text[at - 1] == '-' &&
                              (at == 1 || (!is_digit(text[at - 2]) && !is_letter(text[at - 2]) && text[at - 2] != ')'));
        const std::string number = take_number(text, at);
        double value = 0;
        if (std::from_chars(number.data(), number.data() + number.size(), value).ec == std::errc())
            result = negative ? -value : value;
    }
    return result;
}

std::vector<std::string> words_of(std::string_view text) {
    std::vector<std::string> words;
    bool inside = false;
    for (size_t at = 0; at < text.size();) {
        const Character character = character_at(text, at);
        const bool letter = character.kind == CharacterKind::letter;
        if (character.kind == CharacterKind::word || (letter && !inside)) words.emplace_back();
        const char ascii = character.code < 0x80 ? char(character.code) : narrow(character.code);
        if (letter && ascii)
            words.back() += ascii >= 'A' && ascii <= 'Z' ? char(ascii - 'A' + 'a') : ascii;
        else if (character.kind != CharacterKind::sign)
            words.back() += text.substr(at, character.bytes);
        inside = letter;
        at += character.bytes;
    }
    return words;
}

double rouge_l(std::span<const int32_t> a, std::span<const int32_t> b) { return rouge(a, b); }
double rouge_l(std::span<const std::string> a, std::span<const std::string> b) { return rouge(a, b); }

double allowed_share(std::span<const int32_t> ids, std::span<const int32_t> allowed) {
    if (ids.empty()) return 0;
    const auto count = std::count_if(
        ids.begin(), ids.end(), [&](int32_t id) { return std::binary_search(allowed.begin(), allowed.end(), id); });
    return double(count) / double(ids.size());
}

}  // namespace amalgam
