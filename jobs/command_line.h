// Commands of the program as data: one description gives parsing, help and hints on misspellings.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/error.h"

namespace amalgam {

/// Wrong use of the command line: exit code 2.
class UsageError : public Error {
  public:
    using Error::Error;
};

/// `--name VALUE`, or `--name` if `value` is empty.
struct Option {
    std::string_view name;
    std::string_view value;
    std::string_view help;  ///< one sentence, without the point; the default last, in brackets
    bool repeatable = false;
};

/// A word without dashes.
struct Positional {
    std::string_view name;
    std::string_view help;
    int least = 1;
    int most = 1;  ///< 0: any number
};

/// What a command was called with, checked against its description. All functions throw UsageError for values that do
/// not fit, naming the option.
class Arguments {
  public:
    std::map<std::string, std::vector<std::string>, std::less<>> options;
    std::vector<std::string> positionals;

    bool has(std::string_view option) const { return options.contains(option); }
    /// The value given, else `otherwise`.
    std::string text(std::string_view option, std::string_view otherwise = "") const;
    std::vector<std::string> texts(std::string_view option) const;
    int64_t integer(std::string_view option, int64_t otherwise, int64_t low, int64_t high) const;
    uint64_t whole(std::string_view option, uint64_t otherwise) const;
    double number(std::string_view option, double otherwise, double low, double high) const;
    /// An amount of bytes: "8MiB".
    uint64_t bytes(std::string_view option, uint64_t otherwise) const;
    /// One of `choices`.
    std::string choice(std::string_view option, std::span<const std::string_view> choices) const;
};

struct Command {
    std::string_view name;
    std::string_view summary;      ///< one line
    std::string_view description;  ///< paragraphs; "" if the summary says it all
    std::span<const Positional> positionals;
    std::span<const Option> options;
    std::string_view examples;  ///< lines, without indentation
    bool on_all_ranks;          ///< else it runs on rank 0 only
    int (*run)(const Arguments& arguments);
};

/// Throws UsageError.
Arguments parse_arguments(const Command& command, const std::vector<std::string>& words);

/// "amalgam merge [OPTIONS] RECIPE OUT"
std::string usage_line(const Command& command);
std::string command_help(const Command& command);
std::string program_help(std::span<const Command* const> commands);

/// Writes to stdout. A reader that has gone away is no error; a full disk is.
void print_out(std::string_view text);

}  // namespace amalgam
