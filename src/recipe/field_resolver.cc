#include "src/recipe/field_resolver.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"

namespace amalgam {

std::string recipe_place(const Recipe& recipe, int line) {
    const std::string file = recipe.path.empty() ? "recipe" : printable(recipe.path);
    return line > 0 ? fmt::format("{}:{}", file, line) : file;
}

std::optional<double> parameter_value(const Parameter& parameter, std::string_view name, double t) {
    for (const ParameterEntry& entry : parameter.entries) {
        if (!entry.filter.empty() && name.find(entry.filter) == name.npos) continue;
        const std::vector<double>& gradient = entry.gradient;
        if (gradient.size() == 1) return gradient[0];
        const double scaled = t * double(gradient.size() - 1);
        const size_t below = std::min(size_t(scaled), gradient.size() - 1);
        const size_t above = std::min(below + 1, gradient.size() - 1);
        const double share = scaled - double(below);
        return (1 - share) * gradient[below] + share * gradient[above];
    }
    return std::nullopt;
}

FieldResolver::FieldResolver(const MethodInfo& method, Scope scope, const SourceEntry* entry, const OutputSlice* slice,
                             const Recipe& recipe)
    : method_(method), scope_(scope), entry_(entry), recipe_(recipe) {
    for (size_t i = 0; i < method.fields.size(); ++i)
        if (method.fields[i].scope == scope) levels_[i] = parameter_levels(method.fields[i], entry, slice, recipe);
}

FieldValues FieldResolver::resolve(std::string_view name, double t) const {
    FieldValues values{};
    for (size_t i = 0; i < method_.fields.size(); ++i) {
        const Field& field = method_.fields[i];
        values[i] = field.scope == scope_ ? resolve_field(int(i), name, t) : field.default_value;
    }
    return values;
}

double FieldResolver::resolve_field(int index, std::string_view name, double t) const {
    const Field& field = method_.fields[index];
    for (const Parameter* parameter : levels_[index].levels) {
        if (!parameter) continue;
        // Interpolation may leave the range of its ends by a rounding error.
        if (const std::optional<double> value = parameter_value(*parameter, name, t))
            return std::clamp(*value, field.low, field.high);
    }
    if (!field.required) return field.default_value;
    int line = entry_ ? entry_->line : 0;
    for (const Parameter* parameter : levels_[index].levels)
        if (parameter) line = parameter->line;
    fail("{}: parameter {}{}{} has no value for tensor \"{}\": no filter fits; add an entry without a filter",
         recipe_place(recipe_, line), field.name, entry_ ? " of " : "", entry_ ? printable(entry_->model) : "",
         printable(name));
}

}  // namespace amalgam
