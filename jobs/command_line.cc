// The only includer of Boost.Program_options.
#include "jobs/command_line.h"

#include <unistd.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <cerrno>
#include <charconv>
#include <cmath>

#include "src/base/bytes.h"
#include "src/base/nearest.h"

namespace amalgam {
namespace {

namespace po = boost::program_options;

constexpr size_t help_width = 100;
constexpr Option help_option = {"help", "", "show this help"};

template <class... Values>
[[noreturn]] void misuse(fmt::format_string<Values...> format, Values&&... values) {
    throw UsageError(fmt::format(format, std::forward<Values>(values)...));
}

std::vector<Option> all_options(const Command& command) {
    std::vector<Option> options(command.options.begin(), command.options.end());
    options.push_back(help_option);
    return options;
}

/// Words of `text` in lines of at most `width`; lines after the first begin with `indent` blanks.
std::string wrapped(std::string_view text, size_t width, size_t indent) {
    std::string result;
    size_t column = indent;
    while (!text.empty()) {
        const size_t end = std::min(text.find(' '), text.size());
        const std::string_view word = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (column > indent && column + 1 + word.size() > width) {
            result += '\n' + std::string(indent, ' ');
            column = indent;
        }
        if (column > indent) {
            result += ' ';
            ++column;
        }
        result += word;
        column += word.size();
    }
    return result;
}

struct Row {
    std::string left;
    std::string_view right;
};

/// Two columns, the right one wrapped.
std::string two_columns(const std::vector<Row>& rows) {
    size_t width = 0;
    for (const Row& row : rows) width = std::max(width, row.left.size());
    std::string text;
    for (const Row& row : rows)
        text += fmt::format("  {:<{}}  {}\n", row.left, width, wrapped(row.right, help_width, width + 4));
    return text;
}

std::string indented(std::string_view lines) {
    std::string text;
    while (!lines.empty()) {
        const size_t end = std::min(lines.find('\n'), lines.size());
        text += fmt::format("  {}\n", lines.substr(0, end));
        lines.remove_prefix(std::min(end + 1, lines.size()));
    }
    return text;
}

std::string paragraphs(std::string_view text) {
    std::string result;
    while (!text.empty()) {
        const size_t end = std::min(text.find("\n\n"), text.size());
        result += wrapped(text.substr(0, end), help_width, 0) + "\n\n";
        text.remove_prefix(std::min(end + 2, text.size()));
    }
    return result;
}

std::string option_text(const Option& option) {
    return fmt::format("--{}{}{}", option.name, option.value.empty() ? "" : " ", option.value);
}

[[noreturn]] void fail_unknown(const Command& command, std::string_view given) {
    std::vector<std::string> texts;
    for (const Option& option : all_options(command)) texts.push_back(fmt::format("--{}", option.name));
    const std::vector<std::string_view> names(texts.begin(), texts.end());
    misuse("amalgam {} has no option {}{}", command.name, printable(given, 100), did_you_mean(given, names));
}

po::options_description described(const std::vector<Option>& options) {
    po::options_description description;
    for (const Option& option : options)
        description.add_options()(std::string(option.name).c_str(), new po::untyped_value(option.value.empty()));
    return description;
}

po::parsed_options parse(const Command& command, const std::vector<Option>& options,
                         const std::vector<std::string>& words) {
    const po::options_description description = described(options);
    // No abbreviations: scripts that use them break when an option is added.
    const int style = po::command_line_style::allow_long | po::command_line_style::long_allow_adjacent |
                      po::command_line_style::long_allow_next | po::command_line_style::allow_short |
                      po::command_line_style::allow_dash_for_short | po::command_line_style::short_allow_next;
    try {
        return po::command_line_parser(words).options(description).style(style).allow_unregistered().run();
    } catch (const po::error& error) {
        misuse("amalgam {}: {}", command.name, printable(error.what(), 200));
    }
}

void take_option(const Command& command, const std::vector<Option>& options, const po::option& parsed,
                 Arguments& arguments) {
    const auto found = std::find_if(options.begin(), options.end(),
                                    [&](const Option& option) { return option.name == parsed.string_key; });
    if (found == options.end() || parsed.unregistered)
        fail_unknown(command, parsed.original_tokens.empty()
                                  ? parsed.string_key
                                  : parsed.original_tokens[0].substr(0, parsed.original_tokens[0].find('=')));
    std::vector<std::string>& values = arguments.options[parsed.string_key];
    if (!values.empty() && !found->repeatable) misuse("--{} is given twice", found->name);
    values.push_back(parsed.value.empty() ? "" : parsed.value[0]);
}

void check_positionals(const Command& command, const std::vector<std::string>& given) {
    size_t least = 0, most = 0;
    bool any_number = false;
    for (const Positional& positional : command.positionals) {
        if (given.size() < least + size_t(positional.least))
            misuse("amalgam {}: {} is missing ({})", command.name, positional.name, positional.help);
        least += size_t(positional.least);
        most += size_t(positional.most);
        any_number |= positional.most == 0;
    }
    if (!any_number && given.size() > most)
        misuse("amalgam {}: one word too many: \"{}\" (usage: {})", command.name, printable(given[most], 100),
               usage_line(command));
}

template <class T>
T parsed_number(std::string_view option, const std::string& text, std::string_view what) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || text.empty())
        misuse("--{} {}: must be {}", option, printable(text, 100), what);
    return value;
}

}  // namespace

