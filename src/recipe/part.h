// A run of output layers and the models that make it: the whole output of a recipe with models, one slice of one with
// slices.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/method_info.h"
#include "src/checkpoint/checkpoint.h"
#include "src/recipe/field_resolver.h"
#include "src/recipe/layout.h"
#include "src/recipe/recipe.h"

namespace amalgam {

struct OpenModel {
    std::string reference;
    Checkpoint checkpoint;
    ModelLayout layout;
    int line = 0;  ///< of its first mention in the recipe
};

/// A model in its role.
struct PartMember {
    int model = 0;                       ///< index of the opened models
    int position = 0;                    ///< in the recipe's list; after it if the base is not listed
    const SourceEntry* entry = nullptr;  ///< nullptr: the base, not listed
    int64_t first_layer = 0;
    FieldResolver fields;
};

struct OutputPart {
    const OutputSlice* slice = nullptr;
    std::vector<PartMember> members;  ///< the inputs in recipe order, then the origin
    bool has_origin = false;          ///< the last member is task.base
    int base_input = -1;              ///< the input that is the base, for methods that take it as an ordinary model
    int64_t layers = 0;               ///< length, of a slice
    FieldResolver global;

    int inputs() const { return int(members.size()) - (has_origin ? 1 : 0); }
    /// The member whose integers, dtype and configuration count: the base if it takes part, else the first.
    int leader() const { return has_origin ? int(members.size()) - 1 : base_input >= 0 ? base_input : 0; }
};

/// One tensor of the output before it is checked: what each member has for it.
struct TensorRow {
    std::string name;
    std::string tower;
    int64_t layer = -1;
    double t = 0;                            ///< depth in its slice, for gradients
    std::vector<const TensorInfo*> tensors;  ///< of each member; nullptr: has none
};

}  // namespace amalgam
