#include "src/recipe/value.h"

namespace amalgam {

const Value* Value::find(std::string_view key) const {
    for (const Member& member : members)
        if (member.key == key) return &member.value;
    return nullptr;
}

Value* Value::find(std::string_view key) { return const_cast<Value*>(static_cast<const Value*>(this)->find(key)); }

std::string_view Value::kind_text() const {
    switch (kind) {
        case Kind::null: return "nothing";
        case Kind::boolean: return "a boolean";
        case Kind::integer: return "an integer";
        case Kind::number: return "a number";
        case Kind::string: return "a string";
        case Kind::list: return "a list";
        case Kind::table: return "a table";
        case Kind::other: break;
    }
    return text;
}

}  // namespace amalgam
