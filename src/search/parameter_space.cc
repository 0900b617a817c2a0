#include <algorithm>
#include <cmath>

#include "kernels/methods.h"
#include "src/base/error.h"
#include "src/search/hand_made.h"
#include "src/search/recipe_space.h"

namespace amalgam {

namespace {

class ParameterSpace final : public RecipeSpace {
  public:
    ParameterSpace(const SearchConfig& config, int64_t layers)
        : config_(config), layers_(layers), method_(*find_method(config.recipe.method)) {
        for (const GeneField& field : config.genes) {
            check(field.layer_groups <= layers, "{}: search.genes.{}.layer_groups={} but the models have {} layers",
                  printable(config.path), field.name, field.layer_groups, layers);
            if (is_global(field))
                add_genes(field, "");
            else
                for (const std::string& model : config.model_names) add_genes(field, model + ".");
        }
        if (!config.choose_models) return;
        check(method_.field("weight") >= 0,
              "{}: search.choose_models: {} has no weights, with which a model could be left out",
              printable(config.path), method_.name);
        for (const std::string& model : config.model_names)
            genes_.push_back({model + ".takes_part", Gene::Kind::binary, 0, 1, 0.75, 0.25, model});
    }

    const std::vector<Gene>& genes() const override { return genes_; }

    Recipe recipe(const std::vector<double>& genome) const override {
        check(genome.size() == genes_.size(), "a genome of {} numbers for {} genes (a bug in the program)",
              genome.size(), genes_.size());
        Recipe recipe = config_.recipe;
        const double* next = genome.data();
        for (const GeneField& field : config_.genes) {
            if (is_global(field)) {
                recipe.parameters[field.name] = parameter(field, next);
                next += count(field);
                continue;
            }
            for (SourceEntry& model : recipe.models) {
                model.parameters[field.name] = parameter(field, next);
                next += count(field);
            }
        }
        if (config_.choose_models)
            for (SourceEntry& model : recipe.models)
                if (*next++ < 0.5) model.parameters["weight"] = {{{"", {0.0}}}, 0};
        return recipe;
    }

    std::vector<double> genome(const Recipe& recipe) const override {
        check(recipe.method == config_.recipe.method && recipe.models.size() == config_.recipe.models.size(),
              "{}: a recipe made by hand needs the method and the models of [merge], in their order",
              printable(recipe.path));
        std::vector<double> genome;
        for (const GeneField& field : config_.genes) {
            if (is_global(field)) {
                append(field, recipe, nullptr, genome);
                continue;
            }
            for (const SourceEntry& model : recipe.models) append(field, recipe, &model, genome);
        }
        if (config_.choose_models)
            for (const SourceEntry& model : recipe.models)
                genome.push_back(is_left_out(config_, recipe, model) ? 0 : 1);
        for (size_t gene = 0; gene < genome.size(); ++gene)
            genome[gene] = std::clamp(genome[gene], genes_[gene].low, genes_[gene].high);
        return genome;
    }

  private:
    bool is_global(const GeneField& field) const {
        return method_.fields[size_t(method_.field(field.name))].scope == Scope::global;
    }
    static size_t count(const GeneField& field) { return (field.filters.size() + 1) * size_t(field.layer_groups); }

    void add_genes(const GeneField& field, const std::string& prefix) {
        const Field& info = method_.fields[size_t(method_.field(field.name))];
        const auto kind = info.kind == FieldKind::integer ? Gene::Kind::integer : Gene::Kind::continuous;
        for (size_t filter = 0; filter <= field.filters.size(); ++filter)
            for (int group = 0; group < field.layer_groups; ++group) {
                std::string name = prefix + field.name;
                if (field.layer_groups > 1) name += "[" + group_text(field, group) + "]";
                if (filter < field.filters.size()) name += "(" + field.filters[filter] + ")";
                genes_.push_back({name, kind, field.low, field.high, field.start, field.sigma, prefix});
            }
    }
    std::string group_text(const GeneField& field, int group) const {
        if (field.smooth) return fmt::format("{}/{}", group, field.layer_groups - 1);
        const auto first = first_layer(field, group), last = first_layer(field, group + 1) - 1;
        return first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
    }
    /// Layer l is in group l x groups / layers.
    int64_t first_layer(const GeneField& field, int group) const {
        return (int64_t(group) * layers_ + field.layer_groups - 1) / field.layer_groups;
    }

    Parameter parameter(const GeneField& field, const double* numbers) const {
        Parameter parameter;
        for (size_t filter = 0; filter <= field.filters.size(); ++filter) {
            ParameterEntry entry;
            if (filter < field.filters.size()) entry.filter = field.filters[filter];
            const double* own = numbers + filter * size_t(field.layer_groups);
            if (field.layer_groups == 1 || field.smooth)
                entry.gradient.assign(own, own + field.layer_groups);
            else
                for (int64_t layer = 0; layer < layers_; ++layer)
                    entry.gradient.push_back(own[layer * field.layer_groups / layers_]);
            parameter.entries.push_back(std::move(entry));
        }
        return parameter;
    }

    /// What a recipe says in the middle of each group.
    void append(const GeneField& field, const Recipe& recipe, const SourceEntry* model,
                std::vector<double>& genome) const {
        const Parameter found = whole_parameter(method_.fields[size_t(method_.field(field.name))], recipe, model);
        for (size_t filter = 0; filter <= field.filters.size(); ++filter)
            for (int group = 0; group < field.layer_groups; ++group)
                genome.push_back(value_at(found, filter < field.filters.size() ? field.filters[filter] : "",
                                          depth(field, group), field.start));
    }
    double depth(const GeneField& field, int group) const {
        if (field.layer_groups == 1) return 0.5;
        if (field.smooth) return double(group) / (field.layer_groups - 1);
        const double middle = double(first_layer(field, group) + first_layer(field, group + 1) - 1) / 2;
        return layers_ > 1 ? middle / double(layers_ - 1) : 0;
    }
    static double value_at(const Parameter& parameter, const std::string& name, double t, double otherwise) {
        for (const ParameterEntry& entry : parameter.entries) {
            if (!entry.filter.empty() && name.find(entry.filter) == name.npos) continue;
            const double scaled = t * double(entry.gradient.size() - 1);
            const auto below = size_t(scaled), above = std::min(below + 1, entry.gradient.size() - 1);
            return std::lerp(entry.gradient[below], entry.gradient[above], scaled - double(below));
        }
        return otherwise;
    }

    const SearchConfig& config_;
    int64_t layers_;
    const MethodInfo& method_;
    std::vector<Gene> genes_;
};

}  // namespace

std::vector<Recipe> pairs_of_models(const Recipe& recipe) {
    std::vector<Recipe> pairs;
    for (size_t second = 1; second < recipe.models.size(); ++second)
        for (size_t first = 0; first < second; ++first) {
            Recipe& pair = pairs.emplace_back(recipe);
            for (size_t model = 0; model < recipe.models.size(); ++model)
                pair.models[model].parameters["weight"] = {{{"", {model == first || model == second ? 1. : 0.}}}, 0};
        }
    return pairs;
}

std::unique_ptr<RecipeSpace> make_parameter_space(const SearchConfig& config, int64_t layers) {
    return std::make_unique<ParameterSpace>(config, layers);
}

}  // namespace amalgam
