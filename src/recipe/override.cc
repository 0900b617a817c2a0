#include <charconv>
#include <vector>

#include "src/base/error.h"
#include "src/base/nearest.h"
#include "src/recipe/value.h"

namespace amalgam {
namespace {

std::vector<std::string_view> parts_of(std::string_view path) {
    std::vector<std::string_view> parts;
    for (size_t begin = 0;;) {
        const size_t dot = path.find('.', begin);
        parts.push_back(path.substr(begin, dot == path.npos ? path.npos : dot - begin));
        if (dot == path.npos) return parts;
        begin = dot + 1;
    }
}

bool is_number(std::string_view part) { return !part.empty() && part.find_first_not_of("0123456789") == part.npos; }

Value& item_of(Value& list, std::string_view part, std::string_view path, const std::string& text) {
    size_t index = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
    if (error != std::errc() || end != part.data() + part.size() || index >= list.items.size())
        fail("--set {}: \"{}\" is no entry of {}, a list of {} (counted from 0)", printable(text), printable(part),
             printable(path), list.items.size());
    return list.items[index];
}

Value& member_of(Value& table, std::string_view part, const std::string& text, int line) {
    if (Value* found = table.find(part)) return *found;
    // The number of a list that is not there: the name before it is what was misspelt.
    if (is_number(part)) {
        std::vector<std::string_view> keys;
        for (const Value::Member& member : table.members) keys.push_back(member.key);
        fail("--set {}: there is no list to take number {} from{}", printable(text), part, did_you_mean(part, keys));
    }
    Value fresh;
    fresh.kind = Value::Kind::null;
    fresh.line = line;
    table.members.push_back({std::string(part), line, std::move(fresh)});
    return table.members.back().value;
}

[[noreturn]] void fail_no_list(const Value& root, std::string_view name, const std::string& text) {
    std::vector<std::string_view> keys;
    for (const Value::Member& member : root.members)
        if (member.value.kind == Value::Kind::list) keys.push_back(member.key);
    fail("--set {}: the recipe has no list \"{}\"{}", printable(text), printable(name), did_you_mean(name, keys));
}

}  // namespace

void apply_override(Value& root, const std::string& override_text, int line) {
    const size_t equals = override_text.find('=');
    check(equals != override_text.npos && equals > 0,
          "--set {}: must be path=value, for instance parameters.lambda=0.7", printable(override_text));
    const std::string_view path = std::string_view(override_text).substr(0, equals);
    const std::vector<std::string_view> parts = parts_of(path);
    check(parts.size() <= size_t(max_recipe_depth), "--set {}: a path of more than {} parts", printable(override_text),
          max_recipe_depth);

    Value* at = &root;
    Value* parent = nullptr;
    for (size_t i = 0; i < parts.size(); ++i) {
        const std::string_view part = parts[i];
        check(!part.empty(), "--set {}: the path has an empty part", printable(override_text));
        const std::string_view walked = path.substr(0, i == 0 ? 0 : size_t(part.data() - path.data()) - 1);
        if (at->kind == Value::Kind::null) {
            if (is_number(part)) fail_no_list(parent ? *parent : root, i == 0 ? part : parts[i - 1], override_text);
            at->kind = Value::Kind::table;
        }
        if (at->kind != Value::Kind::table && at->kind != Value::Kind::list)
            fail("--set {}: {} is {}: nothing is below it", printable(override_text), printable(walked),
                 at->kind_text());
        parent = at;
        at = at->kind == Value::Kind::list ? &item_of(*at, part, walked, override_text)
                                           : &member_of(*at, part, override_text, line);
    }
    *at = parse_override_value(override_text.substr(equals + 1), line);
}

}  // namespace amalgam
