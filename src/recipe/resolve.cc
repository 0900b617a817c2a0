#include "src/recipe/resolve.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <span>
#include <unordered_map>

#include "kernels/methods.h"
#include "src/base/error.h"
#include "src/recipe/check_models.h"
#include "src/recipe/check_tokenizers.h"
#include "src/recipe/make_task.h"
#include "src/recipe/notes.h"
#include "src/recipe/part.h"

namespace amalgam {
namespace {

class Resolver {
  public:
    Resolver(Files& files, const Recipe& recipe, const ResolveOptions& options)
        : files_(files), recipe_(recipe), options_(options), method_(*find_method(recipe.method)) {}

    Merge resolve() {
        open_all();
        TaskMaker maker(recipe_, method_, options_, models_, notes_);
        if (recipe_.slices.empty())
            resolve_models(maker);
        else
            resolve_slices(maker);
        check(!merge_.tasks.empty(), "{}: nothing to merge: the models have no tensors", recipe_place(recipe_, 0));
        std::sort(merge_.tasks.begin(), merge_.tasks.end(),
                  [](const TensorTask& a, const TensorTask& b) { return natural_less(a.name, b.name); });
        check_paper_rules();
        warn(check_tokenizers(files_, recipe_, std::span(models_).first(merged_),
                              models_[size_t(merge_.tokenizer_donor)], merge_.tasks));
        finish();
        return std::move(merge_);
    }

  private:
    // ---- models

    /// `line` names it.
    int open(const std::string& reference, int line) {
        const auto known = by_reference_.find(reference);
        if (known != by_reference_.end()) return known->second;
        try {
            const std::string path = locate(reference);
            const auto [found, is_new] = by_path_.try_emplace(path, int(models_.size()));
            if (is_new) models_.push_back({reference, open_checkpoint(files_, path), {}, line});
            by_reference_[reference] = found->second;
            return found->second;
        } catch (const Error& error) {
            fail("{}: {}", recipe_place(recipe_, line), error.what());
        }
    }
    int opened(const std::string& reference) const { return by_reference_.at(reference); }

    void open(const SourceEntry& entry) {
        const int model = open(entry.model, entry.line);
        const auto [found, is_new] = groups_.try_emplace(model, &entry);
        const SourceEntry& first = *found->second;
        if (first.group != entry.group)
            fail("{}: {} is the same model as {} of line {}, but its group is another one",
                 recipe_place(recipe_, entry.line), printable(entry.model), printable(first.model), first.line);
    }

    /// The checker compares references; two of them may lead to one model.
    void check_base_group(const std::optional<std::string>& base) {
        if (!base) return;
        const auto found = groups_.find(opened(*base));
        if (found == groups_.end() || found->second->group < 0) return;
        fail("{}: {} has a group, but it is the base {}, which every group reads: leave its group out",
             recipe_place(recipe_, found->second->line), printable(found->second->model), printable(*base));
    }

    std::string locate(const std::string& reference) {
        try {
            return locate_model(files_, reference, recipe_.folder());
        } catch (const Error& error) {
            if (reference.find('+') == reference.npos) throw;
            fail(
                "{} (mergekit reads \"model+adapter\" as a LoRA adapter: not supported yet, merge the adapter into its "
                "model first)",
                error.what());
        }
    }

    void open_all() {
        for (const SourceEntry& entry : recipe_.models) open(entry);
        for (const OutputSlice& slice : recipe_.slices) {
            for (const SourceEntry& entry : slice.sources) open(entry);
            if (slice.base_model) open(*slice.base_model, slice.line);
        }
        if (recipe_.base_model) open(*recipe_.base_model, recipe_.base_line);
        check_base_group(recipe_.base_model);
        for (const OutputSlice& slice : recipe_.slices) check_base_group(slice.base_model);
        merge_.config_donor = choose_config_donor();
        merge_.tokenizer_donor = merge_.config_donor;
        merged_ = models_.size();
        if (recipe_.tokenizer_source == "base") {
            check(recipe_.base_model.has_value(), "{}: tokenizer_source = base, but there is no base_model",
                  recipe_place(recipe_, 0));
            merge_.tokenizer_donor = opened(*recipe_.base_model);
        } else if (recipe_.tokenizer_source) {
            merge_.tokenizer_donor = open(*recipe_.tokenizer_source, recipe_.tokenizer_line);
        }
        // Layouts point into the checkpoints, which stay where they are from here on.
        for (OpenModel& model : models_) model.layout = read_layout(model.checkpoint);
    }

