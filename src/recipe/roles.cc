#include "src/recipe/roles.h"

namespace amalgam {
namespace {

std::string_view bare(std::string_view reference) {
    while (reference.starts_with("./") && reference.size() > 2) reference.remove_prefix(2);
    while (reference.size() > 1 && reference.ends_with('/')) reference.remove_suffix(1);
    return reference;
}

}  // namespace

bool same_reference(std::string_view a, std::string_view b) { return bare(a) == bare(b); }

Roles assign_roles(const MethodInfo& method, const std::vector<SourceEntry>& entries,
                   const std::optional<std::string>& base, bool in_slice) {
    Roles roles;
    const bool other_than_inputs =
        method.base == BaseUse::optional || method.base == BaseUse::required || method.base == BaseUse::member;
    roles.origin = base && other_than_inputs;
    for (int i = 0; i < int(entries.size()); ++i) {
        const bool is_base = base && same_reference(entries[i].model, *base);
        if (is_base && roles.base < 0) roles.base = i;
        // A second mention of the base is another entry where the base is one of the two models, and the origin again
        // elsewhere.
        const bool left_out = roles.origin && is_base && (method.base != BaseUse::member || roles.base == i);
        if (!left_out) roles.inputs.push_back(i);
    }
    roles.appended = base && method.base == BaseUse::ordinary && roles.base < 0 && !in_slice;
    return roles;
}

ParameterLevels parameter_levels(const Field& field, const SourceEntry* entry, const OutputSlice* slice,
                                 const Recipe& recipe) {
    const auto find = [&](const Parameters& parameters) -> const Parameter* {
        const auto found = parameters.find(std::string(field.name));
        return found == parameters.end() ? nullptr : &found->second;
    };
    ParameterLevels result;
    if (entry && field.scope == Scope::per_model) result.levels[0] = find(entry->parameters);
    if (slice) result.levels[1] = find(slice->parameters);
    result.levels[2] = find(recipe.parameters);
    return result;
}

}  // namespace amalgam
