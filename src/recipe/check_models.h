// Whether models whose tensors fit are of one kind: their configurations, and the shapes of layers that are stacked.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "src/plan/tensor_task.h"
#include "src/recipe/part.h"

namespace amalgam {

/// "ties.toml:12" of a member's entry, else of its slice, else of the base.
std::string member_place(const Recipe& recipe, const OutputPart& part, const PartMember& member);

/// Settings of the models that take part and of the donor of the result's config.json that make tensors of one shape mean
/// different things: a warning for all models with the same differences.
std::vector<std::string> setting_warnings(const Recipe& recipe, std::span<const OutputPart> parts,
                                          const std::vector<OpenModel>& models, int donor);

/// Throws Error if layers of the parts cannot lie in one model: one config.json gives one size to all. Models that have
/// layers of several shapes are left alone, unless their configs give other sizes.
void check_stack(const Recipe& recipe, std::span<const OutputPart> parts, const std::vector<OpenModel>& models);

/// Throws Error if the first part's embedding and the last part's head are of different vocabularies. Returns a warning if
/// the first part's models have a head and the last part's have none.
std::vector<std::string> check_stack_ends(const Recipe& recipe, const OutputPart& first, const OutputPart& last,
                                          const std::vector<OpenModel>& models, const std::vector<TensorTask>& tasks);

}  // namespace amalgam
