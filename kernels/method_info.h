// What a merge method tells about itself: the one table that recipes, help texts, documentation and the search read.
#pragma once
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

namespace amalgam {

/// Where a field may stand. A per-model field may also be given globally (then for every model);
/// a global field is not looked up at a model.
enum class Scope : uint8_t { global, per_model };

enum class FieldKind : uint8_t { number, integer, boolean };

constexpr double infinity = std::numeric_limits<double>::infinity();

/// One option of a method.
struct Field {
    std::string_view name;
    Scope scope;
    FieldKind kind;
    bool required;                   ///< no default: every non-base model (or the recipe) must give it
    double default_value;            ///< booleans: 0 or 1; NaN of a field that is neither required nor given: absent
    double low, high;                ///< inclusive range of valid values
    double search_low, search_high;  ///< sensible range for a search
    std::string_view help;
};

constexpr int max_fields = 8;

/// Values of a method's fields, by their place in MethodInfo::fields.
using FieldValues = std::array<double, max_fields>;

/// How a method computes (design: fold, blend, select), or a plain copy.
enum class Shape : uint8_t { fold, blend, select, copy };

/// What a method wants with a base model.
enum class BaseUse : uint8_t {
    none,      ///< not part of the arithmetic: ignored with a warning unless it is listed as a model
    ordinary,  ///< an ordinary model, appended if it is not listed
    optional,  ///< origin of task vectors if given; not an input of its own
    required,  ///< origin of task vectors; not an input of its own
    member,    ///< required, and one of the two models (appended if it is not listed)
};

/// How a method of task vectors drops elements.
enum class Trim : uint8_t {
    none,
    magnitude,  ///< keeps the largest
    band,       ///< drops the largest, keeps the next largest
    random,     ///< keeps each with the same probability
    ranked,     ///< keeps each with a probability by its rank within the row
};

struct MethodInfo {
    std::string_view name;
    std::string_view summary;         ///< one sentence for help and documentation
    std::string_view source;          ///< paper or origin of the formula
    std::string_view mergekit_rules;  ///< what compat = "mergekit" does
    std::string_view paper_rules;     ///< what compat = "paper" does differently; "" if nothing
    Shape shape;
    BaseUse base;
    int min_models, max_models;  ///< without the base; max 0: any number
    std::span<const Field> fields;
    Trim trim = Trim::none;  ///< of methods that add task vectors to the base
    bool election = false;   ///< a sign is elected per element before they are added

    /// Place of the field called `name`, or -1.
    constexpr int field(std::string_view wanted) const {
        for (int i = 0; i < int(fields.size()); ++i)
            if (fields[i].name == wanted) return i;
        return -1;
    }
};

}  // namespace amalgam
