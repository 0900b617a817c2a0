#include "src/recipe/check_models.h"

#include <algorithm>
#include <map>

#include "src/base/error.h"
#include "src/checkpoint/config_settings.h"

namespace amalgam {
namespace {

constexpr size_t longest_value = 60;
constexpr size_t most_models = 4;

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

}  // namespace amalgam
