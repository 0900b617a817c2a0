#include "src/search/search_config.h"

#include <algorithm>
#include <cmath>

#include "kernels/methods.h"
#include "src/base/error.h"
#include "src/base/nearest.h"
#include "src/recipe/check_recipe.h"
#include "src/recipe/reporter.h"
#include "src/recipe/value.h"
#include "src/search/hand_made.h"
#include "src/search/model_names.h"
#include "src/search/optimisers.h"

namespace amalgam {
namespace {

constexpr int most_groups = 1000;
constexpr int most_filters = 64;

/// Reads values of one table, with their range.
class Reader {
  public:
    Reader(const Value* table, std::string name, Reporter& reporter)
        : table_(table), name_(std::move(name)), reporter_(reporter) {}

    const Value* find(std::string_view key) const { return table_ ? table_->find(key) : nullptr; }
    std::string full(std::string_view key) const {
        return name_.empty() ? std::string(key) : name_ + "." + std::string(key);
    }

    double number(std::string_view key, double otherwise, double low, double high) const {
        const Value* value = find(key);
        if (!value) return otherwise;
        const std::optional<double> given = as_number(*value);
        if (!given || !(*given >= low && *given <= high))
            reporter_.fail_at(value->line, "{}: must be a number from {} to {}", full(key), low, high);
        return *given;
    }
    int64_t integer(std::string_view key, int64_t otherwise, int64_t low, int64_t high) const {
        const Value* value = find(key);
        if (!value) return otherwise;
        const int64_t given = read_integer(*value, full(key), reporter_);
        if (given < low || given > high)
            reporter_.fail_at(value->line, "{}={}: must be from {} to {}", full(key), given, low, high);
        return given;
    }
    bool boolean(std::string_view key, bool otherwise) const {
        const Value* value = find(key);
        if (!value) return otherwise;
        if (value->kind != Value::Kind::boolean) reporter_.fail_at(value->line, "{}: must be true or false", full(key));
        return value->boolean;
    }
    std::string text(std::string_view key, const std::string& otherwise) const {
        const Value* value = find(key);
        return value ? read_string(*value, full(key), reporter_) : otherwise;
    }
    /// One of these words; its place.
    size_t choice(std::string_view key, std::initializer_list<std::string_view> words) const {
        const Value* value = find(key);
        if (!value) return 0;
        const std::string given = read_string(*value, full(key), reporter_);
        const auto found = std::find(words.begin(), words.end(), given);
        if (found == words.end())
            reporter_.fail_at(value->line, "{}=\"{}\": unknown{}", full(key), printable(given, 100),
                              did_you_mean(given, {words.begin(), words.size()}));
        return size_t(found - words.begin());
    }
    std::vector<std::string> texts(std::string_view key, size_t most) const {
        std::vector<std::string> result;
        const Value* value = find(key);
        if (!value) return result;
        if (value->kind != Value::Kind::list)
            reporter_.fail_at(value->line, "{}: must be a list of strings", full(key));
        for (const Value& item : value->items) {
            result.push_back(read_string(item, full(key), reporter_));
            if (result.back().empty()) reporter_.fail_at(item.line, "{}: an empty string fits everything", full(key));
        }
        if (result.size() > most) reporter_.fail_at(value->line, "{}: more than {} entries", full(key), most);
        return result;
    }
    int line(std::string_view key) const { return find(key) ? find(key)->line : table_ ? table_->line : 0; }

