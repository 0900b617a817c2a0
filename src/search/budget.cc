#include "src/search/budget.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/search/optimisers.h"

namespace amalgam {
namespace {

/// "" if a generation fits in.
std::string check_phase(const SearchConfig& config, const RecipeSpace& space, int64_t budget) {
    const OptimiserInfo& info = find_optimiser(config.optimiser);
    OptimiserSettings settings;
    for (const auto& [name, value] : config.options) set_option(settings, info, name, value);
    const auto optimiser = make_optimiser(config.optimiser, space.genes(), settings);
    if (!info.learns_from_guests) return "";
    const int64_t drawn = budget - count_means(config, *optimiser, budget);
    const auto generation = int64_t(optimiser->ask().size());
    if (generation <= drawn) return "";
    return fmt::format(
        "{}: a generation has {} candidates, but there are evaluations for {}: {} never learns from them; set "
        "search.evaluations to more, or search.options.population to less",
        printable(config.path), generation, drawn, config.optimiser);
}

}  // namespace

int64_t count_means(const SearchConfig& config, const Optimiser& optimiser, int64_t budget) {
    if (!config.mean_genome || optimiser.mean().empty() || budget < 2) return 0;
    return 1 + std::count_if(std::begin(averaged), std::end(averaged),
                             [&](size_t best) { return budget >= 8 * int64_t(best); });
}

std::vector<std::string> check_budget(const SearchInputs& inputs) {
    const SearchConfig& config = inputs.config;
    const int64_t later = config.space == SearchSpace::both ? config.data_flow.evaluations : 0;
    std::vector<std::string> warnings;
    if (config.space != SearchSpace::data_flow)
        warnings.push_back(
            check_phase(config, *make_parameter_space(config, inputs.layers), config.evaluations - later));
    if (config.space != SearchSpace::parameters) {
        std::vector<PathModel> models = inputs.sources;
        if (later > 0) models.insert(models.begin(), {"ps-best", inputs.layers});
        warnings.push_back(
            check_phase(config, *make_path_space(config, models), later > 0 ? later : config.evaluations));
    }
    std::erase(warnings, "");
    return warnings;
}

}  // namespace amalgam
