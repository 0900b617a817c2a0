// The table of the optimisers: what configuration, help and documentation know of them.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "src/search/optimiser.h"

namespace amalgam {

/// A setting that a user may give; its default is what OptimiserSettings holds.
struct OptimiserOption {
    using Target = std::variant<bool OptimiserSettings::*, int64_t OptimiserSettings::*, double OptimiserSettings::*,
                                Restarts OptimiserSettings::*>;
    std::string_view name;
    Target target;
    double low, high;  ///< inclusive range of valid numbers
    std::string_view help;
};

struct OptimiserInfo {
    std::string_view name;
    std::string_view summary;  ///< one sentence for help and documentation
    std::string_view source;   ///< origin of the formulas
    bool needs_bounds;         ///< every gene has finite bounds
    bool many_objectives;      ///< looks for a front; the others rank by the first objective, then the second
    bool learns_from_guests;   ///< injected genomes move what it draws next
    std::span<const OptimiserOption* const> options;
    std::unique_ptr<Optimiser> (*make)(std::vector<Gene> genes, const OptimiserSettings& settings);
};

/// Every optimiser, in the order of the documentation.
std::span<const OptimiserInfo> all_optimisers();

/// The optimiser called `name`. Throws Error naming the nearest.
const OptimiserInfo& find_optimiser(std::string_view name);

/// Sets an option from its text ("true", "ipop", "24", "0.5"). Throws Error if the optimiser has no such option or the
/// value is not valid.
void set_option(OptimiserSettings& settings, const OptimiserInfo& optimiser, std::string_view option,
                std::string_view value);

/// Default of an option as set_option() reads it.
std::string default_text(const OptimiserOption& option);

/// The tables as documentation has them: optimisers, then options.
std::string optimisers_markdown();

}  // namespace amalgam
