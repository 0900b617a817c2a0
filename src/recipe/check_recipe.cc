#include "src/recipe/check_recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>

#include "kernels/methods.h"
#include "src/base/nearest.h"
#include "src/recipe/read_parameters.h"
#include "src/recipe/roles.h"

namespace amalgam {
namespace {

class RecipeChecker {
  public:
    RecipeChecker(const Value& root, Reporter& reporter) : root_(root), reporter_(reporter) {}

    Recipe check() {
        refuse_unsupported();
        reporter_.check_keys(root_,
                             {"merge_method", "base_model", "models", "slices", "parameters", "dtype", "out_dtype",
                              "tokenizer_source", "tokenizer", "chat_template", "compat", "seed", "modules"});
        read_method();
        read_compat_and_seed();
        recipe_.dtype = read_dtype("dtype");
        recipe_.out_dtype = read_dtype("out_dtype");
        recipe_.base_model = read_optional_reference(root_, "base_model");
        if (recipe_.base_model) recipe_.base_line = Reporter::public_line(root_.find("base_model")->line);
        read_tokenizer();
        recipe_.parameters = read_parameters(root_.find("parameters"), method(), false, reporter_);
        read_models_or_slices();
        check_inputs();
        check_groups();
        recipe_.warnings = reporter_.warnings();
        return std::move(recipe_);
    }

  private:
    const MethodInfo& method() const { return *method_; }

    static bool given(const Value* value) { return value && value->kind != Value::Kind::null; }

    void refuse_unsupported() {
        if (const Value* modules = root_.find("modules"); given(modules))
            reporter_.fail_at(modules->line,
                              "modules: not supported: list the models under models (all towers are merged alike), "
                              "with filters where towers should differ");
        if (const Value* chat_template = root_.find("chat_template"); given(chat_template)) {
            if (read_string(*chat_template, "chat_template", reporter_) != "auto")
                reporter_.fail_at(chat_template->line,
                                  "chat_template: not supported: the template comes with the tokenizer's files; "
                                  "remove the key and name the model to take them from in tokenizer_source");
            reporter_.warn(chat_template->line,
                           "chat_template: auto has no effect: the template comes with the tokenizer's files");
        }
    }

    void read_method() {
        const Value* value = root_.find("merge_method");
        std::vector<std::string_view> names;
        names.reserve(all_methods.size());
        for (const MethodInfo* each : all_methods) names.push_back(each->name);
        if (!given(value)) reporter_.fail_at(root_.line, "merge_method is missing{}", did_you_mean("", names));
        recipe_.method = read_string(*value, "merge_method", reporter_);
        method_ = find_method(recipe_.method);
        if (!method_)
            reporter_.fail_at(value->line, "unknown merge_method \"{}\"{}", printable(recipe_.method),
                              did_you_mean(recipe_.method, names));
    }

    void read_compat_and_seed() {
        if (const Value* value = root_.find("compat"); given(value)) {
            const std::string compat = read_string(*value, "compat", reporter_);
            if (compat != "mergekit" && compat != "paper")
                reporter_.fail_at(value->line, "compat: must be \"mergekit\" or \"paper\", not \"{}\"",
                                  printable(compat));
            recipe_.compat = compat == "paper" ? Compat::paper : Compat::mergekit;
        }
        if (const Value* value = root_.find("seed"); given(value)) recipe_.seed = read_seed(*value);
    }

