// What a recipe's text says before anything is checked: one tree for TOML, YAML and --set.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace amalgam {

constexpr uint64_t max_recipe_bytes = 16 << 20;
constexpr int max_recipe_depth = 32;
constexpr int64_t max_recipe_values = 1'000'000;

/// A node of the tree. Lines count from 1; overrides have the line -1 - (their place in the list of overrides).
struct Value {
    enum class Kind { null, boolean, integer, number, string, list, table, other };
    struct Member;

    Kind kind = Kind::null;
    int line = 0;
    /// The writer did not have to say which type was meant (plain YAML, --set): `text` is what was written and may be
    /// read as a string, and a string as a number.
    bool loose = false;
    bool boolean = false;
    int64_t integer = 0;
    double number = 0;
    std::string text;  ///< of a string; of a loose scalar; of `other` its type ("a date")
    std::vector<Value> items;
    std::vector<Member> members;  ///< in the order written, keys are distinct

    /// nullptr if there is no such key.
    const Value* find(std::string_view key) const;
    Value* find(std::string_view key);
    /// "a list", "a number": for messages.
    std::string_view kind_text() const;
};

struct Value::Member {
    std::string key;
    int line = 0;  ///< of the key
    Value value;
};

/// Parses a whole text to a table. Throws Error "file:line: reason".
Value parse_toml(const std::string& text, const std::string& file);
Value parse_yaml(const std::string& text, const std::string& file);

/// The right-hand side of an override: a TOML value if it is one, else a string; every node gets `line`.
Value parse_override_value(const std::string& text, int line);

/// Applies "path=value" to the tree; keys that are missing are added for the checker to judge.
/// Throws Error if the path leads nowhere.
void apply_override(Value& root, const std::string& override_text, int line);

}  // namespace amalgam
