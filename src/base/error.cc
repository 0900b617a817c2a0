#include "src/base/error.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <system_error>

namespace amalgam {

namespace {

/// Length of the well-formed UTF-8 sequence at the start of `text`, 0 if there is none.
size_t sequence_length(std::string_view text) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char lead = byte(0);
    if (lead < 0x80) return 1;
    const size_t length = lead >= 0xc2 && lead < 0xe0   ? 2
                          : lead >= 0xe0 && lead < 0xf0 ? 3
                          : lead >= 0xf0 && lead < 0xf5 ? 4
                                                        : 0;
    if (length == 0 || text.size() < length) return 0;
    for (size_t i = 1; i < length; ++i)
        if ((byte(i) & 0xc0) != 0x80) return 0;
    // Overlong forms, surrogates and what lies beyond U+10FFFF show in the second byte; C2 80 to C2 9F are controls.
    const unsigned char second = byte(1);
    if ((lead == 0xc2 && second < 0xa0) || (lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
        (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f))
        return 0;
    return length;
}

}  // namespace

std::string errno_text(int error) { return std::generic_category().message(error); }

std::string space_advice(int error) {
    return error == ENOSPC || error == EDQUOT ? ": make room; the same command goes on where this one ends" : "";
}

std::string printable(std::string_view text, size_t limit) {
    std::string result;
    size_t position = 0;
    while (position < text.size()) {
        if (position >= limit) return result + "...";
        const auto byte = static_cast<unsigned char>(text[position]);
        const size_t length = sequence_length(text.substr(position));
        if (length == 0 || byte < 0x20 || byte == 0x7f) {
            result += fmt::format("\\x{:02x}", byte);
            ++position;
        } else {
            result += text.substr(position, length);
            position += length;
        }
    }
    return result;
}

}  // namespace amalgam
