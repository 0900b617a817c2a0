#include "jobs/search_models.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "kernels/methods.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "src/recipe/resolve.h"

namespace amalgam {
namespace {

/// Layers of the tower that most tensors are in.
int64_t layer_count(const std::vector<std::string>& names) {
    std::map<std::string, std::pair<int64_t, int64_t>> towers;  // tensors, layers
    for (const std::string& name : names) {
        const LayerName layer = layer_name(name);
        if (layer.layer < 0) continue;
        auto& [tensors, layers] = towers[layer.tower];
        ++tensors;
        layers = std::max(layers, layer.layer + 1);
    }
    int64_t most = 0, layers = 0;
    for (const auto& [tower, counts] : towers)
        if (counts.first > most) std::tie(most, layers) = counts;
    return layers;
}

PathModel open_model(Files& files, const SearchConfig& config, const std::string& reference) {
    std::vector<std::string> names;
    const std::string path = locate_model(files, reference, config.recipe.folder());
    for (const TensorInfo& tensor : open_checkpoint(files, path).tensors) names.push_back(tensor.name);
    return {reference, layer_count(names)};
}

/// A recipe's own advice, slices, is not for searches.
void check_depths(Files& files, const SearchInputs& inputs) {
    const SearchConfig& config = inputs.config;
    std::vector<PathModel> models = inputs.sources;
    if (config.recipe.base_model && find_method(config.recipe.method)->base != BaseUse::none)
        models.push_back(open_model(files, config, *config.recipe.base_model));
    for (const PathModel& model : models)
        check(
            model.layers == models[0].layers,
            "{}: {} has {} layers and {} has {}: models whose numbers are merged need the same depth; layers of these "
            "can follow each other on a path: space = \"dfs\"",
            printable(config.path), printable(models[0].reference), models[0].layers, printable(model.reference),
            model.layers);
}

/// A merge of the models whatever its numbers: weights may begin at 0, of which no recipe makes a mean.
Recipe any_merge(const SearchConfig& config) {
    Recipe recipe = config.recipe;
    for (const GeneField& gene : config.genes)
        if (gene.name == "weight")
            for (SourceEntry& model : recipe.models) model.parameters[gene.name] = {{{"", {1.0}}}, gene.line};
    return recipe;
}

/// All layers that a path may take.
Recipe stacked_models(const SearchConfig& config) {
    Recipe recipe;
    recipe.path = config.path;
    recipe.method = "passthrough";
    recipe.dtype = config.recipe.dtype;
    recipe.out_dtype = config.recipe.out_dtype;
    recipe.tokenizer_source = path_tokenizer(config);
    for (const SourceEntry& entry : config.recipe.models)
        recipe.slices.push_back({{{entry.model, std::nullopt, {}, -1, entry.line}}, std::nullopt, {}, entry.line});
    return recipe;
}

/// Layers of different models follow each other where tensors of the same name are of the same shape.
void check_shapes(const SearchConfig& config, const Merge& merge) {
    std::map<std::string, std::vector<std::vector<int64_t>>> first;
    for (const MergeModel& model : merge.models) {
        const auto is_model = [&](const SourceEntry& entry) { return entry.model == model.reference; };
        if (std::none_of(config.recipe.models.begin(), config.recipe.models.end(), is_model)) continue;
        for (const TensorInfo& tensor : model.checkpoint.tensors) {
            const LayerName layer = layer_name(tensor.name);
            if (layer.layer < 0) continue;
            const std::string name = layer.tower + "." + layer.rest;
            if (&model == &merge.models[0]) {
                first[name].push_back(tensor.shape);
                continue;
            }
            const auto known = first.find(name);
            if (known == first.end()) continue;
            check(std::find(known->second.begin(), known->second.end(), tensor.shape) != known->second.end(),
                  "{}: tensor \"{}\" of {} is {}, in layers of {} it is {}: layers of these models cannot follow each "
                  "other on a path",
                  printable(config.path), printable(tensor.name), printable(model.reference), shape_text(tensor.shape),
                  printable(merge.models[0].reference), shape_text(known->second.front()));
        }
    }
}

}  // namespace

void open_models(Files& files, SearchInputs& inputs) {
    const SearchConfig& config = inputs.config;
    for (const SourceEntry& entry : config.recipe.models)
        inputs.sources.push_back(open_model(files, config, entry.model));
    const bool merges = config.space != SearchSpace::data_flow;
    if (merges) check_depths(files, inputs);
    const Merge merge = resolve(files, merges ? any_merge(config) : stacked_models(config));
    for (const std::string& warning : merge.warnings) log_warning("{}", warning);
    if (merges) {
        std::vector<std::string> names;
        for (const TensorTask& task : merge.tasks) names.push_back(task.name);
        inputs.layers = layer_count(names);
    } else {
        check_shapes(config, merge);
        inputs.layers = inputs.sources[0].layers;
    }
    check(inputs.layers > 0, "{}: the models have no layers: there is nothing to search", printable(config.path));
}

}  // namespace amalgam
