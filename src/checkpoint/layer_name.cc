#include <algorithm>
#include <charconv>

#include "src/checkpoint/checkpoint.h"

namespace amalgam {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// The digits at the start of `text`, which is cut behind them; without leading zeros.
std::string_view take_digits(std::string_view& text) {
    const size_t length = std::min(text.find_first_not_of("0123456789"), text.size());
    std::string_view digits = text.substr(0, length);
    text.remove_prefix(length);
    digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
    return digits;
}

}  // namespace

LayerName layer_name(std::string_view tensor) {
    for (size_t begin = 0; begin <= tensor.size();) {
        const size_t end = std::min(tensor.find('.', begin), tensor.size());
        const std::string_view part = tensor.substr(begin, end - begin);
        int64_t number = 0;
        const bool all_digits = !part.empty() && std::all_of(part.begin(), part.end(), is_digit);
        // More digits than a number holds are a name like any other.
        if (all_digits && std::from_chars(part.data(), part.data() + part.size(), number).ec == std::errc())
            return {.tower = std::string(tensor.substr(0, begin == 0 ? 0 : begin - 1)),
                    .layer = number,
                    .rest = std::string(tensor.substr(std::min(end + 1, tensor.size())))};
        begin = end + 1;
    }
    return {.tower = "", .layer = -1, .rest = ""};
}

bool natural_less(std::string_view a, std::string_view b) {
    std::string_view rest_a = a;
    std::string_view rest_b = b;
    while (!rest_a.empty() && !rest_b.empty()) {
        if (is_digit(rest_a.front()) && is_digit(rest_b.front())) {
            const std::string_view digits_a = take_digits(rest_a);
            const std::string_view digits_b = take_digits(rest_b);
            if (digits_a.size() != digits_b.size()) return digits_a.size() < digits_b.size();
            if (digits_a != digits_b) return digits_a < digits_b;
        } else {
            if (rest_a.front() != rest_b.front()) return rest_a.substr(0, 1) < rest_b.substr(0, 1);
            rest_a.remove_prefix(1);
            rest_b.remove_prefix(1);
        }
    }
    if (!rest_a.empty() || !rest_b.empty()) return rest_a.empty();
    return a < b;  // 7 and 007
}

}  // namespace amalgam
