// Recipes as TOML and as mergekit YAML.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/methods.h"
#include "src/base/error.h"
#include "src/recipe/recipe.h"

namespace amalgam {
namespace {

/// In double quotes; the escapes are those that TOML and YAML share.
std::string quoted(std::string_view text) {
    std::string result = "\"";
    for (const char letter : text) {
        const auto byte = static_cast<unsigned char>(letter);
        if (letter == '"' || letter == '\\') {
            result += '\\';
            result += letter;
        } else if (byte < 0x20 || byte == 0x7f) {
            result += fmt::format("\\u{:04X}", byte);
        } else {
            result += letter;
        }
    }
    return result + "\"";
}

/// Shortest text that reads back as the same double.
std::string number_text(double number) {
    if (number == 0 && std::signbit(number)) return "-0.0";
    std::string text = fmt::format("{}", number);
    // YAML 1.1 takes 1e-05 for a string and 1.0e-05 for a number.
    const size_t exponent = text.find('e');
    if (exponent != text.npos && text.find('.') == text.npos) text.insert(exponent, ".0");
    return text;
}

std::string gradient_text(const Field& field, const std::vector<double>& gradient) {
    std::string text, word;
    for (size_t layer = 0; layer < gradient.size(); ++layer) {
        const double number = gradient[layer];
        // A search writes many recipes whose neighbouring layers have the same number.
        const bool again = layer > 0 && number == gradient[layer - 1] && number != 0;
        if (!again) word = field.kind == FieldKind::boolean ? (number != 0 ? "true" : "false") : number_text(number);
        if (layer > 0) text += ", ";
        text += word;
    }
    return gradient.size() == 1 ? text : "[" + text + "]";
}

bool is_plain(const Parameter& parameter) {
    return parameter.entries.size() == 1 && parameter.entries[0].filter.empty();
}

const Field& field_of(const MethodInfo& method, const std::string& name) {
    const int index = method.field(name);
    check(index >= 0, "{} has no parameter {}: the recipe cannot be written", method.name, name);
    return method.fields[index];
}

const MethodInfo& method_of(const Recipe& recipe) {
    const MethodInfo* method = find_method(recipe.method);
    check(method != nullptr, "unknown merge_method \"{}\": the recipe cannot be written", recipe.method);
    return *method;
}

class TomlWriter {
  public:
    explicit TomlWriter(const Recipe& recipe) : recipe_(recipe), method_(method_of(recipe)) {}

    std::string write() && {
        line("merge_method = {}", quoted(recipe_.method));
        if (recipe_.base_model) line("base_model = {}", quoted(*recipe_.base_model));
        if (recipe_.dtype) line("dtype = {}", quoted(info(*recipe_.dtype).config_name));
        if (recipe_.out_dtype) line("out_dtype = {}", quoted(info(*recipe_.out_dtype).config_name));
        if (recipe_.tokenizer_source) line("tokenizer_source = {}", quoted(*recipe_.tokenizer_source));
        if (recipe_.compat == Compat::paper) line("compat = \"paper\"");
        if (recipe_.seed > uint64_t(INT64_MAX))
            line("seed = \"{}\"", recipe_.seed);
        else if (recipe_.seed != 0)
            line("seed = {}", recipe_.seed);
        write_parameters(recipe_.parameters, "parameters");
        for (const SourceEntry& entry : recipe_.models) write_entry(entry, "models");
        for (const OutputSlice& slice : recipe_.slices) {
            line("\n[[slices]]");
            if (slice.base_model) line("base_model = {}", quoted(*slice.base_model));
            write_parameters(slice.parameters, "slices.parameters");
            for (const SourceEntry& entry : slice.sources) write_entry(entry, "slices.sources");
        }
        return std::move(text_);
    }

  private:
    template <class... Arguments>
    void line(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
        fmt::format_to(std::back_inserter(text_), format, std::forward<Arguments>(arguments)...);
        text_ += '\n';
    }

    void write_entry(const SourceEntry& entry, std::string_view table) {
        line("\n[[{}]]", table);
        line("model = {}", quoted(entry.model));
        if (entry.layer_range) line("layer_range = [{}, {}]", entry.layer_range->first, entry.layer_range->second);
        if (entry.group >= 0) line("group = {}", entry.group);
        write_parameters(entry.parameters, fmt::format("{}.parameters", table));
    }

    void write_parameters(const Parameters& parameters, std::string_view table) {
        if (parameters.empty()) return;
        line("\n[{}]", table);
        for (const auto& [name, parameter] : parameters) {
            const Field& field = field_of(method_, name);
            if (is_plain(parameter)) {
                line("{} = {}", name, gradient_text(field, parameter.entries[0].gradient));
                continue;
            }
            line("{} = [", name);
            for (const ParameterEntry& entry : parameter.entries) {
                const std::string filter =
                    entry.filter.empty() ? "" : fmt::format("filter = {}, ", quoted(entry.filter));
                line("    {{ {}value = {} }},", filter, gradient_text(field, entry.gradient));
            }
            line("]");
        }
    }

