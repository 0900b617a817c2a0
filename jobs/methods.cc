// amalgam methods: what the merge methods are and what they take, from their own tables.
#include "kernels/methods.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "jobs/commands.h"
#include "jobs/table.h"
#include "src/base/nearest.h"

namespace amalgam {
namespace {

using Json = nlohmann::ordered_json;

constexpr Positional positionals[] = {{"NAME", "a method; without it, all of them are listed", 0, 1}};
constexpr Option options[] = {
    {"markdown", "", "the whole reference as Markdown"},
    {"json", "", "as JSON"},
};
constexpr std::string_view examples =
    "amalgam methods\n"
    "amalgam methods ties";

std::string_view base_text(BaseUse base) {
    switch (base) {
        case BaseUse::none: return "not used, unless it is listed as a model";
        case BaseUse::ordinary: return "a model like the others, whether it is listed or not";
        case BaseUse::optional: return "optional: with it, task vectors are merged";
        case BaseUse::required: return "required: what task vectors are counted from";
        case BaseUse::member: return "required, and one of the two models";
    }
    return "";
}

std::string_view shape_text(Shape shape) {
    switch (shape) {
        case Shape::fold: return "fold: element by element";
        case Shape::blend:
            return "blend: a linear combination whose coefficients follow from dot products of the tensors";
        case Shape::select: return "select: element by element, after a look at whole rows or tensors";
        case Shape::copy: return "copy: no arithmetic, unless scaled";
    }
    return "";
}

/// Slerp and its like merge the base with one more.
std::string models_text(const MethodInfo& method) {
    if (method.base == BaseUse::member) return "the base and one more";
    if (method.max_models == 0) return fmt::format("{} or more", method.min_models);
    if (method.min_models == method.max_models) return fmt::format("exactly {}", method.min_models);
    return fmt::format("{} to {}", method.min_models, method.max_models);
}

std::string value_text(const Field& field, double value) {
    if (field.kind == FieldKind::boolean) return value != 0 ? "true" : "false";
    return number_text(value);
}

std::string default_text(const Field& field) {
    if (field.required) return "required";
    return std::isnan(field.default_value) ? "none" : value_text(field, field.default_value);
}

std::string range_text(const Field& field) {
    if (field.kind == FieldKind::boolean) return "true or false";
    const std::string kind = field.kind == FieldKind::integer ? "whole number" : "number";
    if (std::isinf(field.low) && std::isinf(field.high)) return kind;
    if (std::isinf(field.high)) return fmt::format("{}, at least {}", kind, number_text(field.low));
    return fmt::format("{} from {} to {}", kind, number_text(field.low), number_text(field.high));
}

std::string_view scope_text(const Field& field) { return field.scope == Scope::per_model ? "each model" : "the whole"; }

// ---- text

std::string list_text() {
    Table table("ll");
    for (const MethodInfo* method : all_methods) table.add({std::string(method->name), std::string(method->summary)});
    return "Merge methods:\n\n" + table.text("  ") + "\namalgam methods NAME shows what a method takes.\n";
}

std::string method_text(const MethodInfo& method) {
    std::string text = fmt::format("{}: {}\n\n", method.name, method.summary);
    Table facts("ll");
    facts.add({"source", std::string(method.source)});
    facts.add({"models", models_text(method)});
    facts.add({"base", std::string(base_text(method.base))});
    facts.add({"kind", std::string(shape_text(method.shape))});
    if (!method.mergekit_rules.empty()) facts.add({"compat = mergekit", std::string(method.mergekit_rules)});
    if (!method.paper_rules.empty()) facts.add({"compat = paper", std::string(method.paper_rules)});
    text += facts.text();
    if (method.fields.empty()) return text + "\nIt has no parameters.\n";
    Table fields("lllll");
    fields.add({"parameter", "of", "value", "default", ""});
    for (const Field& field : method.fields)
        fields.add({std::string(field.name), std::string(scope_text(field)), range_text(field), default_text(field),
                    std::string(field.help)});
    return text + "\n" + fields.text();
}

// ---- Markdown

constexpr std::string_view markdown_head =
    "# Merge methods\n"
    "\n"
    "Made by `amalgam methods --markdown` from the methods' own tables; the same text is behind `amalgam methods "
    "NAME`.\n"
    "\n"
    "A parameter of *each model* may stand at a model, or at a slice or the whole recipe for all of them; one of *the "
    "whole* at a\n"
    "slice or the whole recipe. Any of them may be a number, a list of numbers (interpolated over the layers), or a "
    "list of\n"
    "`filter` and `value` (the first filter that is part of the tensor's name counts).\n"
    "\n";

std::string anchor(std::string_view name) { return fmt::format("[{}](#{})", name, name); }

std::string method_markdown(const MethodInfo& method) {
    std::string text = fmt::format("## {}\n\n{}\n\n", method.name, method.summary);
    text += fmt::format("- Source: {}\n- Models: {}\n- Base: {}\n- Kind: {}\n", method.source, models_text(method),
                        base_text(method.base), shape_text(method.shape));
    if (!method.mergekit_rules.empty()) text += fmt::format("- `compat = \"mergekit\"`: {}\n", method.mergekit_rules);
    if (!method.paper_rules.empty()) text += fmt::format("- `compat = \"paper\"`: {}\n", method.paper_rules);
    text += "\n";
    if (method.fields.empty()) return text + "It has no parameters.\n\n";
    text += "| parameter | of | value | default | meaning |\n|---|---|---|---|---|\n";
    for (const Field& field : method.fields)
        text += fmt::format("| `{}` | {} | {} | {} | {} |\n", field.name, scope_text(field), range_text(field),
                            default_text(field), field.help);
    return text + "\n";
}

std::string markdown(std::span<const MethodInfo* const> methods) {
    std::string text(markdown_head);
    text += "| method | what it does |\n|---|---|\n";
    for (const MethodInfo* method : methods)
        text += fmt::format("| {} | {} |\n", anchor(method->name), method->summary);
    text += "\n";
    for (const MethodInfo* method : methods) text += method_markdown(*method);
    text.pop_back();
    return text;
}

// ---- JSON

Json bound(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json field_json(const Field& field) {
    constexpr const char* kinds[] = {"number", "integer", "boolean"};
    Json json = {{"name", field.name},
                 {"scope", field.scope == Scope::per_model ? "per_model" : "global"},
                 {"kind", kinds[int(field.kind)]},
                 {"required", field.required}};
    json["default"] = field.required ? Json(nullptr) : bound(field.default_value);
    json["low"] = bound(field.low);
    json["high"] = bound(field.high);
    json["search"] = {bound(field.search_low), bound(field.search_high)};
    json["help"] = field.help;
    return json;
}

Json method_json(const MethodInfo& method) {
    constexpr const char* shapes[] = {"fold", "blend", "select", "copy"};
    constexpr const char* bases[] = {"none", "ordinary", "optional", "required", "member"};
    Json json = {{"name", method.name},
                 {"summary", method.summary},
                 {"source", method.source},
                 {"shape", shapes[int(method.shape)]},
                 {"base", bases[int(method.base)]},
                 {"min_models", method.min_models}};
    json["max_models"] = method.max_models == 0 ? Json(nullptr) : Json(method.max_models);
    json["compat"] = {{"mergekit", method.mergekit_rules}, {"paper", method.paper_rules}};
    json["fields"] = Json::array();
    for (const Field& field : method.fields) json["fields"].push_back(field_json(field));
    return json;
}

// ----

std::vector<const MethodInfo*> chosen_methods(const Arguments& arguments) {
    if (arguments.positionals.empty()) return {all_methods.begin(), all_methods.end()};
    const std::string& name = arguments.positionals[0];
    if (const MethodInfo* method = find_method(name)) return {method};
    std::vector<std::string_view> names;
    for (const MethodInfo* method : all_methods) names.push_back(method->name);
    fail("there is no method \"{}\"{}", printable(name, 100), did_you_mean(name, names));
}

int run(const Arguments& arguments) {
    const std::vector<const MethodInfo*> methods = chosen_methods(arguments);
    if (arguments.has("json")) {
        Json json = Json::array();
        for (const MethodInfo* method : methods) json.push_back(method_json(*method));
        print_out(json.dump(2) + "\n");
    } else if (arguments.has("markdown")) {
        print_out(markdown(methods));
    } else {
        print_out(arguments.positionals.empty() ? list_text() : method_text(*methods[0]));
    }
    return 0;
}

}  // namespace

const Command methods_command = {
    "methods", "List the merge methods, or show one with its parameters", "", positionals, options, examples, false,
    run};

}  // namespace amalgam