    uint64_t read_seed(const Value& value) {
        uint64_t seed = 0;
        if (value.kind == Value::Kind::integer && value.integer >= 0) return uint64_t(value.integer);
        // TOML integers are signed: the upper half of the seeds is given as strings.
        const std::string& text = value.text;
        const auto [last, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
        if (value.kind != Value::Kind::string || text.empty() || error != std::errc() ||
            last != text.data() + text.size())
            reporter_.fail_at(
                value.line,
                "seed: must be an integer from 0 to 18446744073709551615 (above 9223372036854775807 in quotes)");
        return seed;
    }

    std::optional<Dtype> read_dtype(std::string_view key) {
        const Value* value = root_.find(key);
        if (!given(value)) return std::nullopt;
        const std::string name = read_string(*value, key, reporter_);
        std::optional<Dtype> dtype = dtype_from_config(name);
        if (!dtype || !info(*dtype).computed) {
            std::vector<std::string_view> names;
            for (const DtypeInfo& each : dtype_table)
                if (each.computed) names.push_back(each.config_name);
            reporter_.fail_at(value->line, "{}: \"{}\" is no dtype to write (valid: {})", key, printable(name),
                              fmt::join(names, ", "));
        }
        return dtype;
    }

    std::optional<std::string> read_optional_reference(const Value& table, std::string_view key) {
        const Value* value = table.find(key);
        if (!given(value)) return std::nullopt;
        return read_reference(*value, key, reporter_);
    }

    void read_tokenizer() {
        const Value* source = root_.find("tokenizer_source");
        const Value* tokenizer = root_.find("tokenizer");
        if (given(source) && given(tokenizer))
            reporter_.fail_at(tokenizer->line, "tokenizer and tokenizer_source: give one of the two");
        if (given(source)) set_tokenizer_source(*source, "tokenizer_source");
        if (!given(tokenizer)) return;
        read_table(tokenizer, "tokenizer", reporter_);
        reporter_.check_keys(*tokenizer, {"source", "tokens", "pad_to_multiple_of"});
        for (std::string_view key : {"tokens", "pad_to_multiple_of"})
            if (const Value* value = tokenizer->find(key); given(value))
                reporter_.fail_at(value->line,
                                  "tokenizer.{}: not supported: embeddings are merged row by row and never moved; "
                                  "give tokenizer_source: base or a model",
                                  key);
        const Value* wanted = tokenizer->find("source");
        if (!given(wanted))
            reporter_.fail_at(
                tokenizer->line,
                "tokenizer: without a source means union, which comes later: give source: base or a model");
        set_tokenizer_source(*wanted, "tokenizer.source");
    }

    void set_tokenizer_source(const Value& value, std::string_view key) {
        recipe_.tokenizer_source = read_reference(value, key, reporter_);
        recipe_.tokenizer_line = Reporter::public_line(value.line);
        if (recipe_.tokenizer_source == "union")
            reporter_.fail_at(value.line, "{}: union comes later: the vocabularies must agree; give base or a model",
                              key);
        if (recipe_.tokenizer_source == "base" && !recipe_.base_model)
            reporter_.fail_at(value.line, "{}: base, but the recipe has no base_model: add one or name a model", key);
    }

    void read_models_or_slices() {
        const Value* models = root_.find("models");
        const Value* slices = root_.find("slices");
        if (given(models) && given(slices))
            reporter_.fail_at(slices->line, "both models (line {}) and slices: give one of the two",
                              Reporter::public_line(models->line));
        if (!given(models) && !given(slices))
            reporter_.fail_at(root_.line, "neither models nor slices: list what to merge");
        if (given(models)) {
            recipe_.models = read_entries(*models, "models", false);
        } else {
            const std::vector<Value>& items = read_list(*slices, "slices");
            for (const Value& item : items) recipe_.slices.push_back(read_slice(item));
        }
    }

    const std::vector<Value>& read_list(const Value& value, std::string_view key) {
        if (value.kind != Value::Kind::list)
            reporter_.fail_at(value.line, "{}: must be a list, not {}", key, value.kind_text());
        if (value.items.empty()) reporter_.fail_at(value.line, "{}: an empty list: nothing to merge", key);
        if (value.items.size() > size_t(max_entries))
            reporter_.fail_at(value.line, "{}: {} entries: at most {}", key, value.items.size(), max_entries);
        return value.items;
    }

    OutputSlice read_slice(const Value& value) {
        if (value.kind != Value::Kind::table)
            reporter_.fail_at(value.line, "slices: an entry must be a table with sources, not {}", value.kind_text());
        reporter_.check_keys(value, {"sources", "base_model", "parameters"});
        OutputSlice slice;
        slice.line = Reporter::public_line(value.line);
        slice.base_model = read_optional_reference(value, "base_model");
        slice.parameters = read_parameters(value.find("parameters"), method(), false, reporter_);
        const Value* sources = value.find("sources");
        if (!given(sources)) reporter_.fail_at(value.line, "a slice needs sources: [{{model, layer_range}}, ...]");
        slice.sources = read_entries(*sources, "sources", true);
        check_lengths(slice);
        return slice;
    }

    void check_lengths(const OutputSlice& slice) {
        const SourceEntry* first = nullptr;
        for (const SourceEntry& entry : slice.sources) {
            if (!entry.layer_range) continue;
            if (!first) first = &entry;
            const auto [a, b] = *first->layer_range;
            const auto [c, d] = *entry.layer_range;
            if (b - a != d - c)
                reporter_.fail_at(entry.line,
                                  "layer_range [{}, {}) of {} has {} layers, [{}, {}) of {} in the same slice has {}: "
                                  "they must agree",
                                  c, d, entry.model, d - c, a, b, first->model, b - a);
        }
    }

    std::vector<SourceEntry> read_entries(const Value& list, std::string_view key, bool in_slice) {
        std::vector<SourceEntry> entries;
        for (const Value& item : read_list(list, key)) entries.push_back(read_entry(item, key, in_slice));
        return entries;
    }

    SourceEntry read_entry(const Value& value, std::string_view key, bool in_slice) {
        if (value.kind != Value::Kind::table)
            reporter_.fail_at(value.line, "{}: an entry must be a table like {{model = \"path\"}}, not {}", key,
                              value.kind_text());
        if (const Value* range = value.find("layer_range"); !in_slice && given(range))
            reporter_.fail_at(
                range->line,
                "layer_range: models take part with all their layers; for a part of them use slices with sources");
        if (in_slice)
            reporter_.check_keys(value, {"model", "parameters", "group", "layer_range"});
        else
            reporter_.check_keys(value, {"model", "parameters", "group"});
        SourceEntry entry;
        entry.line = Reporter::public_line(value.line);
        const Value* model = value.find("model");
        if (!given(model)) reporter_.fail_at(value.line, "{}: an entry without a model", key);
        entry.model = read_reference(*model, "model", reporter_);
        const Value* parameters = value.find("parameters");
        entry.parameters = read_parameters(parameters, method(), true, reporter_);
        if (given(parameters)) find_misplaced(*parameters);
        if (const Value* range = value.find("layer_range"); given(range)) entry.layer_range = read_range(*range);
        if (const Value* group = value.find("group"); given(group)) entry.group = read_group(*group);
        return entry;
    }

    void find_misplaced(const Value& parameters) {
        for (const Value::Member& member : parameters.members)
            if (const int index = method().field(member.key);
                index >= 0 && method().fields[size_t(index)].scope == Scope::global)
                misplaced_.try_emplace(member.key, reporter_.where(member.line));
    }

    /// Of a parameter of the whole that is missing, but was given to a model.
    std::string misplaced_text(const Field& field) const {
        const auto found = misplaced_.find(std::string(field.name));
        if (found == misplaced_.end()) return "";
        return fmt::format("; in {} it stands at a model: move it to the parameters of the recipe or of the slice",
                           found->second);
    }

    int read_group(const Value& value) {
        const int64_t group = read_integer(value, "group", reporter_);
        if (group < 0 || group >= max_groups)
            reporter_.fail_at(value.line, "group: {} is no group: they are numbered from 0 to at most {}", group,
                              max_groups - 1);
        return int(group);
    }

    std::pair<int64_t, int64_t> read_range(const Value& value) {
        if (value.kind != Value::Kind::list || value.items.size() != 2)
            reporter_.fail_at(value.line, "layer_range: must be [first, one past the last], for instance [0, 16]");
        const int64_t first = read_integer(value.items[0], "layer_range", reporter_);
        const int64_t last = read_integer(value.items[1], "layer_range", reporter_);
        if (first < 0 || last <= first || last > max_layers)
            reporter_.fail_at(value.line,
                              "layer_range: [{}, {}) is no range of layers: the first is included, the last is not",
                              first, last);
        return {first, last};
    }

    void check_inputs() {
        if (!recipe_.models.empty()) check_list(recipe_.models, recipe_.base_model, nullptr, "models");
        for (const OutputSlice& slice : recipe_.slices)
            check_list(slice.sources, slice.base_model ? slice.base_model : recipe_.base_model, &slice, "sources");
        warn_of_idle_base();
    }

    void check_list(const std::vector<SourceEntry>& entries, const std::optional<std::string>& base,
                    const OutputSlice* slice, std::string_view key) {
        const int line = slice ? slice->line : entries.front().line;
        const bool needs_base = method().base == BaseUse::required || method().base == BaseUse::member;
        if (needs_base && !base) reporter_.fail_at(line, "{} needs a base_model", method().name);
        const Roles roles = assign_roles(method(), entries, base, slice != nullptr);
        check_count(roles, line, key);
        for (int index : roles.inputs) check_required(entries[index], slice);
        for (const Field& field : method().fields)
            if (field.required && field.scope == Scope::global &&
                !parameter_levels(field, nullptr, slice, recipe_).given())
                reporter_.fail_at(line, "parameter {} is missing: {} needs it under parameters ({}){}", field.name,
                                  method().name, field.help, misplaced_text(field));
        if (roles.origin && roles.base >= 0 && !entries[roles.base].parameters.empty())
            reporter_.warn(entries[roles.base].line, fmt::format("the parameters of {} have no effect: it is the base",
                                                                 entries[roles.base].model));
    }

    void check_count(const Roles& roles, int line, std::string_view key) {
        const int count = roles.models(), low = method().min_models, high = method().max_models;
        if (count >= low && (high == 0 || count <= high)) return;
        const std::string_view besides = roles.origin ? " besides the base" : "";
        if (count < low)
            reporter_.fail_at(
                line, "{} needs {} {} model{}{}, {} {}: {}", method().name, low == high ? "exactly" : "at least", low,
                low == 1 ? "" : "s", besides, key, count == 0 ? "has none" : fmt::format("has {}", count),
                roles.base >= 0 && roles.origin ? "the base itself does not count" : "add what is missing");
        reporter_.fail_at(line, "{} takes {} model{}{}, {} has {}{}", method().name, high, high == 1 ? "" : "s",
                          besides, key, count,
                          method().shape == Shape::copy ? ": for stacking, make each a slice" : "");
    }

    void check_required(const SourceEntry& entry, const OutputSlice* slice) {
        for (const Field& field : method().fields)
            if (field.required && field.scope == Scope::per_model &&
                !parameter_levels(field, &entry, slice, recipe_).given())
                reporter_.fail_at(entry.line, "parameter {} of {} is missing: {} needs it for every model ({})",
                                  field.name, printable(entry.model), method().name, field.help);
    }

    std::vector<const SourceEntry*> all_entries() const {
        std::vector<const SourceEntry*> entries;
        for (const SourceEntry& entry : recipe_.models) entries.push_back(&entry);
        for (const OutputSlice& slice : recipe_.slices)
            for (const SourceEntry& entry : slice.sources) entries.push_back(&entry);
        return entries;
    }

    bool is_a_base(const SourceEntry& entry) const {
        const auto is = [&](const std::optional<std::string>& base) {
            return base && same_reference(entry.model, *base);
        };
        return is(recipe_.base_model) || std::any_of(recipe_.slices.begin(), recipe_.slices.end(),
                                                     [&](const OutputSlice& slice) { return is(slice.base_model); });
    }

    /// Either every model but the bases says on which disks it lies, or none does.
    void check_groups() {
        const SourceEntry *with = nullptr, *without = nullptr;
        std::vector<bool> used(size_t(recipe_.groups()));
        for (const SourceEntry* entry : all_entries()) {
            if (entry->group >= 0 && is_a_base(*entry))
                reporter_.fail_at(entry->line, "group {} of {}: it is the base, which every group reads: leave it out",
                                  entry->group, printable(entry->model));
            if (entry->group >= 0) used[size_t(entry->group)] = true;
            if (entry->group >= 0 && !with) with = entry;
            if (entry->group < 0 && !without && !is_a_base(*entry)) without = entry;
        }
        if (!with) return;
        if (without)
            reporter_.fail_at(without->line,
                              "{} has no group, {} has: give one to every model but the base, or to none",
                              printable(without->model), printable(with->model));
        const auto gap = std::find(used.begin(), used.end(), false);
        if (gap != used.end())
            reporter_.fail_at(with->line, "group: no model is in group {}, but there is a group {}: number them from 0",
                              gap - used.begin(), used.size() - 1);
    }

    void warn_of_idle_base() {
        if (!recipe_.base_model) return;
        const bool ignored =
            method().base == BaseUse::none || (method().base == BaseUse::ordinary && recipe_.models.empty());
        if (!ignored) return;
        const auto lists = [&](const std::vector<SourceEntry>& entries) {
            return assign_roles(method(), entries, recipe_.base_model, true).base >= 0;
        };
        bool listed = lists(recipe_.models);
        for (const OutputSlice& slice : recipe_.slices) listed = listed || lists(slice.sources);
        if (!listed)
            reporter_.warn(
                root_.find("base_model")->line,
                fmt::format("base_model has no effect on {}: it gives only its config and tokenizer", method().name));
    }

    const Value& root_;
    Reporter& reporter_;
    const MethodInfo* method_ = nullptr;
    std::map<std::string, std::string> misplaced_;  ///< parameters of the whole at a model, and where
    Recipe recipe_;
};

}  // namespace

Recipe check_recipe(const Value& root, Reporter& reporter) { return RecipeChecker(root, reporter).check(); }

}  // namespace amalgam