    const Recipe& recipe_;
    const MethodInfo& method_;
    std::string text_;
};

class YamlWriter {
  public:
    explicit YamlWriter(const Recipe& recipe) : recipe_(recipe), method_(method_of(recipe)) {}

    std::string write() && {
        refuse_what_mergekit_lacks();
        line(0, "merge_method: {}", recipe_.method);
        if (recipe_.base_model) line(0, "base_model: {}", word(*recipe_.base_model));
        if (!recipe_.models.empty()) line(0, "models:");
        for (const SourceEntry& entry : recipe_.models) write_entry(entry, 2);
        if (!recipe_.slices.empty()) line(0, "slices:");
        for (const OutputSlice& slice : recipe_.slices) {
            line(2, "- sources:");
            for (const SourceEntry& entry : slice.sources) write_entry(entry, 6);
            if (slice.base_model) line(4, "base_model: {}", word(*slice.base_model));
            write_parameters(slice.parameters, 4);
        }
        write_parameters(recipe_.parameters, 0);
        if (recipe_.dtype) line(0, "dtype: {}", info(*recipe_.dtype).config_name);
        if (recipe_.out_dtype) line(0, "out_dtype: {}", info(*recipe_.out_dtype).config_name);
        if (recipe_.tokenizer_source) line(0, "tokenizer_source: {}", word(*recipe_.tokenizer_source));
        return std::move(text_);
    }

  private:
    template <class... Arguments>
    void line(int indent, fmt::format_string<Arguments...> format, Arguments&&... arguments) {
        text_.append(size_t(indent), ' ');
        fmt::format_to(std::back_inserter(text_), format, std::forward<Arguments>(arguments)...);
        text_ += '\n';
    }

    void refuse_what_mergekit_lacks() const {
        check(recipe_.compat == Compat::mergekit,
              "compat = \"paper\" cannot be said in mergekit's YAML: keep the TOML form");
        check(recipe_.seed == 0,
              "seed = {} cannot be said in mergekit's YAML: keep the TOML form, or set the seed to 0", recipe_.seed);
        for (const std::optional<Dtype>& dtype : {recipe_.dtype, recipe_.out_dtype})
            if (dtype && *dtype != Dtype::f16 && *dtype != Dtype::bf16 && *dtype != Dtype::f32)
                fail("dtype {} cannot be said in mergekit's YAML (float32, float16, bfloat16): keep the TOML form",
                     info(*dtype).config_name);
        check(recipe_.groups() == 0, "groups of models cannot be said in mergekit's YAML: keep the TOML form");
        for (const OutputSlice& slice : recipe_.slices)
            for (const SourceEntry& entry : slice.sources)
                check(entry.layer_range.has_value(),
                      "{} in slices has no layer_range, which mergekit's YAML requires: add it", entry.model);
    }

    /// Without quotes only what no reader takes for anything but a string.
    static std::string word(std::string_view text) {
        const auto plain = [](char letter) {
            return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
                   (letter >= '0' && letter <= '9') || letter == '_' || letter == '-' || letter == '.' || letter == '/';
        };
        const bool path = text.find('/') != text.npos && (text[0] == '/' || text[0] == '.' || (text[0] | 0x20) >= 'a');
        if (path && std::all_of(text.begin(), text.end(), plain)) return std::string(text);
        if (text == "base") return "base";
        return quoted(text);
    }

    void write_entry(const SourceEntry& entry, int indent) {
        line(indent, "- model: {}", word(entry.model));
        if (entry.layer_range)
            line(indent + 2, "layer_range: [{}, {}]", entry.layer_range->first, entry.layer_range->second);
        write_parameters(entry.parameters, indent + 2);
    }

    void write_parameters(const Parameters& parameters, int indent) {
        if (parameters.empty()) return;
        line(indent, "parameters:");
        for (const auto& [name, parameter] : parameters) {
            const Field& field = field_of(method_, name);
            if (is_plain(parameter)) {
                line(indent + 2, "{}: {}", name, gradient_text(field, parameter.entries[0].gradient));
                continue;
            }
            line(indent + 2, "{}:", name);
            for (const ParameterEntry& entry : parameter.entries) {
                if (!entry.filter.empty()) line(indent + 4, "- filter: {}", quoted(entry.filter));
                line(indent + (entry.filter.empty() ? 4 : 6), "{}value: {}", entry.filter.empty() ? "- " : "",
                     gradient_text(field, entry.gradient));
            }
        }
    }

    const Recipe& recipe_;
    const MethodInfo& method_;
    std::string text_;
};

}  // namespace

std::string recipe_to_toml(const Recipe& recipe) { return TomlWriter(recipe).write(); }

std::string recipe_to_yaml(const Recipe& recipe) { return YamlWriter(recipe).write(); }

}  // namespace amalgam