  private:
    const Value* table_;
    std::string name_;
    Reporter& reporter_;
};

Value number_value(double number) {
    Value value;
    value.kind = Value::Kind::number;
    value.number = number;
    return value;
}

Value& table_at(Value& parent, const std::string& key) {
    if (Value* found = parent.find(key)) return *found;
    Value table;
    table.kind = Value::Kind::table;
    table.line = parent.line;
    parent.members.push_back({key, parent.line, std::move(table)});
    return parent.members.back().value;
}

GeneField read_gene(const Value::Member& member, const Field& field, const Reader& shared, Reporter& reporter) {
    const std::string name = "search.genes." + member.key;
    if (member.value.kind != Value::Kind::table)
        reporter.fail_at(member.line, "{}: must be a table, such as {{ low = 0, high = 1 }}", name);
    reporter.check_keys(member.value, {"low", "high", "start", "sigma", "layer_groups", "filters", "smooth"});
    const Reader reader(&member.value, name, reporter);
    GeneField gene;
    gene.name = member.key;
    gene.line = member.line;
    gene.low = reader.number("low", field.search_low, field.low, field.high);
    gene.high = reader.number("high", field.search_high, field.low, field.high);
    if (!(gene.low < gene.high))
        reporter.fail_at(reader.line("high"), "{}: low={} must be below high={}", name, gene.low, gene.high);
    double middle = (gene.low + gene.high) / 2;
    if (field.kind == FieldKind::integer) {
        middle = std::round(middle);
        for (const auto& [key, value] : {std::pair("low", gene.low), {"high", gene.high}})
            if (value != std::round(value))
                reporter.fail_at(reader.line(key), "{}.{}={}: {} takes whole numbers", name, key, value, field.name);
    }
    gene.start = reader.number("start", middle, gene.low, gene.high);
    gene.sigma =
        reader.number("sigma", (gene.high - gene.low) / 6, 1e-9 * (gene.high - gene.low), gene.high - gene.low);
    const bool global = field.scope == Scope::global;
    gene.layer_groups = int(
        reader.integer("layer_groups", global ? 1 : shared.integer("layer_groups", 1, 1, most_groups), 1, most_groups));
    gene.smooth = reader.boolean("smooth", shared.boolean("smooth", false));
    gene.filters = reader.find("filters") || global ? reader.texts("filters", most_filters)
                                                    : shared.texts("filters", most_filters);
    if (field.kind == FieldKind::boolean)
        reporter.fail_at(member.line, "{}: is true or false: set it in [merge], and search both files", name);
    return gene;
}

/// The fields to search for; their starts go into the recipe's table, so that it is a whole recipe.
std::vector<GeneField> read_genes(const Value* table, const MethodInfo& method, const Reader& shared,
                                  Reporter& reporter) {
    std::vector<GeneField> genes;
    if (!table) return genes;
    std::vector<std::string_view> names;
    for (const Field& field : method.fields) names.push_back(field.name);
    for (const Value::Member& member : table->members) {
        const int place = method.field(member.key);
        if (place < 0)
            reporter.fail_at(member.line, "search.genes.{}: {} has no such field{}", printable(member.key, 100),
                             method.name, did_you_mean(member.key, names));
        genes.push_back(read_gene(member, method.fields[size_t(place)], shared, reporter));
    }
    return genes;
}

void put_starts(Value& merge, const MethodInfo& method, const std::vector<GeneField>& genes) {
    for (const GeneField& gene : genes) {
        const Field& field = method.fields[size_t(method.field(gene.name))];
        Value* models = merge.find("models");
        if (field.scope == Scope::global || !models) {
            Value& parameters = table_at(merge, "parameters");
            if (!parameters.find(gene.name))
                parameters.members.push_back({gene.name, gene.line, number_value(gene.start)});
            continue;
        }
        for (Value& model : models->items) {
            if (model.kind != Value::Kind::table) continue;
            Value& parameters = table_at(model, "parameters");
            if (parameters.kind == Value::Kind::table && !parameters.find(gene.name))
                parameters.members.push_back({gene.name, gene.line, number_value(gene.start)});
        }
    }
}

/// models = ["a", "b"] is short for a list of tables.
void spell_out_models(Value& merge) {
    Value* models = merge.find("models");
    if (!models || models->kind != Value::Kind::list) return;
    for (Value& model : models->items) {
        if (model.kind != Value::Kind::string) continue;
        Value table;
        table.kind = Value::Kind::table;
        table.line = model.line;
        table.members.push_back({"model", model.line, std::move(model)});
        model = std::move(table);
    }
}

/// true: a scale for each slot.
ScaleKind read_scales(const Reader& reader) {
    const Value* value = reader.find("scales");
    if (value && value->kind == Value::Kind::boolean) return value->boolean ? ScaleKind::slots : ScaleKind::none;
    constexpr ScaleKind kinds[] = {ScaleKind::none, ScaleKind::slots, ScaleKind::low_rank, ScaleKind::network};
    return kinds[reader.choice("scales", {"none", "slots", "low-rank", "network"})];
}

DataFlow read_data_flow(const Value* table, Reporter& reporter) {
    DataFlow flow;
    if (!table) return flow;
    reporter.check_keys(*table, {"repeats", "fixed_ends", "likely", "unlikely", "scales", "scale_low", "scale_high",
                                 "scale_rank", "scale_hidden", "cost", "most_layers", "evaluations"});
    const Reader reader(table, "search.data_flow", reporter);
    flow.repeats = int(reader.integer("repeats", flow.repeats, 1, 100));
    flow.fixed_ends = reader.boolean("fixed_ends", flow.fixed_ends);
    flow.likely = reader.number("likely", flow.likely, 0.01, 0.99);
    flow.unlikely = reader.number("unlikely", flow.unlikely, 0.01, 0.99);
    flow.scales = read_scales(reader);
    flow.scale_low = reader.number("scale_low", flow.scale_low, 1e-3, 1);
    flow.scale_high = reader.number("scale_high", flow.scale_high, 1, 1e3);
    if (flow.scales != ScaleKind::none && flow.scale_low == flow.scale_high)
        reporter.fail_at(reader.line("scale_low"), "{}: scale_low and scale_high are both 1: no scale can be found",
                         reader.full("scales"));
    flow.scale_rank = int(reader.integer("scale_rank", flow.scale_rank, 1, 64));
    flow.scale_hidden = int(reader.integer("scale_hidden", flow.scale_hidden, 1, 256));
    flow.cost = reader.number("cost", flow.cost, 0, 1);
    flow.most_layers = int(reader.integer("most_layers", 0, 0, 1'000'000));
    if (flow.fixed_ends && flow.most_layers == 1)
        reporter.fail_at(reader.line("most_layers"),
                         "{}=1: fixed ends are two layers: it must be at least 2, or fixed_ends = false",
                         reader.full("most_layers"));
    flow.evaluations = reader.integer("evaluations", 0, 0, int64_t(1) << 40);
    return flow;
}

std::vector<SearchTask> read_tasks(const Value* list, Reporter& reporter, int line) {
    if (!list) reporter.fail_at(line, "tasks: missing: a search needs [[tasks]] with search = \"FILE\"");
    if (list->kind != Value::Kind::list || list->items.empty())
        reporter.fail_at(list->line, "tasks: must be a list of tables with search = \"FILE\"");
    std::vector<SearchTask> tasks;
    for (const Value& item : list->items) {
        if (item.kind != Value::Kind::table)
            reporter.fail_at(item.line, "tasks: an entry must be a table with search = \"FILE\"");
        reporter.check_keys(item, {"search", "heldout", "validation", "weight"});
        const Reader reader(&item, "tasks", reporter);
        SearchTask task;
        task.search = reader.text("search", "");
        if (task.search.empty())
            reporter.fail_at(item.line, "tasks.search: missing: the file whose items are searched on");
        task.heldout = reader.text("heldout", "");
        task.validation = reader.text("validation", "");
        if (item.find("weight")) task.weight = reader.number("weight", 1, 0, 1e9);
        tasks.push_back(std::move(task));
    }
    for (const auto file : {&SearchTask::heldout, &SearchTask::validation}) {
        const auto given =
            std::count_if(tasks.begin(), tasks.end(), [&](const SearchTask& t) { return !(t.*file).empty(); });
        if (given != 0 && size_t(given) != tasks.size())
            reporter.fail_at(list->line, "tasks: {} is given for {} of {} tasks: give it for all or for none",
                             file == &SearchTask::heldout ? "heldout" : "validation", given, tasks.size());
    }
    return tasks;
}

/// Of the optimiser, whose table knows names and ranges.
void read_options(const Value* table, SearchConfig& config, Reporter& reporter) {
    OptimiserSettings settings;
    const OptimiserInfo& optimiser = find_optimiser(config.optimiser);
    if (!table) return;
    for (const Value::Member& member : table->members) {
        const Value& value = member.value;
        std::string text = value.text;
        if (value.kind == Value::Kind::boolean) text = value.boolean ? "true" : "false";
        if (value.kind == Value::Kind::integer) text = fmt::format("{}", value.integer);
        if (value.kind == Value::Kind::number) text = fmt::format("{}", value.number);
        try {
            set_option(settings, optimiser, member.key, text);
        } catch (const Error& error) {
            reporter.fail_at(member.line, "search.options.{}: {}", printable(member.key, 100), error.what());
        }
        config.options.emplace_back(member.key, text);
    }
}

void read_settings(const Value& table, SearchConfig& config, Reporter& reporter) {
    reporter.check_keys(table, {"space",       "genes",        "choose_models", "layer_groups", "filters",  "smooth",
                                "data_flow",   "optimiser",    "options",       "evaluations",  "seconds",  "seed",
                                "tie_breaker", "mean_genome",  "finalists",     "quorum",       "lease",    "hand_made",
                                "racing",      "racing_level", "public_tests",  "pairs",        "surrogate"});
    const Reader reader(&table, "search", reporter);
    constexpr SearchSpace spaces[] = {SearchSpace::parameters, SearchSpace::data_flow, SearchSpace::both};
    config.space = spaces[reader.choice("space", {"ps", "dfs", "ps-dfs"})];
    config.choose_models = reader.boolean("choose_models", false);
    config.data_flow = read_data_flow(read_table(reader.find("data_flow"), "search.data_flow", reporter), reporter);
    config.optimiser = reader.text("optimiser", config.optimiser);
    read_options(read_table(reader.find("options"), "search.options", reporter), config, reporter);
    config.evaluations = reader.integer("evaluations", config.evaluations, 1, int64_t(1) << 40);
    config.seconds = reader.number("seconds", 0, 0, 1e9);
    config.seed = uint64_t(reader.integer("seed", 0, 0, INT64_MAX));
    config.tie_breaker = reader.number("tie_breaker", config.tie_breaker, 0, 1);
    config.mean_genome = reader.boolean("mean_genome", true);
    config.pairs = reader.boolean("pairs", false);
    config.surrogate = reader.boolean("surrogate", false);
    config.finalists = int(reader.integer("finalists", config.finalists, 1, 1000));
    config.quorum = reader.number("quorum", 1, 0.5, 1);
    config.racing = reader.integer("racing", config.racing, 0, int64_t(1) << 30);
    config.racing_level = reader.number("racing_level", config.racing_level, 0, 0.5);
    config.public_tests = reader.boolean("public_tests", false);
    config.hand_made_files = reader.texts("hand_made", 1000);
    if (config.space == SearchSpace::data_flow && !config.hand_made_files.empty())
        reporter.fail_at(
            reader.line("hand_made"),
            "search.hand_made: recipes made by hand are numbers of a method, which space = \"dfs\" does not "
            "search for: leave it out, or search space = \"ps-dfs\"");
    config.lease = reader.number("lease", config.lease, 0.01, 1e9);
}

void check_path_evaluations(const Value& search, const SearchConfig& config, const Reporter& reporter) {
    const int64_t path = config.data_flow.evaluations;
    if (config.space != SearchSpace::both || (path > 0 && path < config.evaluations)) return;
    const Value* table = search.find("data_flow");
    const Value* given = table ? table->find("evaluations") : nullptr;
    reporter.fail_at(given ? given->line : search.line,
                     "search.data_flow.evaluations={}: of the evaluations of space = \"ps-dfs\", so many are for the "
                     "path: it must be above 0 and below search.evaluations={}",
                     path, config.evaluations);
}

/// What is for another space may stay in a file whose space is overridden.
void warn_of_idle_settings(const Value& search, const SearchConfig& config, const Value& merge, Reporter& reporter) {
    std::vector<std::pair<int, std::string>> idle;
    const auto add = [&](const Value& table, const std::string& prefix, std::string_view key) {
        for (const Value::Member& member : table.members)
            if (member.key == key) idle.emplace_back(member.line, prefix + member.key);
    };
    if (config.space == SearchSpace::parameters && !(config.data_flow == DataFlow()))
        add(search, "search.", "data_flow");
    if (config.space == SearchSpace::data_flow) {
        const Reader reader(&search, "search", reporter);
        if (!config.genes.empty()) add(search, "search.", "genes");
        if (config.choose_models) add(search, "search.", "choose_models");
        if (reader.integer("layer_groups", 1, 1, most_groups) > 1) add(search, "search.", "layer_groups");
        if (!reader.texts("filters", most_filters).empty()) add(search, "search.", "filters");
        if (reader.boolean("smooth", false)) add(search, "search.", "smooth");
        if (config.pairs) add(search, "search.", "pairs");
        if (config.data_flow.evaluations > 0) add(*search.find("data_flow"), "search.data_flow.", "evaluations");
        if (config.recipe.base_model && config.recipe.tokenizer_source != "base") add(merge, "merge.", "base_model");
    }
    for (const auto& [line, name] : idle)
        reporter.warn(line, fmt::format("{} has no effect on space = \"{}\"", name,
                                        config.space == SearchSpace::parameters ? "ps" : "dfs"));
}

/// Twice the same model is a slip where numbers are searched for; on a path, its layers may come again.
void name_models(SearchConfig& config, const Reporter& reporter) {
    std::vector<std::string> references;
    for (const SourceEntry& entry : config.recipe.models) references.push_back(entry.model);
    config.model_names = model_names(references);
    if (config.space == SearchSpace::data_flow) return;
    for (size_t model = 0; model < references.size(); ++model)
        for (size_t other = 0; other < model; ++other)
            if (path_components(references[other]) == path_components(references[model]))
                reporter.fail_at(config.recipe.models[model].line,
                                 "merge.models: {} is there twice: name each model once", printable(references[model]));
}

}  // namespace

SearchConfig parse_search(const std::string& text, const std::string& path, const RecipeOptions& options) {
    const std::string file = path.empty() ? "search" : printable(path);
    Value root = parse_toml(text, file);
    for (size_t i = 0; i < options.set.size(); ++i) apply_override(root, options.set[i], -1 - int(i));
    Reporter reporter(file, options);
    reporter.check_keys(root, {"zoo", "merge", "search", "tasks"});
    SearchConfig config;
    config.path = path;
    config.text = text;
    if (const Value* zoo = read_table(root.find("zoo"), "zoo", reporter)) {
        reporter.check_keys(*zoo, {"root"});
        if (const Value* given = zoo->find("root")) config.root = read_string(*given, "zoo.root", reporter);
    }
    Value* merge = root.find("merge");
    if (!merge || merge->kind != Value::Kind::table)
        reporter.fail_at(merge ? merge->line : root.line,
                         "merge: missing: a search needs [merge], a recipe without the "
                         "numbers that are searched for");
    const Value empty = [] {
        Value table;
        table.kind = Value::Kind::table;
        return table;
    }();
    const Value* search = read_table(root.find("search"), "search", reporter);
    if (!search) search = &empty;
    read_settings(*search, config, reporter);

    spell_out_models(*merge);
    const Value* name = merge->find("merge_method");
    const MethodInfo* method =
        name && name->kind == Value::Kind::string ? find_method(name->text) : find_method("passthrough");
    if (method) {
        config.genes = read_genes(read_table(search->find("genes"), "search.genes", reporter), *method,
                                  Reader(search, "search", reporter), reporter);
        put_starts(*merge, *method, config.genes);
    }
    config.recipe = check_recipe(*merge, reporter);
    config.recipe.path = path;
    if (!config.recipe.slices.empty())
        reporter.fail_at(merge->line, "merge.slices: a search takes models; paths through layers are space = \"dfs\"");
    if (config.space != SearchSpace::data_flow && config.genes.empty() && !config.choose_models)
        reporter.fail_at(search->line, "search.genes: missing: which fields of {} are searched for",
                         config.recipe.method);
    const bool weighs = std::any_of(config.genes.begin(), config.genes.end(),
                                    [](const GeneField& field) { return field.name == "weight"; });
    if (config.pairs && !weighs && config.space != SearchSpace::data_flow)
        reporter.fail_at(search->line,
                         "search.pairs: pairs of models are made by their weights, which are not searched "
                         "for: add genes.weight, or leave pairs away");
    config.tasks = read_tasks(root.find("tasks"), reporter, root.line);

    for (SourceEntry& entry : config.recipe.models) entry.model = below_root(config, entry.model);
    if (config.recipe.base_model) config.recipe.base_model = below_root(config, *config.recipe.base_model);
    if (config.recipe.tokenizer_source && config.recipe.tokenizer_source != "base")
        config.recipe.tokenizer_source = below_root(config, *config.recipe.tokenizer_source);
    for (SearchTask& task : config.tasks)
        for (std::string* each : {&task.search, &task.heldout, &task.validation})
            if (!each->empty()) *each = below_root(config, *each);
    name_models(config, reporter);
    check_path_evaluations(*search, config, reporter);
    warn_of_idle_settings(*search, config, *merge, reporter);
    config.warnings = reporter.warnings();
    return config;
}

SearchConfig read_search(Files& files, const std::string& path, const RecipeOptions& options) {
    SearchConfig config = parse_search(files.read_all(path, max_recipe_bytes), path, options);
    for (const std::string& file : config.hand_made_files)
        config.hand_made.push_back(hand_made_candidate(config, read_recipe(files, file, {{}, options.allow_unknown})));
    return config;
}

std::string below_root(const SearchConfig& config, const std::string& name) {
    if (config.root.empty() || name.empty() || name[0] == '/') return name;
    return config.root.back() == '/' ? config.root + name : config.root + "/" + name;
}

}  // namespace amalgam
