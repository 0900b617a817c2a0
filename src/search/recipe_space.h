// From genomes to recipes: numbers of a method, and paths through layers.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/recipe/recipe.h"
#include "src/search/optimiser.h"
#include "src/search/search_config.h"

namespace amalgam {

/// Pure: a genome always gives the same recipe.
class RecipeSpace {
  public:
    virtual ~RecipeSpace() = default;
    virtual const std::vector<Gene>& genes() const = 0;
    /// A whole recipe, as if read from a file.
    virtual Recipe recipe(const std::vector<double>& genome) const = 0;
    /// The genome whose recipe is nearest to this one; for recipes made by hand.
    virtual std::vector<double> genome(const Recipe& recipe) const = 0;
    /// Genes that this genome's recipe does not depend on; empty: none.
    virtual std::vector<bool> idle(const std::vector<double>& /*genome*/) const { return {}; }
    /// What is taken from its objective.
    virtual double penalty(const std::vector<double>& /*genome*/) const { return 0; }
};

/// Numbers of the method: fields x models x layer groups x filters, in that order, and whether each model takes part.
/// `layers`: of the output. Throws Error for what the method cannot do.
std::unique_ptr<RecipeSpace> make_parameter_space(const SearchConfig& config, int64_t layers);

/// Each two models at weight 1 and all others at 0, in the order of the models.
std::vector<Recipe> pairs_of_models(const Recipe& recipe);

/// A model whose layers a path may take.
struct PathModel {
    std::string reference;
    int64_t layers = 0;
};

/// The model whose tokenizer files the merges of a path have: that of [merge]; nothing: the first layer's model.
std::optional<std::string> path_tokenizer(const SearchConfig& config);

/// Slots: the layers of all models in order, `repeats` times; a slot is on or off. With fixed ends, the first and the last
/// layer of the first model begin and end every path; without, a path of no slot at all is the first model's first layer.
/// Inputs of layers may be scaled (input_scales.h). The path becomes a recipe of slices: a scaled input divides o_proj and
/// down_proj by the cumulative scale, so that an ordinary checkpoint computes the same.
std::unique_ptr<RecipeSpace> make_path_space(const SearchConfig& config, std::vector<PathModel> models);

}  // namespace amalgam
