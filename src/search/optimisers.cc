#include "src/search/optimisers.h"

#include "src/base/error.h"
#include "src/base/nearest.h"

namespace amalgam {

std::span<const OptimiserInfo> all_optimisers() { return {}; }

const OptimiserInfo& find_optimiser(std::string_view name) {
    std::vector<std::string_view> names;
    for (const OptimiserInfo& info : all_optimisers()) {
        if (info.name == name) return info;
        names.push_back(info.name);
    }
    fail("optimiser \"{}\" is not known{}", printable(name, 100), did_you_mean(name, names));
}

std::unique_ptr<Optimiser> make_optimiser(const std::string& name, std::vector<Gene> genes,
                                          const OptimiserSettings& settings) {
    return find_optimiser(name).make(std::move(genes), settings);
}

}  // namespace amalgam
