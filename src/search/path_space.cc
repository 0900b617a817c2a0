#include <algorithm>

#include "src/base/error.h"
#include "src/search/recipe_space.h"

namespace amalgam {
namespace {

class PathSpace final : public RecipeSpace {
  public:
    PathSpace(const SearchConfig& config, std::vector<PathModel> models) : config_(config), models_(std::move(models)) {
        check(!models_.empty() && models_[0].layers >= 2,
              "{}: a path needs a first model of at least 2 layers: they begin and end it", printable(config.path));
        for (int repeat = 0; repeat < config.data_flow.repeats; ++repeat)
            for (size_t model = 0; model < models_.size(); ++model)
                for (int64_t layer = 0; layer < models_[model].layers; ++layer)
                    slots_.push_back({model, layer, repeat});
        // All layers of the first model are likely in the first pass.
        for (size_t slot = 0; slot < slots_.size(); ++slot) {
            if (is_fixed(slot)) continue;
            free_.push_back(slot);
            genes_.push_back({name(slot), Gene::Kind::binary, 0, 1, is_first_pass(slot) ? 0.7 : 0.3, 0.2, ""});
        }
        if (!config.data_flow.scales) return;
        const DataFlow& flow = config.data_flow;
        for (size_t slot = 0; slot <= slots_.size(); ++slot) {
            const std::string of = slot < slots_.size() ? name(slot) : "end";
            genes_.push_back({of + ".scale", Gene::Kind::continuous, flow.scale_low, flow.scale_high, 1,
                              std::min(1 - flow.scale_low, flow.scale_high - 1) / 3, ""});
        }
    }

    const std::vector<Gene>& genes() const override { return genes_; }

    Recipe recipe(const std::vector<double>& genome) const override {
        Recipe recipe;
        recipe.path = config_.path;
        recipe.method = "passthrough";
        recipe.dtype = config_.recipe.dtype;
        recipe.out_dtype = config_.recipe.out_dtype;
        double scale = 1;
        for (const Step& step : path(genome)) {
            scale *= step.scale;
            SourceEntry source;
            source.model = models_[step.model].reference;
            source.layer_range = {step.layer, step.layer + 1};
            if (scale != 1) {
                Parameter parameter;
                for (const char* filter : {"o_proj", "down_proj"}) parameter.entries.push_back({filter, {1 / scale}});
                parameter.entries.push_back({"", {1.0}});
                source.parameters["scale"] = std::move(parameter);
            }
            OutputSlice* last = recipe.slices.empty() ? nullptr : &recipe.slices.back();
            // Neighbours of one model, without scales between them, are one slice.
            if (last && last->sources[0].model == source.model && last->sources[0].layer_range->second == step.layer &&
                last->sources[0].parameters.empty() && source.parameters.empty()) {
                last->sources[0].layer_range->second = step.layer + 1;
                continue;
            }
            recipe.slices.push_back({{std::move(source)}, std::nullopt, {}, 0});
        }
        return recipe;
    }

    std::vector<double> genome(const Recipe& recipe) const override {
        fail("{}: recipes made by hand are for space = \"ps\"", printable(recipe.path));
    }

    double cost(const std::vector<double>& genome) const override { return double(path(genome).size()); }
    double penalty(const std::vector<double>& genome) const override {
        const auto layers = int64_t(path(genome).size());
        return config_.data_flow.cost * double(std::max<int64_t>(0, layers - models_[0].layers));
    }

  private:
    struct Slot {
        size_t model;
        int64_t layer;
        int repeat;
    };
    struct Step {
        size_t model;
        int64_t layer;
        double scale;
    };

    bool is_first_pass(size_t slot) const { return slots_[slot].repeat == 0 && slots_[slot].model == 0; }
    bool is_fixed(size_t slot) const { return slot == 0; }
    std::string name(size_t slot) const {
        return fmt::format("{}:{}.{}", slots_[slot].repeat, slots_[slot].model, slots_[slot].layer);
    }

    /// The first slot, those that are on, and the first model's last layer. Scales multiply the input of their slot.
    std::vector<Step> path(const std::vector<double>& genome) const {
        check(genome.size() == genes_.size(), "a genome of {} numbers for {} genes (a bug in the program)",
              genome.size(), genes_.size());
        const auto scale = [&](size_t slot) { return config_.data_flow.scales ? genome[free_.size() + slot] : 1.0; };
        std::vector<Step> steps = {{0, 0, scale(0)}};
        const int most = config_.data_flow.most_layers;
        for (size_t gene = 0; gene < free_.size(); ++gene) {
            if (genome[gene] < 0.5 || (most > 0 && int(steps.size()) + 1 >= most)) continue;
            const Slot& slot = slots_[free_[gene]];
            steps.push_back({slot.model, slot.layer, scale(free_[gene])});
        }
        const Step& last = steps.back();
        const Step end = {0, models_[0].layers - 1, scale(slots_.size())};
        if (last.model != end.model || last.layer != end.layer) steps.push_back(end);
        return steps;
    }

    const SearchConfig& config_;
    std::vector<PathModel> models_;
    std::vector<Slot> slots_;
    std::vector<size_t> free_;  ///< slots with a gene
    std::vector<Gene> genes_;
};

}  // namespace

std::unique_ptr<RecipeSpace> make_path_space(const SearchConfig& config, std::vector<PathModel> models) {
    return std::make_unique<PathSpace>(config, std::move(models));
}

}  // namespace amalgam
