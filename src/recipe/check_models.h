// Whether models whose tensors fit are of one kind.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "src/recipe/part.h"

namespace amalgam {

/// "ties.toml:12" of a member's entry, else of its slice, else of the base.
std::string member_place(const Recipe& recipe, const OutputPart& part, const PartMember& member);

/// Settings of the models that take part and of the donor of the result's config.json that make tensors of one shape mean
/// different things: a warning for all models with the same differences.
std::vector<std::string> setting_warnings(const Recipe& recipe, std::span<const OutputPart> parts,
                                          const std::vector<OpenModel>& models, int donor);

}  // namespace amalgam
