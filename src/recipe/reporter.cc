#include "src/recipe/reporter.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "kernels/methods.h"
#include "src/base/nearest.h"

namespace amalgam {

std::string Reporter::where(int line) const {
    if (line > 0) return fmt::format("{}:{}", file_, line);
    if (line == 0) return file_ + " (--set)";
    const size_t index = size_t(-1 - line);
    return fmt::format("--set {}", printable(index < options_.set.size() ? options_.set[index] : std::string()));
}

void Reporter::warn(int line, const std::string& text) {
    const auto [found, is_new] = by_text_.emplace(text, warnings_.size());
    if (is_new)
        warnings_.push_back({where(line) + ": " + text});
    else
        ++warnings_[found->second].places;
}

std::vector<std::string> Reporter::warnings() const {
    std::vector<std::string> texts;
    for (const Warning& warning : warnings_)
        texts.push_back(warning.places == 1 ? warning.text
                                            : fmt::format("{} (and {} more places)", warning.text, warning.places - 1));
    return texts;
}

bool has_no_effect(std::string_view key) {
    constexpr std::array names = {"embed_slerp", "residual_weight", "int8_mask", "name", "override_architecture"};
    return std::find(names.begin(), names.end(), key) != names.end();
}

void Reporter::unknown_key(const Value::Member& member, std::span<const std::string_view> valid,
                           std::string_view hint) {
    const std::string suggestion = hint.empty() ? did_you_mean(member.key, valid) : fmt::format(" ({})", hint);
    const std::string text = fmt::format("unknown key \"{}\"{}", printable(member.key), suggestion);
    if (!options_.allow_unknown) fail_at(member.line, "{}", text);
    warn(member.line, text + ": ignored");
}

void Reporter::check_keys(const Value& table, std::initializer_list<std::string_view> valid) {
    for (const Value::Member& member : table.members) {
        if (std::find(valid.begin(), valid.end(), member.key) != valid.end()) continue;
        if (has_no_effect(member.key)) {
            warn(member.line, fmt::format("{} has no effect", member.key));
            continue;
        }
        const bool parameter = std::any_of(all_methods.begin(), all_methods.end(),
                                           [&](const MethodInfo* method) { return method->field(member.key) >= 0; });
        const bool takes_parameters = std::find(valid.begin(), valid.end(), "parameters") != valid.end();
        const std::string hint =
            parameter && takes_parameters ? fmt::format("did you mean \"parameters.{}\"?", member.key) : "";
        unknown_key(member, std::span(valid.begin(), valid.size()), hint);
    }
}

std::string read_string(const Value& value, std::string_view key, const Reporter& reporter) {
    const bool text = value.kind == Value::Kind::string || (value.loose && value.kind != Value::Kind::null);
    if (!text) reporter.fail_at(value.line, "{}: must be a string, not {}", key, value.kind_text());
    return value.text;
}

std::optional<double> as_number(const Value& value) {
    switch (value.kind) {
        case Value::Kind::integer: return double(value.integer);
        case Value::Kind::number: return value.number;
        case Value::Kind::boolean: return value.loose ? std::optional(value.boolean ? 1. : 0.) : std::nullopt;
        case Value::Kind::string: break;
        default: return std::nullopt;
    }
    if (!value.loose) return std::nullopt;
    std::string_view text = value.text;
    const size_t begin = text.find_first_not_of(" \t"), end = text.find_last_not_of(" \t");
    if (begin == text.npos) return std::nullopt;
    text = text.substr(begin, end + 1 - begin);
    const bool negative = text.starts_with('-');
    if (negative || text.starts_with('+')) text.remove_prefix(1);
    if (text.starts_with('-') || text.starts_with('+')) return std::nullopt;
    // YAML's spelling; Python, and so mergekit, takes "inf" as well.
    if (text == ".inf" || text == ".Inf" || text == ".INF" || text == ".nan" || text == ".NaN" || text == ".NAN")
        text.remove_prefix(1);
    double number = 0;
    const auto [last, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (last != text.data() + text.size() || error == std::errc::invalid_argument) return std::nullopt;
    if (error == std::errc::result_out_of_range) {
        // Too large is infinite, as everywhere; too small is 0.
        const size_t exponent = text.find_first_of("eE");
        const bool tiny = exponent != text.npos && text.substr(exponent + 1).starts_with('-');
        number = tiny ? 0 : infinity;
    }
    return negative ? -number : number;
}

int64_t read_integer(const Value& value, std::string_view key, const Reporter& reporter) {
    if (value.kind == Value::Kind::integer) return value.integer;
    const std::optional<double> number = value.kind == Value::Kind::boolean ? std::nullopt : as_number(value);
    if (!number || std::abs(*number) > 1e15 || *number != std::floor(*number))
        reporter.fail_at(value.line, "{}: must be an integer, not {}", key,
                         value.text.empty() ? std::string(value.kind_text()) : printable(value.text));
    return int64_t(*number);
}

const Value* read_table(const Value* value, std::string_view key, const Reporter& reporter) {
    if (!value || value->kind == Value::Kind::null) return nullptr;
    if (value->kind != Value::Kind::table)
        reporter.fail_at(value->line, "{}: must be a table, not {}", key, value->kind_text());
    return value;
}

namespace {

std::string read_path(const Value& value, std::string_view key, Reporter& reporter) {
    if (value.kind != Value::Kind::table) return read_string(value, key, reporter);
    reporter.check_keys(value, {"path", "revision"});
    const Value* path = value.find("path");
    if (!path) reporter.fail_at(value.line, "{}: needs a path", key);
    std::string reference = read_string(*path, "path", reporter);
    const Value* revision = value.find("revision");
    if (revision && revision->kind != Value::Kind::null)
        reference += "@" + read_string(*revision, "revision", reporter);
    return reference;
}

}  // namespace

std::string read_reference(const Value& value, std::string_view key, Reporter& reporter) {
    std::string reference;
    if (value.kind == Value::Kind::table) {
        reporter.check_keys(value, {"model", "lora"});
        const Value* lora = value.find("lora");
        if (lora && lora->kind != Value::Kind::null)
            reporter.fail_at(
                lora->line,
                "lora: adapters are not supported yet: merge the adapter into its model and name the result");
        const Value* model = value.find("model");
        if (!model) reporter.fail_at(value.line, "{}: needs a model", key);
        reference = read_path(*model, "model", reporter);
    } else {
        reference = read_string(value, key, reporter);
    }
    if (reference.empty())
        reporter.fail_at(value.line, "{}: is empty: give a folder, a .safetensors file or a name like org/model", key);
    if (reference.find('\0') != reference.npos) reporter.fail_at(value.line, "{}: contains a null byte", key);
    return reference;
}

}  // namespace amalgam