    int choose_config_donor() {
        if (recipe_.base_model) return opened(*recipe_.base_model);
        for (const OutputSlice& slice : recipe_.slices)
            if (slice.base_model) return opened(*slice.base_model);
        return 0;
    }

    // ---- parts

    PartMember member(const std::string& reference, int position, const SourceEntry* entry, const OutputSlice* slice) {
        return {opened(reference), position, entry, 0, FieldResolver(method_, Scope::per_model, entry, slice, recipe_)};
    }

    OutputPart make_part(const std::vector<SourceEntry>& entries, const std::optional<std::string>& base,
                         const OutputSlice* slice) {
        const Roles roles = assign_roles(method_, entries, base, slice != nullptr);
        OutputPart part{slice, {}, roles.origin, -1, 0, FieldResolver(method_, Scope::global, nullptr, slice, recipe_)};
        for (int index : roles.inputs) {
            if (index == roles.base && !roles.origin) part.base_input = int(part.members.size());
            part.members.push_back(member(entries[index].model, index, &entries[index], slice));
        }
        if (roles.appended) part.base_input = int(part.members.size());
        if (roles.appended || (roles.origin && roles.base < 0))
            part.members.push_back(member(*base, int(entries.size()), nullptr, slice));
        else if (roles.origin)
            part.members.push_back(member(entries[roles.base].model, roles.base, &entries[roles.base], slice));
        return part;
    }

    const OpenModel& model_of(const PartMember& member) const { return models_[member.model]; }

    // ---- a recipe with models: one part, tensors by their names

    void resolve_models(const TaskMaker& maker) {
        const OutputPart part = make_part(recipe_.models, recipe_.base_model, nullptr);
        check_depths(part);
        std::vector<TensorRow> rows;
        std::unordered_map<std::string_view, size_t> by_name;
        for (size_t m = 0; m < part.members.size(); ++m) {
            const ModelLayout& layout = model_of(part.members[m]).layout;
            for (size_t i = 0; i < layout.places.size(); ++i) {
                const TensorInfo& tensor = layout.checkpoint->tensors[i];
                const auto [found, is_new] = by_name.try_emplace(tensor.name, rows.size());
                if (is_new) rows.push_back(place_row(part, layout, i));
                rows[found->second].tensors[m] = &tensor;
            }
        }
        make_tasks(maker, part, std::move(rows));
        check_settings({&part, 1});
    }

    TensorRow place_row(const OutputPart& part, const ModelLayout& layout, size_t tensor) const {
        TensorRow row;
        row.name = layout.checkpoint->tensors[tensor].name;
        row.tensors.resize(part.members.size());
        const TensorPlace& place = layout.places[tensor];
        if (place.tower >= 0) {
            const Tower& tower = layout.towers[place.tower];
            row.tower = tower.name;
            row.layer = place.layer;
            row.t = depth(place.layer, tower.layers);
        }
        return row;
    }

    /// mergekit gives 1, not 0, to a single layer.
    static double depth(int64_t layer, int64_t layers) { return layers == 1 ? 1 : double(layer) / double(layers - 1); }

    /// A missing layer is better reported as such than by the name of its first tensor.
    void check_depths(const OutputPart& part) const {
        const OpenModel& first = model_of(part.members[0]);
        for (const PartMember& each : part.members)
            for (const Tower& tower : model_of(each).layout.towers) {
                const Tower* other = first.layout.tower(tower.name);
                if (other && other->layers != tower.layers)
                    fail(
                        "{}: {} has {} layers ({}) and {} has {}: say in slices which layers of each make which of the "
                        "output",
                        member_place(recipe_, part, each), first.reference, other->layers, printable(tower.name),
                        model_of(each).reference, tower.layers);
            }
    }

    void make_tasks(const TaskMaker& maker, const OutputPart& part, std::vector<TensorRow> rows) {
        for (TensorRow& row : rows)
            if (std::optional<TensorTask> task = maker.make(part, std::move(row)))
                merge_.tasks.push_back(std::move(*task));
    }

    // ---- a recipe with slices

    /// One model's tensors by the slices' rules.
    struct Sorted {
        std::string tower;
        int64_t layers = 0;
        std::unordered_map<int64_t, std::vector<size_t>> by_layer;
        std::vector<size_t> first, last;
    };

