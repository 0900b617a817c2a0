// The only includer of toml++.
#include <toml++/toml.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "src/base/error.h"
#include "src/recipe/value.h"

namespace amalgam {
namespace {

// toml++ bounds the nesting of brackets but not of dotted keys, whose tables are destroyed recursively.
constexpr int max_dots = 32;

/// Walks over the text without building anything and refuses what would cost too much memory or stack.
class Bounds {
  public:
    Bounds(std::string_view text, const std::string& file) : text_(text), file_(file) {}

    void check_all() {
        while (at_ < text_.size()) {
            const char letter = text_[at_];
            if (letter == '"' || letter == '\'')
                skip_string(letter);
            else if (letter == '#')
                skip_comment();
            else
                count(letter);
        }
    }

  private:
    void count(char letter) {
        ++at_;
        switch (letter) {
            case '.':
                check(++dots_ <= max_dots, "{}:{}: a key of more than {} parts: recipes have no such keys", file_,
                      line_, max_dots);
                return;
            case '\n': ++line_; break;
            case '[':
            case '{':
                check(++depth_ <= max_recipe_depth, "{}:{}: nested more than {} levels deep: recipes are flat", file_,
                      line_, max_recipe_depth);
                break;
            case ']':
            case '}':
                if (depth_ > 0) --depth_;
                break;
            case '=':
            case ',': break;
            default: return;
        }
        dots_ = 0;
        if (letter != '\n')
            check(++values_ <= max_recipe_values, "{}:{}: more than {} values: split the recipe", file_, line_,
                  max_recipe_values);
    }

    void skip_comment() { at_ = std::min(text_.find('\n', at_), text_.size()); }

    void skip_string(char quote) {
        const std::string three(3, quote);
        const bool many_lines = text_.substr(at_).starts_with(three);
        at_ += many_lines ? 3 : 1;
        while (at_ < text_.size()) {
            const char letter = text_[at_];
            if (letter == '\\' && quote == '"') {
                if (at_ + 1 < text_.size() && text_[at_ + 1] == '\n') ++line_;
                at_ += 2;
            } else if (letter == '\n') {
                if (!many_lines) return;  // toml++ will say what is wrong
                ++line_;
                ++at_;
            } else if (letter == quote && !many_lines) {
                ++at_;
                return;
            } else if (letter == quote && text_.substr(at_).starts_with(three)) {
                at_ += 3;
                for (int more = 0; more < 2 && at_ < text_.size() && text_[at_] == quote; ++more) ++at_;
                return;
            } else {
                ++at_;
            }
        }
    }

    std::string_view text_;
    const std::string& file_;
    size_t at_ = 0;
    int line_ = 1, dots_ = 0, depth_ = 0;
    int64_t values_ = 0;
};

Value convert(const toml::node& node);

void convert_members(const toml::table& table, Value& value) {
    value.members.reserve(table.size());
    for (const auto& [key, child] : table)
        value.members.push_back({std::string(key.str()), int(key.source().begin.line), convert(child)});
    // toml++ sorts keys; messages should come in the order of the file.
    std::stable_sort(value.members.begin(), value.members.end(),
                     [](const Value::Member& a, const Value::Member& b) { return a.line < b.line; });
}

Value convert(const toml::node& node) {
    Value value;
    value.line = std::max(1, int(node.source().begin.line));
    switch (node.type()) {
        case toml::node_type::table:
            value.kind = Value::Kind::table;
            convert_members(*node.as_table(), value);
            break;
        case toml::node_type::array:
            value.kind = Value::Kind::list;
            value.items.reserve(node.as_array()->size());
            for (const toml::node& item : *node.as_array()) value.items.push_back(convert(item));
            break;
        case toml::node_type::string:
            value.kind = Value::Kind::string;
            value.text = node.as_string()->get();
            break;
        case toml::node_type::integer:
            value.kind = Value::Kind::integer;
            value.integer = node.as_integer()->get();
            break;
        case toml::node_type::floating_point:
            value.kind = Value::Kind::number;
            value.number = node.as_floating_point()->get();
            break;
        case toml::node_type::boolean:
            value.kind = Value::Kind::boolean;
            value.boolean = node.as_boolean()->get();
            break;
        default: value.kind = Value::Kind::other; value.text = "a date or time";
    }
    return value;
}

void set_lines(Value& value, int line) {
    value.line = line;
    for (Value& item : value.items) set_lines(item, line);
    for (Value::Member& member : value.members) {
        member.line = line;
        set_lines(member.value, line);
    }
}

std::optional<Value> parse_single_value(const std::string& text) {
    if (text.find('\n') != std::string::npos) return std::nullopt;
    try {
        const std::string assignment = "value = " + text;
        Bounds(assignment, text).check_all();
        const toml::table table = toml::parse(assignment);
        if (table.size() == 1 && table.contains("value")) return convert(*table.get("value"));
    } catch (const toml::parse_error&) {
        // Not a TOML value: a string without quotes, the usual way to give a path or a name.
    }
    return std::nullopt;
}

}  // namespace

Value parse_toml(const std::string& text, const std::string& file) {
    check(text.size() <= max_recipe_bytes, "{}: {} bytes: a recipe has at most {}", file, text.size(),
          max_recipe_bytes);
    Bounds(text, file).check_all();
    try {
        return convert(toml::parse(std::string_view(text)));
    } catch (const toml::parse_error& error) {
        fail("{}:{}: not valid TOML: {}", file, error.source().begin.line, error.description());
    }
}

Value parse_override_value(const std::string& text, int line) {
    Value value;
    if (std::optional<Value> parsed = parse_single_value(text)) {
        value = std::move(*parsed);
        const bool scalar = value.kind == Value::Kind::boolean || value.kind == Value::Kind::integer ||
                            value.kind == Value::Kind::number || value.kind == Value::Kind::other;
        if (scalar) {
            value.text = text;
            value.loose = true;
        }
    } else {
        value.kind = Value::Kind::string;
        value.text = text;
        value.loose = true;
    }
    set_lines(value, line);
    return value;
}

}  // namespace amalgam
