#include "src/search/search_key.h"

#include <xxhash.h>

#include <nlohmann/json.hpp>

#include "src/base/error.h"

namespace amalgam {

std::string text_hash(const std::string& text) {
    return fmt::format("{:016x}", uint64_t(XXH64(text.data(), text.size(), 0)));
}

std::string search_key(const SearchInputs& inputs) {
    using Json = nlohmann::json;
    const SearchConfig& config = inputs.config;
    Json all = {recipe_to_toml(config.recipe),
                int(config.space),
                config.optimiser,
                config.options,
                config.seed,
                config.tie_breaker,
                inputs.layers};
    for (const GeneField& gene : config.genes)
        all.push_back(
            {gene.name, gene.low, gene.high, gene.start, gene.sigma, gene.layer_groups, gene.smooth, gene.filters});
    const DataFlow& flow = config.data_flow;
    for (const Recipe& recipe : config.hand_made) all.push_back(recipe_to_toml(recipe));
    all.push_back({config.choose_models, flow.repeats, flow.fixed_ends, flow.likely, flow.unlikely, int(flow.scales),
                   flow.scale_low, flow.scale_high, flow.scale_rank, flow.scale_hidden, flow.cost, flow.most_layers});
    all.push_back({config.racing, config.racing_level, config.surrogate, config.pairs});
    for (const auto* tasks : {&inputs.search, &inputs.validation, &inputs.heldout}) {
        for (const Task& task : *tasks) all.push_back({task.name, int(task.metric), task.weight});
        all.push_back(items_hash(*tasks));
    }
    return text_hash(all.dump());
}

std::string items_hash(const std::vector<Task>& tasks) {
    nlohmann::json all = nlohmann::json::array();
    for (const Task& task : tasks)
        for (const TaskItem& item : task.items) all.push_back({item.prompt, item.answer, item.choices, item.right});
    return text_hash(all.dump());
}

}  // namespace amalgam