    const Sorted& sorted(int model) {
        const auto known = sorted_.find(model);
        if (known != sorted_.end()) return known->second;
        const ModelLayout& layout = models_[model].layout;
        const int main = main_tower(
            layout, fmt::format("{}: {}", recipe_place(recipe_, models_[model].line), models_[model].reference));
        Sorted result;
        result.tower = layout.towers[main].name;
        result.layers = layout.towers[main].layers;
        const Sections sections(layout, main);
        for (size_t i = 0; i < layout.places.size(); ++i) {
            const Section section = sections.section(i);
            if (section == Section::layers)
                result.by_layer[layout.places[i].layer].push_back(i);
            else
                (section == Section::first ? result.first : result.last).push_back(i);
        }
        return sorted_.emplace(model, std::move(result)).first->second;
    }

    void resolve_slices(const TaskMaker& maker) {
        std::vector<OutputPart> parts;
        for (const OutputSlice& slice : recipe_.slices) {
            parts.push_back(make_part(slice.sources, slice.base_model ? slice.base_model : recipe_.base_model, &slice));
            set_ranges(parts.back());
        }
        tower_ = sorted(parts[0].members[0].model).tower;
        for (const OutputPart& part : parts)
            for (const PartMember& each : part.members)
                if (const std::string& own = sorted(each.model).tower; own != tower_)
                    fail("{}: the layers of {} are called {}, those of {} {}: they cannot be stacked",
                         recipe_place(recipe_, part.slice->line), model_of(each).reference, printable(own),
                         model_of(parts[0].members[0]).reference, printable(tower_));
        check_stack(recipe_, parts, models_);
        resolve_outside(maker, parts.front(), &Sorted::first);
        for (const OutputPart& part : parts) resolve_slice(maker, part);
        resolve_outside(maker, parts.back(), &Sorted::last);
        check_settings(parts);
        warn(check_stack_ends(recipe_, parts.front(), parts.back(), models_, merge_.tasks));
    }

    /// Layers of every member, from layer_range or the whole depth.
    void set_ranges(OutputPart& part) {
        const int line = part.slice->line;
        for (int i = 0; i < int(part.members.size()); ++i) {
            PartMember& each = part.members[i];
            const Sorted& model = sorted(each.model);
            std::pair<int64_t, int64_t> range = {0, model.layers};
            if (each.entry && each.entry->layer_range)
                range = *each.entry->layer_range;
            else if (!each.entry)
                range = range_of_unlisted_base(part);
            const std::string& reference = model_of(each).reference;
            if (range.second > model.layers)
                fail("{}: layer_range [{}, {}) of {}: it has {} layers ({}), numbered from 0",
                     recipe_place(recipe_, each.entry ? each.entry->line : line), range.first, range.second, reference,
                     model.layers, printable(model.tower));
            const int64_t length = range.second - range.first;
            if (i == 0) part.layers = length;
            if (length != part.layers)
                fail(
                    "{}: {} gives {} layers to the slice, {} gives {}: layer_range must be of the same length for all "
                    "sources",
                    recipe_place(recipe_, line), reference, length, model_of(part.members[0]).reference, part.layers);
            each.first_layer = range.first;
        }
    }

    std::pair<int64_t, int64_t> range_of_unlisted_base(const OutputPart& part) const {
        const PartMember& first = part.members[0];
        for (int i = 1; i < part.inputs(); ++i)
            if (part.members[i].first_layer != first.first_layer)
                fail(
                    "{}: the slice takes different layers of its sources, so list the base {} among them with its "
                    "layer_range",
                    recipe_place(recipe_, part.slice->line), model_of(part.members.back()).reference);
        return {first.first_layer, first.first_layer + part.layers};
    }

    void resolve_slice(const TaskMaker& maker, const OutputPart& part) {
        for (int64_t i = 0; i < part.layers; ++i) {
            const int64_t output_layer = int64_t(merge_.layer_sources.size());
            const PartMember& leader = part.members[part.leader()];
            merge_.layer_sources.emplace_back(leader.model, leader.first_layer + i);
            std::vector<TensorRow> rows;
            std::map<std::string_view, size_t> by_rest;
            for (size_t m = 0; m < part.members.size(); ++m) {
                const ModelLayout& layout = model_of(part.members[m]).layout;
                const Sorted& model = sorted(part.members[m].model);
                const auto layer = model.by_layer.find(part.members[m].first_layer + i);
                if (layer == model.by_layer.end()) continue;
                for (size_t index : layer->second) {
                    const auto [found, is_new] = by_rest.try_emplace(layout.places[index].rest, rows.size());
                    if (is_new) {
                        TensorRow row = place_row(part, layout, index);
                        row.layer = output_layer;
                        row.t = depth(i, part.layers);
                        row.name = layer_tensor(layout.places[index].rest, output_layer);
                        rows.push_back(std::move(row));
                    }
                    rows[found->second].tensors[m] = &layout.checkpoint->tensors[index];
                }
            }
            make_tasks(maker, part, std::move(rows));
        }
    }

