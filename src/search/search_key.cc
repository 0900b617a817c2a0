#include "src/search/search_key.h"

#include <xxhash.h>

#include <nlohmann/json.hpp>
#include <numeric>

#include "src/base/error.h"

namespace amalgam {

std::string text_hash(const std::string& text) {
    return fmt::format("{:016x}", uint64_t(XXH64(text.data(), text.size(), 0)));
}

std::string SearchKey::text() const {
    nlohmann::json all = parts;
    return text_hash(all.dump());
}

SearchKey search_key(const SearchInputs& inputs) {
    using Json = nlohmann::json;
    const SearchConfig& config = inputs.config;
    Json all = {recipe_to_toml(config.recipe),
                int(config.space),
                config.optimiser,
                config.options,
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
    for (const Task& task : inputs.search) all.push_back({task.name, task.weight});
    SearchKey key;
    key.parts["settings"] = text_hash(all.dump());
    key.parts["seed"] = std::to_string(config.seed);
    key.parts["models"] = text_hash(Json(inputs.fingerprints).dump());
    key.parts["search items"] = items_hash(inputs.search);
    key.parts["validation items"] = items_hash(inputs.validation);
    key.parts["arithmetic (--compute, --device)"] = text_hash(inputs.compute);
    key.heldout = items_hash(inputs.heldout);
    return key;
}

std::string items_hash(const std::vector<Task>& tasks) {
    nlohmann::json all = nlohmann::json::array();
    for (const Task& task : tasks) {
        all.push_back({int(task.metric), task.limit, task.end_ids, task.allowed_ids, task.allowed_share});
        if (task.tokens) {
            std::vector<int32_t> ids(size_t(task.tokens->size()));
            std::iota(ids.begin(), ids.end(), 0);
            all.push_back(text_hash(task.tokens->text(ids)));
        }
        for (const TaskItem& item : task.items)
            all.push_back({item.prompt, item.answer, item.choices, item.right, item.answer_text});
    }
    return text_hash(all.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace amalgam
