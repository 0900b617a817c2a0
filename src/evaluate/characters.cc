#include "src/evaluate/characters.h"

#include <algorithm>
#include <iterator>

namespace amalgam {
namespace {

struct Range {
    char32_t first, last;
};

/// Blanks, punctuation and symbols beyond ASCII.
constexpr Range signs[] = {
    {0x80, 0xa9},       {0xab, 0xb1},     {0xb4, 0xb4},     {0xb6, 0xb8},     {0xbb, 0xbb},     {0xbf, 0xbf},
    {0xd7, 0xd7},       {0xf7, 0xf7},     {0x5be, 0x5be},   {0x5c3, 0x5c3},   {0x60c, 0x60c},   {0x61b, 0x61b},
    {0x61f, 0x61f},     {0x66a, 0x66d},   {0x6d4, 0x6d4},   {0x964, 0x965},   {0xe3f, 0xe3f},   {0xe4f, 0xe4f},
    {0xe5a, 0xe5b},     {0x104a, 0x104f}, {0x17d4, 0x17d6}, {0x17d8, 0x17db}, {0x2000, 0x200b}, {0x200e, 0x205f},
    {0x20a0, 0x20cf},   {0x2190, 0x245f}, {0x2500, 0x2775}, {0x2794, 0x2bff}, {0x2e00, 0x2e2e}, {0x2e30, 0x2e7f},
    {0x2ff0, 0x2fff},   {0x3000, 0x3004}, {0x3008, 0x3020}, {0x3030, 0x3030}, {0x3036, 0x3037}, {0x303d, 0x303f},
    {0x309b, 0x309c},   {0x30a0, 0x30a0}, {0x30fb, 0x30fb}, {0xfe10, 0xfe1f}, {0xfe30, 0xfe6f}, {0xfeff, 0xfeff},
    {0xff01, 0xff0f},   {0xff1a, 0xff20}, {0xff3b, 0xff40}, {0xff5b, 0xff65}, {0xffe0, 0xffff}, {0x1f000, 0x1f0ff},
    {0x1f300, 0x1faff},
};

/// Thai, Lao, Myanmar, Khmer, kana, bopomofo, ideographs; their digits make numbers, as others do.
constexpr Range words[] = {
    {0xe01, 0xe4e},   {0xe81, 0xecf},     {0xedc, 0xedf},     {0x1000, 0x103f}, {0x1050, 0x108f}, {0x109a, 0x109d},
    {0x1780, 0x17dd}, {0x2e80, 0x2fdf},   {0x3005, 0x3007},   {0x3021, 0x302f}, {0x3031, 0x303c}, {0x3041, 0x30ff},
    {0x3105, 0x312f}, {0x31a0, 0x31bf},   {0x31f0, 0x31ff},   {0x3400, 0x4dbf}, {0x4e00, 0x9fff}, {0xf900, 0xfaff},
    {0xff66, 0xff9f}, {0x1b000, 0x1b16f}, {0x20000, 0x3fffd},
};

template <size_t count>
bool holds(const Range (&ranges)[count], char32_t code) {
    const Range* behind = std::upper_bound(std::begin(ranges), std::end(ranges), code,
                                           [](char32_t value, const Range& range) { return value < range.first; });
    return behind != std::begin(ranges) && code <= std::prev(behind)->last;
}

CharacterKind kind_of(char32_t code) {
    const char ascii = code < 0x80 ? char(code) : narrow(code);
    if (ascii) {
        const bool letter =
            (ascii >= '0' && ascii <= '9') || (ascii >= 'a' && ascii <= 'z') || (ascii >= 'A' && ascii <= 'Z');
        return letter ? CharacterKind::letter : CharacterKind::sign;
    }
    if (code < 0x80 || holds(signs, code)) return CharacterKind::sign;
    return holds(words, code) ? CharacterKind::word : CharacterKind::letter;
}

}  // namespace

char narrow(char32_t code) { return code >= 0xff01 && code <= 0xff5e ? char(code - 0xff01 + '!') : '\0'; }

Character character_at(std::string_view text, size_t at) {
    const auto byte = [&](size_t place) { return static_cast<unsigned char>(text[place]); };
    const unsigned first = byte(at);
    Character character{1, char32_t(first), CharacterKind::letter};
    if (first >= 0x80) {
        const size_t bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
        if (first < 0xc2 || first > 0xf4 || text.size() - at < bytes) return character;
        char32_t code = first & (0xffu >> (bytes + 1));
        for (size_t place = at + 1; place < at + bytes; ++place) {
            if ((byte(place) & 0xc0) != 0x80) return character;
            code = code << 6 | (byte(place) & 0x3f);
        }
        character.bytes = bytes;
        character.code = code;
    }
    character.kind = kind_of(character.code);
    return character;
}

}  // namespace amalgam
