#include "src/search/hand_made.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "kernels/methods.h"
#include "src/base/error.h"
#include "src/recipe/field_resolver.h"
#include "src/recipe/roles.h"
#include "src/search/model_names.h"

namespace amalgam {
namespace {

/// Without "..", which says nothing of the name.
std::vector<std::string> name_of(const std::string& reference) {
    std::vector<std::string> components = path_components(reference);
    std::erase(components, "..");
    return components;
}

/// Whether one is an ending of the other.
bool may_be_same(const std::string& a, const std::string& b) {
    const std::vector<std::string> first = name_of(a), second = name_of(b);
    const auto count = int64_t(std::min(first.size(), second.size()));
    return count > 0 && std::equal(first.end() - count, first.end(), second.end() - count, second.end());
}

std::string text_of(const Parameter& parameter) {
    std::string text;
    for (const ParameterEntry& entry : parameter.entries) {
        if (!text.empty()) text += ", ";
        if (!entry.filter.empty()) text += printable(entry.filter, 60) + ": ";
        text += entry.gradient.size() == 1 ? fmt::format("{}", entry.gradient[0])
                                           : fmt::format("[{}]", fmt::join(entry.gradient, ", "));
    }
    return text;
}

bool is_zero(const Parameter& parameter) {
    const std::vector<ParameterEntry>& entries = parameter.entries;
    return !entries.empty() && std::all_of(entries.begin(), entries.end(), [](const ParameterEntry& entry) {
        return std::all_of(entry.gradient.begin(), entry.gradient.end(), [](double number) { return number == 0; });
    });
}

const GeneField* find_gene(const SearchConfig& config, std::string_view field) {
    const auto found = std::find_if(config.genes.begin(), config.genes.end(),
                                    [&](const GeneField& gene) { return gene.name == field; });
    return found == config.genes.end() ? nullptr : &*found;
}

/// One recipe against the search.
class HandMade {
  public:
    HandMade(const SearchConfig& config, Recipe recipe)
        : config_(config), merge_(config.recipe), recipe_(std::move(recipe)), method_(*find_method(merge_.method)) {}

    Recipe candidate() {
        check(recipe_.slices.empty(), "{}: slices: a recipe made by hand needs models, whose numbers the search takes",
              place(0));
        check(recipe_.method == merge_.method, "{}: merge_method={} (must be that of [merge], {})", place(0),
              recipe_.method, merge_.method);
        check_rest();
        sort_models();
        for (const Field& field : method_.fields) {
            if (field.scope == Scope::global) {
                check_field(field, nullptr, nullptr);
                continue;
            }
            for (size_t model = 0; model < merge_.models.size(); ++model)
                check_field(field, &recipe_.models[model], &merge_.models[model]);
        }
        return std::move(recipe_);
    }

  private:
    std::string place(int line) const { return recipe_place(recipe_, line); }

    /// What a candidate has of [merge].
    void check_rest() const {
        const std::string base = recipe_.base_model.value_or("none"), wanted = merge_.base_model.value_or("none");
        check(recipe_.base_model.has_value() == merge_.base_model.has_value() && may_be_same(base, wanted),
              "{}: base_model={} (must be that of [merge], {})", place(0), printable(base), printable(wanted));
        for (const auto& [key, own, other] :
             {std::tuple("dtype", recipe_.dtype, merge_.dtype), {"out_dtype", recipe_.out_dtype, merge_.out_dtype}})
            check(!own || own == other, "{}: {}={} (must be that of [merge], {})", place(0), key,
                  info(*own).config_name, other ? info(*other).config_name : "none");
        check(recipe_.compat == merge_.compat, "{}: compat is another one than that of [merge]", place(0));
        const bool draws = method_.trim == Trim::random || method_.trim == Trim::ranked;
        check(!draws || recipe_.seed == merge_.seed, "{}: seed={} (must be that of [merge], {})", place(0),
              recipe_.seed, merge_.seed);
    }

