#include "src/recipe/read_parameters.h"

#include <cmath>

#include "kernels/methods.h"

namespace amalgam {
namespace {

class FieldReader {
  public:
    FieldReader(const Field& field, Reporter& reporter) : field_(field), reporter_(reporter) {}

    Parameter read(const Value& value) {
        Parameter parameter;
        parameter.line = Reporter::public_line(value.line);
        if (value.kind == Value::Kind::table) {
            // mergekit accepts a mapping outside a list and then crashes; the meaning is clear.
            parameter.entries.push_back(read_filtered(value));
        } else if (value.kind == Value::Kind::list && !value.items.empty() &&
                   value.items[0].kind == Value::Kind::table) {
            for (const Value& item : value.items) {
                if (item.kind != Value::Kind::table)
                    reporter_.fail_at(item.line, "{}: a list mixes {} with {{filter, value}} entries", field_.name,
                                      item.kind_text());
                parameter.entries.push_back(read_filtered(item));
            }
        } else {
            parameter.entries.push_back({"", read_gradient(value)});
        }
        return parameter;
    }

  private:
    ParameterEntry read_filtered(const Value& table) {
        reporter_.check_keys(table, {"filter", "value"});
        ParameterEntry entry;
        const Value* filter = table.find("filter");
        if (filter && filter->kind != Value::Kind::null) entry.filter = read_string(*filter, "filter", reporter_);
        if (entry.filter == "*") entry.filter.clear();
        const Value* value = table.find("value");
        if (!value) reporter_.fail_at(table.line, "{}: an entry of a filter list needs a value", field_.name);
        entry.gradient = read_gradient(*value);
        return entry;
    }

    std::vector<double> read_gradient(const Value& value) {
        if (value.kind != Value::Kind::list) return {read_number(value)};
        if (value.items.empty())
            reporter_.fail_at(value.line, "{}: an empty list: give at least one number", field_.name);
        std::vector<double> gradient;
        gradient.reserve(value.items.size());
        for (const Value& item : value.items) gradient.push_back(read_number(item));
        if (field_.kind != FieldKind::number && gradient.size() > 1)
            reporter_.fail_at(
                value.line,
                "{}: a list of numbers is a gradient over the layers, and {} is {}: give one value, or filters",
                field_.name, field_.name, field_.kind == FieldKind::boolean ? "true or false" : "an integer");
        return gradient;
    }

    double read_number(const Value& value) {
        const std::string text = shown(value);
        std::optional<double> number = as_number(value);
        if (!number && value.kind == Value::Kind::boolean && field_.kind == FieldKind::boolean)
            number = value.boolean ? 1 : 0;
        if (!number)
            reporter_.fail_at(value.line, "{}: must be {}, not {}", field_.name,
                              field_.kind == FieldKind::boolean
                                  ? "true or false"
                                  : "a number, a list of numbers or a list of {filter, value}",
                              text);
        if (!std::isfinite(*number)) refuse(value, text, "must be a finite number");
        if (field_.kind == FieldKind::boolean && *number != 0 && *number != 1)
            refuse(value, text, "must be true or false");
        if (field_.kind == FieldKind::integer && *number != std::floor(*number))
            refuse(value, text, "must be an integer");
        if (*number < field_.low || *number > field_.high) refuse(value, text, "must be " + range_text(field_));
        return *number;
    }

    [[noreturn]] void refuse(const Value& value, const std::string& text, std::string_view why) const {
        fail("{}={} in {} ({})", field_.name, text, reporter_.where(value.line), why);
    }

    static std::string shown(const Value& value) {
        switch (value.kind) {
            case Value::Kind::boolean: return value.boolean ? "true" : "false";
            case Value::Kind::integer: return fmt::format("{}", value.integer);
            case Value::Kind::number: return fmt::format("{}", value.number);
            case Value::Kind::string:
                return value.loose ? printable(value.text, 40) : "\"" + printable(value.text, 40) + "\"";
            default: return std::string(value.kind_text());
        }
    }

    const Field& field_;
    Reporter& reporter_;
};

bool is_field_of_any_method(std::string_view name) {
    for (const MethodInfo* method : all_methods)
        if (method->field(name) >= 0) return true;
    return false;
}

}  // namespace

std::string range_text(const Field& field) {
    if (field.low > -infinity && field.high < infinity) return fmt::format("in [{}, {}]", field.low, field.high);
    if (field.low > -infinity) return fmt::format("at least {}", field.low);
    if (field.high < infinity) return fmt::format("at most {}", field.high);
    return "a number";
}

Parameters read_parameters(const Value* table, const MethodInfo& method, bool at_model, Reporter& reporter) {
    Parameters parameters;
    const Value* checked = read_table(table, "parameters", reporter);
    if (!checked) return parameters;
    std::vector<std::string_view> names;
    for (const Field& field : method.fields) names.push_back(field.name);
    for (const Value::Member& member : checked->members) {
        const int index = method.field(member.key);
        if (index < 0 && has_no_effect(member.key)) {
            reporter.warn(member.line, fmt::format("{} has no effect", member.key));
        } else if (index < 0 && is_field_of_any_method(member.key)) {
            reporter.warn(member.line, fmt::format("{} has no effect with {}", member.key, method.name));
        } else if (index < 0) {
            reporter.unknown_key(member, names, names.empty() ? fmt::format("{} has no parameters", method.name) : "");
        } else if (at_model && method.fields[index].scope == Scope::global) {
            reporter.warn(member.line, fmt::format("{} at a model has no effect: move it to the parameters of the {}",
                                                   member.key, "recipe or of the slice"));
        } else {
            parameters.emplace(member.key, FieldReader(method.fields[index], reporter).read(member.value));
        }
    }
    return parameters;
}

}  // namespace amalgam
