#include <algorithm>

#include "src/base/error.h"
#include "src/search/input_scales.h"
#include "src/search/normal_distribution.h"
#include "src/search/recipe_space.h"

namespace amalgam {
namespace {

class PathSpace final : public RecipeSpace {
  public:
    PathSpace(const SearchConfig& config, std::vector<PathModel> models) : config_(config), models_(std::move(models)) {
        const DataFlow& flow = config.data_flow;
        check(!models_.empty() && models_[0].layers >= (flow.fixed_ends ? 2 : 1),
              "{}: a path needs a first model of at least 2 layers, which begin and end it; or set fixed_ends = false",
              printable(config.path));
        for (int repeat = 0; repeat < flow.repeats; ++repeat)
            for (size_t model = 0; model < models_.size(); ++model)
                for (int64_t layer = 0; layer < models_[model].layers; ++layer)
                    slots_.push_back({model, layer, repeat});
        for (size_t slot = 0; slot < slots_.size(); ++slot) {
            if (flow.fixed_ends && slot == 0) continue;
            free_.push_back(slot);
            const double likely = slots_[slot].repeat == 0 && slots_[slot].model == 0 ? flow.likely : flow.unlikely;
            const double sigma = 0.2, start = 0.5 + sigma * normal_exceeded_with(1 - likely);
            genes_.push_back({name(slot), Gene::Kind::binary, 0, 1, std::clamp(start, 0., 1.), sigma, ""});
        }
        PathShape shape;
        for (const PathModel& model : models_) {
            first_layers_.push_back(shape.layers.empty() ? 0 : first_layers_.back() + shape.layers.back());
            shape.layers.push_back(model.layers);
        }
        for (size_t slot = 0; slot < slots_.size(); ++slot) shape.slot_names.push_back(name(slot));
        if (flow.fixed_ends) shape.slot_names.push_back("end");
        scales_ = make_input_scales(flow, shape);
        genes_.insert(genes_.end(), scales_->genes().begin(), scales_->genes().end());
    }

    const std::vector<Gene>& genes() const override { return genes_; }

    Recipe recipe(const std::vector<double>& genome) const override {
        Recipe recipe;
        recipe.path = config_.path;
        recipe.method = "passthrough";
        recipe.dtype = config_.recipe.dtype;
        recipe.out_dtype = config_.recipe.out_dtype;
        recipe.tokenizer_source = path_tokenizer(config_);
        double scale = 1;
        for (const Step& step : path(genome)) {
            scale *= scales_->scale(genome.data() + free_.size(), step.link);
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

    std::vector<bool> idle(const std::vector<double>& genome) const override {
        std::vector<bool> used(scales_->genes().size());
        for (const Step& step : path(genome)) scales_->mark_used(step.link, used);
        std::vector<bool> idle(free_.size());  // whether a slot is on always counts
        for (bool one : used) idle.push_back(!one);
        return idle;
    }

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
        PathLink link;
    };

    std::string name(size_t slot) const {
        return fmt::format("{}:{}.{}", slots_[slot].repeat, slots_[slot].model, slots_[slot].layer);
    }

    /// The slots that are on, between the ends where these are fixed.
    std::vector<Step> path(const std::vector<double>& genome) const {
        check(genome.size() == genes_.size(), "a genome of {} numbers for {} genes (a bug in the program)",
              genome.size(), genes_.size());
        const bool fixed = config_.data_flow.fixed_ends;
        const size_t most =
            config_.data_flow.most_layers > 0 ? size_t(config_.data_flow.most_layers) : slots_.size() + 1;
        std::vector<Step> steps;
        const auto add = [&](size_t model, int64_t layer, size_t slot) {
            const int64_t from = steps.empty() ? -1 : first_layers_[steps.back().model] + steps.back().layer;
            steps.push_back({model, layer, {from, first_layers_[model] + layer, int64_t(slot)}});
        };
        if (fixed) add(0, 0, 0);
        for (size_t gene = 0; gene < free_.size() && steps.size() + fixed < most; ++gene) {
            const Slot& slot = slots_[free_[gene]];
            if (genome[gene] >= 0.5) add(slot.model, slot.layer, free_[gene]);
        }
        const int64_t end = models_[0].layers - 1;
        if (steps.empty()) add(0, 0, 0);
        if (fixed && (steps.back().model != 0 || steps.back().layer != end)) add(0, end, slots_.size());
        return steps;
    }

    const SearchConfig& config_;
    std::vector<PathModel> models_;
    std::vector<int64_t> first_layers_;  ///< of the models, in the row of all layers
    std::vector<Slot> slots_;
    std::vector<size_t> free_;  ///< slots with a gene
    std::unique_ptr<InputScales> scales_;
    std::vector<Gene> genes_;
};

}  // namespace

std::optional<std::string> path_tokenizer(const SearchConfig& config) {
    const Recipe& recipe = config.recipe;
    return recipe.tokenizer_source == "base" ? recipe.base_model : recipe.tokenizer_source;
}

std::unique_ptr<RecipeSpace> make_path_space(const SearchConfig& config, std::vector<PathModel> models) {
    return std::make_unique<PathSpace>(config, std::move(models));
}

}  // namespace amalgam