    void sort_models() {
        std::vector<std::optional<SourceEntry>> sorted(merge_.models.size());
        for (SourceEntry& model : recipe_.models) {
            const size_t number = number_of(model);
            check(!sorted[number], "{}: model={} is there twice", place(model.line), printable(model.model));
            sorted[number] = std::move(model);
        }
        recipe_.models.clear();
        for (size_t number = 0; number < sorted.size(); ++number) {
            check(sorted[number].has_value(), "{}: models: {} of [merge] is missing (its weight may be 0)", place(0),
                  printable(merge_.models[number].model));
            recipe_.models.push_back(std::move(*sorted[number]));
        }
    }

    /// Place of the model in [merge].
    size_t number_of(const SourceEntry& model) const {
        std::vector<size_t> found;
        for (size_t number = 0; number < merge_.models.size(); ++number) {
            if (path_components(model.model) == path_components(merge_.models[number].model)) return number;
            if (may_be_same(model.model, merge_.models[number].model)) found.push_back(number);
        }
        check(!found.empty(), "{}: model={} is none of [merge] ({})", place(model.line), printable(model.model),
              fmt::join(config_.model_names, ", "));
        check(found.size() < 2, "{}: model={} may be {} or {}: write more of its path", place(model.line),
              printable(model.model), printable(merge_.models[found[0]].model),
              printable(merge_.models[found.back()].model));
        return found[0];
    }

    void check_field(const Field& field, const SourceEntry* own, const SourceEntry* other) const {
        const Parameter given = whole_parameter(field, recipe_, own);
        const std::string key = fmt::format("{}{}{}", field.name, own ? " of " : "", own ? printable(own->model) : "");
        if (config_.choose_models && own && is_left_out(config_, recipe_, *own)) return;
        const GeneField* gene = find_gene(config_, field.name);
        if (!gene) {
            const Parameter wanted = whole_parameter(field, merge_, other);
            check(text_of(given) == text_of(wanted),
                  "{}: {}={} (must be {} as in [merge], or be searched for: search.genes.{})", place(given.line), key,
                  text_of(given), text_of(wanted), field.name);
            return;
        }
        for (const ParameterEntry& entry : given.entries) {
            check(entry.filter.empty() ||
                      std::find(gene->filters.begin(), gene->filters.end(), entry.filter) != gene->filters.end(),
                  "{}: {} has a number of its own for {} (search.genes.{} has no such filter)", place(given.line), key,
                  printable(entry.filter), field.name);
            for (double number : entry.gradient)
                check(number >= gene->low && number <= gene->high,
                      "{}: {}={} (must be in [{}, {}], the bounds of search.genes.{})", place(given.line), key, number,
                      gene->low, gene->high, field.name);
        }
    }

    const SearchConfig& config_;
    const Recipe& merge_;
    Recipe recipe_;
    const MethodInfo& method_;
};

}  // namespace

Recipe hand_made_candidate(const SearchConfig& config, Recipe recipe) {
    return HandMade(config, std::move(recipe)).candidate();
}

Parameter whole_parameter(const Field& field, const Recipe& recipe, const SourceEntry* model) {
    Parameter whole;
    for (const Parameter* level : parameter_levels(field, model, nullptr, recipe).levels) {
        if (!level) continue;
        if (whole.entries.empty()) whole.line = level->line;
        for (const ParameterEntry& entry : level->entries) {
            whole.entries.push_back(entry);
            std::vector<double>& gradient = whole.entries.back().gradient;
            if (std::adjacent_find(gradient.begin(), gradient.end(), std::not_equal_to<>()) == gradient.end())
                gradient.resize(1);
            if (entry.filter.empty()) return whole;
        }
    }
    if (!field.required && !std::isnan(field.default_value)) whole.entries.push_back({"", {field.default_value}});
    return whole;
}

bool is_left_out(const SearchConfig& config, const Recipe& recipe, const SourceEntry& model) {
    const MethodInfo& method = *find_method(recipe.method);
    if (!config.choose_models || method.field("weight") < 0) return false;
    const GeneField* gene = find_gene(config, "weight");
    if (gene && gene->low <= 0 && gene->high >= 0) return false;
    return is_zero(whole_parameter(method.fields[size_t(method.field("weight"))], recipe, &model));
}

}  // namespace amalgam
