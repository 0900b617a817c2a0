#include <array>

#include "src/checkpoint/checkpoint.h"

namespace amalgam {

namespace {

constexpr std::array<std::string_view, 3> words = {"-Infinity", "Infinity", "NaN"};
constexpr std::string_view mark = "amalgam:nonfinite:";

std::string_view word_at(std::string_view text) {
    for (std::string_view word : words)
        if (text.starts_with(word)) return word;
    return {};
}

}  // namespace

std::string quote_nonfinite(std::string_view config) {
    std::string result;
    result.reserve(config.size());
    bool in_string = false;
    for (size_t i = 0; i < config.size(); ++i) {
        const char c = config[i];
        const std::string_view word = in_string ? std::string_view() : word_at(config.substr(i));
        if (!word.empty()) {
            ((((result += '"') += mark) += word) += '"');
            i += word.size() - 1;
            continue;
        }
        result += c;
        if (in_string && c == '\\' && i + 1 < config.size())
            result += config[++i];
        else if (c == '"')
            in_string = !in_string;
    }
    return result;
}

std::string restore_nonfinite(std::string_view config) {
    const std::string quoted_mark = '"' + std::string(mark);
    std::string result;
    while (true) {
        const size_t begin = std::min(config.find(quoted_mark), config.size());
        result += config.substr(0, begin);
        config.remove_prefix(begin);
        if (config.empty()) return result;
        const std::string_view word = word_at(config.substr(quoted_mark.size()));
        const size_t end = quoted_mark.size() + word.size();
        if (word.empty() || config.substr(end, 1) != "\"") {
            result += config.substr(0, 1);
            config.remove_prefix(1);
        } else {
            result += word;
            config.remove_prefix(end + 1);
        }
    }
}

}  // namespace amalgam
