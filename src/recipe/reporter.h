// Errors and warnings about a recipe's text, with their place.
#pragma once
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "src/base/error.h"
#include "src/recipe/recipe.h"
#include "src/recipe/value.h"

namespace amalgam {

class Reporter {
  public:
    Reporter(std::string file, const RecipeOptions& options) : file_(std::move(file)), options_(options) {}

    /// "ties.toml:12", or "--set parameters.lambda=7" for the lines of overrides.
    std::string where(int line) const;
    /// The line for Recipe's types: 0 for overrides.
    static int public_line(int line) { return line < 0 ? 0 : line; }

    template <class... Arguments>
    [[noreturn]] void fail_at(int line, fmt::format_string<Arguments...> format, Arguments&&... arguments) const {
        throw Error(where(line) + ": " + fmt::format(format, std::forward<Arguments>(arguments)...));
    }

    /// The same text at several places becomes one warning that counts them.
    void warn(int line, const std::string& text);

    /// Error, or a warning if unknown keys are allowed. `hint` replaces the nearest name.
    void unknown_key(const Value::Member& member, std::span<const std::string_view> valid, std::string_view hint = {});

    /// Goes over a table's keys: error for those that are neither `valid` nor known to have no effect.
    void check_keys(const Value& table, std::initializer_list<std::string_view> valid);

    std::vector<std::string> warnings() const;

  private:
    struct Warning {
        std::string text;
        int places = 1;
    };

    std::string file_;
    const RecipeOptions& options_;
    std::vector<Warning> warnings_;
    std::unordered_map<std::string, size_t> by_text_;
};

/// Keys that mergekit's recipes carry and that do nothing, here or there.
bool has_no_effect(std::string_view key);

/// Scalars, with an error that names the key if the value is of another type.
std::string read_string(const Value& value, std::string_view key, const Reporter& reporter);
int64_t read_integer(const Value& value, std::string_view key, const Reporter& reporter);
/// nullopt if the value is not a number or, where it may stand for one, a string or boolean.
std::optional<double> as_number(const Value& value);
/// "path", "path@revision" or mergekit's {model: {path, revision}}.
std::string read_reference(const Value& value, std::string_view key, Reporter& reporter);
/// The table, or nullptr for nothing; anything else is an error.
const Value* read_table(const Value* value, std::string_view key, const Reporter& reporter);

}  // namespace amalgam
