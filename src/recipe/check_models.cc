#include "src/recipe/check_models.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>

#include "src/base/error.h"
#include "src/checkpoint/config_settings.h"
#include "src/checkpoint/output_config.h"
#include "src/recipe/layout.h"

namespace amalgam {
namespace {

using Shapes = std::set<std::vector<int64_t>>;

constexpr size_t longest_value = 60;
constexpr size_t most_models = 4;

/// The member whose shapes the part's layers have.
const PartMember& leader(const OutputPart& part) { return part.members[size_t(part.leader())]; }

struct Mention {
    const OutputPart* part = nullptr;
    const PartMember* member = nullptr;
};

/// The first mention of each model that takes part.
std::map<int, Mention> first_mentions(std::span<const OutputPart> parts) {
    std::map<int, Mention> mentions;
    for (const OutputPart& part : parts)
        for (const PartMember& member : part.members) mentions.try_emplace(member.model, Mention{&part, &member});
    return mentions;
}

/// What tensors do not tell: depths and vocabularies are compared by what is stored.
bool tells_more(const SettingDifference& difference) {
    return difference.weight != DifferenceWeight::note && difference.name != "num_hidden_layers" &&
           difference.name != "vocab_size";
}

std::string values_text(const std::vector<SettingDifference>& differences, std::string SettingDifference::*side) {
    std::string text;
    for (const SettingDifference& each : differences)
        text += fmt::format("{}{} {}", text.empty() ? "" : ", ", each.name, printable(each.*side, longest_value));
    return text;
}

// ---- shapes of layers

/// Shapes of the main tower's tensors by what follows the layer's number.
std::unordered_map<std::string_view, Shapes> layer_shapes(const OpenModel& model) {
    std::unordered_map<std::string_view, Shapes> shapes;
    const int main = main_tower(model.layout, model.reference);
    for (size_t i = 0; i < model.layout.places.size(); ++i)
        if (const TensorPlace& place = model.layout.places[i]; place.tower == main)
            shapes[place.rest].insert(model.checkpoint.tensors[i].shape);
    return shapes;
}

/// "self_attn.k_proj.weight is [32, 96] and [96, 96]" of layers that cannot come from one model; "" if there is none.
std::string unlike_layers(const OpenModel& a, const OpenModel& b) {
    const auto first = layer_shapes(a), other = layer_shapes(b);
    std::string_view name;
    for (const auto& [rest, shapes] : other) {
        const auto found = first.find(rest);
        if (found == first.end() || found->second.size() > 1 || shapes.size() > 1 || found->second == shapes) continue;
        if (name.empty() || natural_less(rest, name)) name = rest;
    }
    if (name.empty()) return "";
    return fmt::format("{} of a layer is {} and {}", printable(name), shape_text(*first.at(name).begin()),
                       shape_text(*other.at(name).begin()));
}

/// The same of models that have layers of several shapes: only their configs can say whether these are all of one model.
bool other_shapes(const OpenModel& a, const OpenModel& b) {
    const auto first = layer_shapes(a);
    for (const auto& [rest, shapes] : layer_shapes(b)) {
        const auto found = first.find(rest);
        if (found != first.end() && found->second != shapes) return true;
    }
    return false;
}

std::string unlike_widths(const OpenModel& a, const OpenModel& b) {
    const TensorInfo *first = find_embedding(a.checkpoint), *other = find_embedding(b.checkpoint);
    if (!first || !other || first->shape.size() != 2 || other->shape.size() != 2) return "";
    if (first->shape[1] == other->shape[1]) return "";
    return fmt::format("{} is {} wide and {}", printable(other->name), first->shape[1], other->shape[1]);
}

/// Settings that both configs give as one number for all layers.
std::string unlike_sizes(const OpenModel& a, const OpenModel& b) {
    const auto is_number = [](const std::string& text) {
        return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
    };
    std::string text;
    for (const SettingDifference& each : compare_settings(a.checkpoint.config, b.checkpoint.config))
        if (each.size && is_number(each.first) && is_number(each.other))
            text += fmt::format("{}{} is {} and {}", text.empty() ? "" : ", ", each.name, each.first, each.other);
    return text;
}

/// Why layers of the two cannot be stacked; "" if they can.
std::string unlike_models(const OpenModel& a, const OpenModel& b) {
    std::string sizes = unlike_sizes(a, b);
    std::string tensors = unlike_layers(a, b);
    if (tensors.empty()) tensors = unlike_widths(a, b);
    if (tensors.empty()) return !sizes.empty() && other_shapes(a, b) ? sizes : "";
    return sizes.empty() ? tensors : sizes + "; " + tensors;
}

VocabularyTensors vocabulary_of(const OpenModel& model) { return vocabulary_tensors(model.checkpoint.tensors); }

/// Some vision-language models have rows of the embedding that no head has.
bool one_vocabulary(const VocabularyTensors& tensors) {
    return !tensors.rows() || !tensors.head_rows() || *tensors.rows() == *tensors.head_rows();
}

}  // namespace

std::string member_place(const Recipe& recipe, const OutputPart& part, const PartMember& member) {
    if (member.entry) return recipe_place(recipe, member.entry->line);
    return recipe_place(recipe, part.slice && part.slice->base_model ? part.slice->line : recipe.base_line);
}

std::vector<std::string> setting_warnings(const Recipe& recipe, std::span<const OutputPart> parts,
                                          const std::vector<OpenModel>& models, int donor) {
    struct Unlike {
        Mention mention;
        std::vector<SettingDifference> differences;
        std::vector<int> models;
    };
    const OpenModel& giver = models[size_t(donor)];
    std::vector<Unlike> all;
    for (const auto& [model, mention] : first_mentions(parts)) {
        std::vector<SettingDifference> differences =
            compare_settings(giver.checkpoint.config, models[size_t(model)].checkpoint.config);
        std::erase_if(differences, [](const SettingDifference& each) { return !tells_more(each); });
        if (differences.empty()) continue;
        const auto same = std::find_if(all.begin(), all.end(), [&](const Unlike& each) {
            return values_text(each.differences, &SettingDifference::other) ==
                   values_text(differences, &SettingDifference::other);
        });
        if (same == all.end())
            all.push_back({mention, std::move(differences), {model}});
        else
            same->models.push_back(model);
    }
    std::vector<std::string> warnings;
    for (const Unlike& each : all) {
        std::string names;
        for (size_t i = 0; i < each.models.size() && i < most_models; ++i)
            names += (i ? ", " : "") + printable(models[size_t(each.models[i])].reference);
        if (each.models.size() > most_models) names += fmt::format(" and {} more", each.models.size() - most_models);
        const std::string& first = models[size_t(each.models[0])].reference;
        warnings.push_back(fmt::format(
            "{}: SETTINGS DIFFER: config.json of {} says {}, that of {}, which the result gets, says {}: tensors of "
            "one "
            "shape mean something else then, and the result may be useless (amalgam inspect {} {} compares them)",
            member_place(recipe, *each.mention.part, *each.mention.member), names,
            values_text(each.differences, &SettingDifference::other), printable(giver.reference),
            values_text(each.differences, &SettingDifference::first), printable(giver.reference), printable(first)));
    }
    return warnings;
}

void check_stack(const Recipe& recipe, std::span<const OutputPart> parts, const std::vector<OpenModel>& models) {
    const OpenModel& first = models[size_t(leader(parts[0]).model)];
    std::set<int> seen = {leader(parts[0]).model};
    for (const OutputPart& part : parts) {
        const PartMember& member = leader(part);
        if (!seen.insert(member.model).second) continue;
        const OpenModel& other = models[size_t(member.model)];
        if (const std::string unlike = unlike_models(first, other); !unlike.empty())
            fail("{}: layers of {} and {} cannot be stacked: {}; one config.json has to describe them all",
                 member_place(recipe, part, member), printable(first.reference), printable(other.reference), unlike);
    }
}

std::vector<std::string> check_stack_ends(const Recipe& recipe, const OutputPart& first, const OutputPart& last,
                                          const std::vector<OpenModel>& models, const std::vector<TensorTask>& tasks) {
    const OpenModel &begin = models[size_t(leader(first).model)], &end = models[size_t(leader(last).model)];
    const VocabularyTensors written = vocabulary_tensors(tasks), own = vocabulary_of(begin);
    const std::string place = member_place(recipe, last, leader(last));
    if (!one_vocabulary(written) && one_vocabulary(own) && one_vocabulary(vocabulary_of(end)))
        fail(
            "{}: the first slice gives the embedding, of {} rows ({}), and the last the head, of {} rows ({}): begin "
            "and "
            "end with models of one vocabulary",
            place, *written.rows(), printable(begin.reference), *written.head_rows(), printable(end.reference));
    if (!written.has_embedding() || written.has_head() || !own.has_head()) return {};
    return {
        fmt::format("{}: {} of the last slice has no head, since it is tied to its embedding: the result is tied to "
                    "the embedding of "
                    "{}, whose own head is dropped",
                    place, printable(end.reference), printable(begin.reference))};
}

}  // namespace amalgam