    std::string layer_tensor(std::string_view rest, int64_t layer) const {
        std::string name = tower_;
        if (!name.empty()) name += '.';
        name += std::to_string(layer);
        if (!rest.empty()) name += fmt::format(".{}", rest);
        return name;
    }

    void resolve_outside(const TaskMaker& maker, const OutputPart& part, std::vector<size_t> Sorted::*section) {
        std::vector<TensorRow> rows;
        std::unordered_map<std::string_view, size_t> by_name;
        for (size_t m = 0; m < part.members.size(); ++m) {
            const ModelLayout& layout = model_of(part.members[m]).layout;
            for (size_t index : sorted(part.members[m].model).*section) {
                const TensorInfo& tensor = layout.checkpoint->tensors[index];
                const auto [found, is_new] = by_name.try_emplace(tensor.name, rows.size());
                if (is_new) rows.push_back(place_row(part, layout, index));
                rows[found->second].tensors[m] = &tensor;
            }
        }
        make_tasks(maker, part, std::move(rows));
    }

    // ---- the whole

    void warn(std::vector<std::string> texts) {
        for (std::string& text : texts) merge_.warnings.push_back(std::move(text));
    }

    void check_settings(std::span<const OutputPart> parts) {
        warn(setting_warnings(recipe_, parts, models_, merge_.config_donor));
    }

    /// The papers trim a whole model at one threshold: then one density holds for all its tensors.
    void check_paper_rules() const {
        if (recipe_.compat != Compat::paper || method_.paper_rules != methods::trim_paper) return;
        for (std::string_view name : {"density", "gamma"}) {
            const int field = method_.field(name);
            if (field < 0) continue;
            std::map<std::pair<int, int>, std::pair<double, const TensorTask*>> first;
            for (const TensorTask& task : merge_.tasks) {
                if (task.kind != TaskKind::merge) continue;
                for (const TaskInput& input : task.inputs) {
                    const auto [found, is_new] =
                        first.try_emplace({input.model, input.position}, std::pair(input.fields[field], &task));
                    if (!is_new && found->second.first != input.fields[field])
                        fail(
                            "{}: {} of {} is {} for tensor \"{}\" and {} for \"{}\": compat = paper trims over the "
                            "whole model and needs one "
                            "value; use compat = mergekit for filters and gradients",
                            recipe_place(recipe_, 0), name, models_[input.model].reference, found->second.first,
                            found->second.second->name, input.fields[field], task.name);
                }
            }
        }
    }

    void finish() {
        merge_.method = &method_;
        merge_.compat = recipe_.compat;
        merge_.seed = recipe_.seed;
        merge_.config_dtype = common_dtype();
        merge_.warnings.insert(merge_.warnings.begin(), recipe_.warnings.begin(), recipe_.warnings.end());
        for (size_t i = 0; i < models_.size(); ++i) {
            OpenModel& model = models_[i];
            for (const std::string& warning : model.checkpoint.warnings) merge_.warnings.push_back(warning);
            const auto entry = groups_.find(int(i));
            const int group = entry == groups_.end() ? -1 : entry->second->group;
            merge_.models.push_back({model.reference, std::move(model.checkpoint), group});
        }
        warn(notes_.texts());
    }

    std::optional<Dtype> common_dtype() const {
        std::optional<Dtype> dtype;
        for (const TensorTask& task : merge_.tasks) {
            if (!info(task.dtype).computed) continue;
            if (dtype && *dtype != task.dtype) return std::nullopt;
            dtype = task.dtype;
        }
        return dtype;
    }

    Files& files_;
    const Recipe& recipe_;
    const ResolveOptions& options_;
    const MethodInfo& method_;
    std::vector<OpenModel> models_;
    size_t merged_ = 0;  ///< of them; one more may give its tokenizer only
    std::unordered_map<std::string, int> by_reference_;
    std::unordered_map<std::string, int> by_path_;
    std::unordered_map<int, const SourceEntry*> groups_;  ///< first entry of each model
    std::unordered_map<int, Sorted> sorted_;
    std::string tower_;
    Notes notes_;
    Merge merge_;
};

}  // namespace

Merge resolve(Files& files, const Recipe& recipe, const ResolveOptions& options) {
    check(find_method(recipe.method) != nullptr, "unknown merge_method \"{}\"", printable(recipe.method));
    return Resolver(files, recipe, options).resolve();
}

}  // namespace amalgam
