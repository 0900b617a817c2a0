// What the characters of a text in UTF-8 are to somebody who counts words.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace amalgam {

enum class CharacterKind {
    sign,    ///< a blank, punctuation, a symbol: part of no word
    letter,  ///< a letter, a digit or a mark: part of a word
    word,    ///< a word by itself: of a script that sets no blanks between words
};

struct Character {
    size_t bytes = 1;  ///< in the text
    char32_t code = 0;
    CharacterKind kind = CharacterKind::letter;
};

/// The character at `at`, which is in the text. A byte that is no UTF-8 is a letter by itself.
Character character_at(std::string_view text, size_t at);

/// The ASCII character that stands for the same letter, digit or sign of full width; 0 if there is none.
char narrow(char32_t code);

}  // namespace amalgam