std::string Arguments::text(std::string_view option, std::string_view otherwise) const {
    const auto found = options.find(option);
    return found == options.end() ? std::string(otherwise) : found->second.back();
}

std::vector<std::string> Arguments::texts(std::string_view option) const {
    const auto found = options.find(option);
    return found == options.end() ? std::vector<std::string>() : found->second;
}

int64_t Arguments::integer(std::string_view option, int64_t otherwise, int64_t low, int64_t high) const {
    if (!has(option)) return otherwise;
    const int64_t value = parsed_number<int64_t>(option, text(option), "a whole number");
    if (value < low || value > high) misuse("--{} {}: must be from {} to {}", option, value, low, high);
    return value;
}

uint64_t Arguments::whole(std::string_view option, uint64_t otherwise) const {
    return has(option) ? parsed_number<uint64_t>(option, text(option), "a whole number, not negative") : otherwise;
}

double Arguments::number(std::string_view option, double otherwise, double low, double high) const {
    if (!has(option)) return otherwise;
    const double value = parsed_number<double>(option, text(option), "a number");
    if (!(value >= low && value <= high)) misuse("--{} {}: must be from {} to {}", option, value, low, high);
    return value;
}

uint64_t Arguments::bytes(std::string_view option, uint64_t otherwise) const {
    if (!has(option)) return otherwise;
    try {
        return parse_bytes(text(option));
    } catch (const Error& error) {
        misuse("--{}: {}", option, error.what());
    }
}

std::string Arguments::choice(std::string_view option, std::span<const std::string_view> choices) const {
    const std::string value = text(option, choices.front());
    if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
        std::string list;
        for (std::string_view each : choices) list += fmt::format("{}{}", list.empty() ? "" : ", ", each);
        misuse("--{} {}: must be one of: {}", option, printable(value, 100), list);
    }
    return value;
}

Arguments parse_arguments(const Command& command, const std::vector<std::string>& words) {
    const std::vector<Option> options = all_options(command);
    Arguments arguments;
    for (const po::option& parsed : parse(command, options, words).options) {
        if (parsed.position_key >= 0)
            arguments.positionals.push_back(parsed.value.at(0));
        else
            take_option(command, options, parsed, arguments);
    }
    if (!arguments.has("help")) check_positionals(command, arguments.positionals);
    return arguments;
}

std::string usage_line(const Command& command) {
    std::string line = fmt::format("amalgam {} [OPTIONS]", command.name);
    for (const Positional& positional : command.positionals) {
        const std::string name = fmt::format("{}{}", positional.name, positional.most == 0 ? "..." : "");
        line += positional.least == 0 ? fmt::format(" [{}]", name) : fmt::format(" {}", name);
    }
    return line;
}

std::string command_help(const Command& command) {
    std::string text = fmt::format("{}\n\nUsage: {}\n\n", command.summary, usage_line(command));
    text += paragraphs(command.description);
    std::vector<Row> rows;
    for (const Positional& positional : command.positionals)
        rows.push_back({std::string(positional.name), positional.help});
    if (!rows.empty()) text += "Arguments:\n" + two_columns(rows) + "\n";
    rows.clear();
    for (const Option& option : all_options(command)) rows.push_back({option_text(option), option.help});
    text += "Options:\n" + two_columns(rows);
    if (!command.examples.empty()) text += "\nExamples:\n" + indented(command.examples);
    return text;
}

std::string program_help(std::span<const Command* const> commands) {
    std::string text =
        "amalgam merges LLM checkpoints: alone, on many ranks under mpirun, or on a cluster under srun.\n\n"
        "Usage: amalgam COMMAND [OPTIONS] ...\n\nCommands:\n";
    std::vector<Row> rows;
    for (const Command* command : commands) rows.push_back({std::string(command->name), command->summary});
    text += two_columns(rows);
    text += "\nOptions:\n" +
            two_columns({{"--help", "show this help; amalgam help COMMAND and amalgam COMMAND --help show a command's"},
                         {"--version", "show version, compiler and commit"}});
    text +=
        "\nExit codes: 0 done; 1 an error in recipe, data or machine; 2 wrong use of the command line.\n"
        "\nExamples:\n"
        "  amalgam merge ties.yaml out/\n"
        "  mpirun -n 4 amalgam merge ties.yaml out/ --memory 8GiB\n"
        "  amalgam inspect model/\n";
    return text;
}

void print_out(std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0 && errno == EPIPE) return;
        if (written <= 0) fail("cannot write to standard output: {}", errno_text(errno));
        text.remove_prefix(size_t(written));
    }
}

}  // namespace amalgam
