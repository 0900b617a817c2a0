// What a search looks for: the text of a search file, checked; models and tasks are not opened yet.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/base/files.h"
#include "src/recipe/recipe.h"

namespace amalgam {

/// One kind of number that is searched for: a field of the method, of every model if the field is one of models.
struct GeneField {
    std::string name;
    double low = 0, high = 1, start = 0.5;
    double sigma = 0;      ///< first standard deviation
    int layer_groups = 1;  ///< numbers over the depth
    bool smooth = false;   ///< interpolated over the layers between these numbers; else constant in each group
    std::vector<std::string>
        filters;  ///< a number of its own for tensors whose name contains one; and one for the rest
    int line = 0;
};

enum class SearchSpace {
    parameters,  ///< numbers of a method (PS)
    data_flow,   ///< a path through the layers of the models (DFS)
    both,        ///< PS, and then DFS with the PS winner among the models
};

/// What the inputs of layers are scaled by; formulas in input_scales.h.
enum class ScaleKind {
    none,
    slots,     ///< a number for each slot
    low_rank,  ///< a product of numbers of the layers that an input comes from and goes to
    network,   ///< a small network that looks at both layers and the slot
};

/// The path of a data-flow search.
struct DataFlow {
    int repeats = 1;         ///< the layers of all models in order, so many times
    bool fixed_ends = true;  ///< the first model's first and last layer begin and end a path
    /// Probabilities of slots in the first generation: of the first model in the first pass, and of all others.
    double likely = 0.7, unlikely = 0.3;
    ScaleKind scales = ScaleKind::none;
    double scale_low = 0.5, scale_high = 1.5;
    int scale_rank = 1;       ///< of low_rank
    int scale_hidden = 8;     ///< units of each of the two layers of the network
    double cost = 0;          ///< taken from the objective for each layer beyond those of the first model
    int most_layers = 0;      ///< of a path; 0: no limit
    int64_t evaluations = 0;  ///< of space = "both": those of the data-flow search
    bool operator==(const DataFlow&) const = default;
};

struct SearchTask {
    std::string search, heldout, validation;  ///< files; "" if there is none
    std::optional<double> weight;
};

struct SearchConfig {
    std::string path, text;
    std::string root;                      ///< of relative names of models and tasks; "": the working directory
    Recipe recipe;                         ///< with every searched field at its start
    std::vector<std::string> model_names;  ///< of its models, distinct
    SearchSpace space = SearchSpace::parameters;
    std::vector<GeneField> genes;
    bool choose_models = false;  ///< whether a model takes part is a gene of its own
    DataFlow data_flow;
    std::vector<SearchTask> tasks;

    std::string optimiser = "cma";
    std::vector<std::pair<std::string, std::string>> options;  ///< of the optimiser: name and text of the value
    int64_t evaluations = 600;
    double seconds = 0;  ///< 0: no limit
    uint64_t seed = 0;
    double tie_breaker = 0.1;  ///< share of the mean answer log-likelihood in the objective
    bool mean_genome = true;   ///< means of the distribution and of best candidates are contenders for the winner
    bool pairs = false;        ///< candidates of the first generations: pairs_of_models
    bool surrogate = false;    ///< a guess of surrogate_guess takes part in each generation
    int finalists = 5;         ///< best candidates that are compared in the end
    int64_t racing = 0;  ///< items of a round, after which who is clearly worse is asked no more; 0: all are asked all
    double racing_level = 0.05;  ///< probability that one is sent off who would have been as good
    double lease = 600;          ///< seconds without an answer after which a group is lost; or 20 times the median
    double quorum = 1;           ///< share of a generation to wait for; 1: all (barrier)
    bool public_tests = false;   ///< files that look like public test sets may be searched on
    std::vector<std::string> hand_made_files;
    std::vector<Recipe> hand_made;  ///< injected into the first generation; by read_search()
    std::vector<std::string> warnings;
};

/// Throws Error "file:line: key: reason".
SearchConfig read_search(Files& files, const std::string& path, const RecipeOptions& options = {});
SearchConfig parse_search(const std::string& text, const std::string& path, const RecipeOptions& options = {});

/// A relative name below the search's root.
std::string below_root(const SearchConfig& config, const std::string& name);

}  // namespace amalgam
