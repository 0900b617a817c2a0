// amalgam plan: what a merge would cost each rank, without reading any weights.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "jobs/commands.h"
#include "jobs/json.h"
#include "jobs/table.h"
#include "src/base/bytes.h"
#include "src/base/log.h"
#include "src/evaluate/attention.h"
#include "src/evaluate/decoder_config.h"
#include "src/plan/candidate_memory.h"
#include "src/plan/grid.h"
#include "src/plan/plan.h"
#include "src/plan/price.h"
#include "src/recipe/check_recipe.h"
#include "src/recipe/machine.h"
#include "src/recipe/resolve.h"
#include "src/run/candidate.h"
#include "src/run/model_groups.h"
#include "src/run/resources.h"

namespace amalgam {
namespace {

constexpr Positional positionals[] = {{"RECIPE", "what to merge; only headers of its models are read"}};
constexpr Option options[] = {
    {"ranks", "N", "ranks that share the work [1]"},
    {"model-groups", "G",
     "groups of ranks that read different models, as for merge; also says which number of groups would be best [as "
     "many "
     "as the recipe names, else 1]"},
    {"memory", "BYTES", "budget of a rank, as for merge [no limit]"},
    {"machine", "FILE",
     "description of a machine (TOML; see configs/machine-example.toml): adds the time of each stage"},
    {"shard-size", "BYTES", "largest output file, as for merge [5GB]"},
    {"set", "PATH=VALUE", "override the recipe; repeatable", true},
    {"on-mismatch", "WHAT", "as for merge [error]"},
    {"integers", "WHAT", "as for merge [error]"},
    {"allow-unknown", "", "warn about unknown keys of the recipe instead of failing"},
    {"json", "", "as JSON, with every rank"},
    {"models", "",
     "nothing but the group that reads each model and the model's name, - for all groups: what to copy to which disks"},
};
constexpr std::string_view description =
    "Counts bytes, memory, collectives and arithmetic of every rank. Numbers are upper bounds for all but rare "
    "weights: input "
    "in the page cache is not read again, and a selection may need fewer exchanges; it looks at its inputs twice, and "
    "more "
    "often only if a sample of them misleads. \"Read again\" is input that statistics and fold both need: more of a "
    "tensor "
    "than a quarter of the budget holds.";
constexpr std::string_view examples =
    "amalgam plan ties.yaml --ranks 64 --memory 8GiB\n"
    "amalgam plan ties.toml --ranks 64 --model-groups 8 --machine configs/machine-example.toml\n"
    "amalgam plan ties.yaml --ranks 1024 --machine configs/machine-example.toml --json";

/// Ranks shown before the table is cut.
constexpr size_t most_rows = 16;

OutputLayout output_layout(const Merge& merge, uint64_t shard_bytes) {
    std::vector<OutputTensor> tensors;
    for (const TensorTask& task : merge.tasks) tensors.push_back({task.name, task.dtype, task.shape});
    return layout_output(tensors, shard_bytes);
}

std::string operations_text(double count) {
    constexpr const char* units[] = {"", " M", " G", " T", " P"};
    if (count == 0) return "0";
    size_t unit = 0;
    for (; count >= 1e6 && unit + 1 < std::size(units); ++unit) count /= unit == 0 ? 1e6 : 1e3;
    return fmt::format("{:.6g}{}", count < 1000 ? std::round(count * 10) / 10 : std::round(count), units[unit]);
}

std::vector<std::string> rank_cells(std::string name, const RankPrice& price) {
    return {std::move(name),          count_text(price.tensors),      count_text(price.shared),
            bytes_text(price.read),   bytes_text(price.again),        bytes_text(price.written),
            bytes_text(price.memory), count_text(price.collectives),  bytes_text(price.sent),
            bytes_text(price.handed), operations_text(price.products)};
}

std::string ranks_text(const Price& price) {
    Table table("lrrrrrrrrrr");
    table.add({"rank", "tensors", "shared", "read", "again", "written", "memory", "collectives", "sent", "handed on",
               "products"});
    if (price.ranks.size() <= most_rows) {
        for (size_t rank = 0; rank < price.ranks.size(); ++rank)
            table.add(rank_cells(fmt::format("{}", rank), price.ranks[rank]));
    } else {
        std::vector<size_t> order(price.ranks.size());
        std::iota(order.begin(), order.end(), size_t(0));
        std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
            return price.ranks[a].read + price.ranks[a].written < price.ranks[b].read + price.ranks[b].written;
        });
        for (auto [name, place] :
             {std::pair("least", size_t(0)), {"median", order.size() / 2}, {"most", order.size() - 1}})
            table.add(rank_cells(fmt::format("{} ({})", order[place], name), price.ranks[order[place]]));
    }
    if (price.ranks.size() > 1) table.add(rank_cells("all", price.total));
    return table.text("  ");
}

std::string times_text(const Machine& machine, const StageTimes& times) {
    std::string text =
        fmt::format("\nTimes on {}, {}, {}\n", machine.name.empty() ? "the machine" : printable(machine.name, 100),
                    plural(times.nodes, "node"), plural(machine.ranks_per_node, "rank") + " a node");
    Table table("lrl");
    const std::string_view bound = times.bound;
    for (const auto& [name, time] : {std::pair("read", times.read),
                                     {"write", times.write},
                                     {"memory", times.memory},
                                     {"arithmetic", times.arithmetic},
                                     {"network", times.network}})
        table.add({name, time > 0 ? seconds_text(time) : "-", bound == name ? "<- the bound" : ""});
    table.add({"overlapped", seconds_text(times.whole), ""});
    if (times.fetch > 0)
        table.add({"models to disks", seconds_text(times.fetch), "before, if they are not on the nodes' disks yet"});
    return text + table.text("  ");
}

/// A number of groups, with what it costs.
struct Choice {
    int groups = 1;
    Price price;
    StageTimes times;
    /// With the models brought to the disks of the nodes first, where these are their own.
    double seconds() const { return times.whole + times.fetch; }
};

/// All numbers of groups that a merge could have. A group without a model would only wait.
std::vector<Choice> choices(const Merge& merge, const OutputLayout& layout, const PriceOptions& wanted,
                            const Machine& machine) {
    std::vector<Choice> result;
    for (int groups = 1; groups <= std::min<int64_t>(wanted.ranks, int64_t(merge.models.size())); ++groups) {
        if (wanted.ranks % groups != 0) continue;
        PriceOptions each = wanted;
        each.groups = groups;
        each.group_of_model = model_groups(merge, groups);
        Choice choice{groups, price_merge(merge.tasks, layout, *merge.method, each), {}};
        choice.times = stage_times(choice.price, machine);
        result.push_back(std::move(choice));
    }
    return result;
}

/// Whether several groups pay, in a sentence.
std::string groups_text(const Price& price, const PriceOptions& wanted, const Recipe& recipe, const Merge& merge,
                        const OutputLayout& layout, const std::optional<Machine>& machine) {
    PriceOptions alone = wanted;
    alone.groups = 1;
    const Price single = price_merge(merge.tasks, layout, *merge.method, alone);
    const std::string what = price.links ? "planes and results" : "inputs";
    std::string text = fmt::format(
        "\n{}: {} over the network ({}), {} more are read than in one group; a node's disks need {} of the models, not "
        "{}.\n",
        plural(wanted.groups, "model group"), bytes_text(price.total.handed), what,
        bytes_text(price.total.read - std::min(price.total.read, single.total.read)), bytes_text(price.held),
        bytes_text(single.held));
    if (!machine || !machine->local)
        return text +
               (recipe.groups() > 1
                    ? "They pay only because the models lie on the disks of different nodes; on a file system that all "
                      "nodes share, 1 group is best (--model-groups 1).\n"
                    : "All ranks see all models (local = true in the machine description says otherwise): more than "
                      "one "
                      "group does not pay, 1 is best.\n");
    const std::vector<Choice> all = choices(merge, layout, wanted, *machine);
    const auto best = std::min_element(all.begin(), all.end(),
                                       [](const Choice& a, const Choice& b) { return a.seconds() < b.seconds(); });
    if (best->groups == 1)
        return text +
               fmt::format(
                   "More than one group does not pay: 1 group takes {} (with the models brought to the disks).\n",
                   seconds_text(best->seconds()));
    return text +
           fmt::format(
               "More than one group pays: {} are best, with {} (of which {} to bring the models to the disks); 1 "
               "group takes {} ({}).\n",
               best->groups, seconds_text(best->seconds()), seconds_text(best->times.fetch),
               seconds_text(all.front().seconds()), seconds_text(all.front().times.fetch));
}

std::string plan_text(const Merge& merge, const OutputLayout& layout, const Price& price, uint64_t memory) {
    std::string text = fmt::format("{} of {}: {} in, {} out in {}, on {}\n", merge.method->name,
                                   plural(int64_t(merge.models.size()), "model"), bytes_text(price.total.read),
                                   bytes_text(layout.file_bytes), plural(int64_t(layout.files.size()), "file"),
                                   plural(int64_t(price.ranks.size()), "rank"));
    text += ranks_text(price);
    text += fmt::format("  imbalance {:.3f} (most bytes of a rank over the mean)\n", price.imbalance);
    if (price.looks_first)
        text += fmt::format("  statistics come before the fold: {} go through the processors\n",
                            bytes_text(price.total.passed));
    if (memory > 0 && memory < price.least_memory)
        text += fmt::format("  the budget is too small: a rank needs at least {}\n", bytes_text(price.least_memory));
    return text;
}

/// Bytes of keys and values for every token of a text that is written; 0 for models that `amalgam evaluate` does not know.
uint64_t written_token_bytes(const Merge& merge) {
    constexpr int64_t block = 32;  // tokens that take memory together
    try {
        const DecoderConfig config = parse_decoder_config(merged_config(merge).text, true);
        return KeyValues::bytes(config, block) / block * uint64_t(config.layers);
    } catch (const Error&) {
        return 0;
    }
}

std::string scoring_text(const CandidateMemory& memory, uint64_t token_bytes, int ranks, uint64_t budget) {
    std::string text = fmt::format(
        "  to score it in memory, on a group of {}: {} of the models on each, and {} resident, {} spread or {} "
        "streamed",
        plural(ranks, "rank"), bytes_text(memory.models), bytes_text(memory.resident), bytes_text(memory.spread),
        bytes_text(memory.streamed));
    if (memory.orders > 0) text += fmt::format("; orders of magnitudes: {}", bytes_text(memory.orders));
    if (budget > 0 && budget < memory.least_budget())
        text += fmt::format(" (the budget is too small: a rank needs at least {})", bytes_text(memory.least_budget()));
    else if (budget > 0)
        text += memory.fits(budget)          ? " (resident fits the budget)"
                : memory.fits_spread(budget) ? " (spread in this budget)"
                                             : " (streamed in this budget)";
    text += "\n";
    if (token_bytes == 0) return text;
    text += fmt::format("  texts that it writes take {} for each token of prompt and limit", bytes_text(token_bytes));
    if (budget >= memory.least_budget())
        text += fmt::format("; this budget has room for {} of them, and for one text in any case",
                            count_text(int64_t(memory.room(budget) / token_bytes)));
    return text + "\n";
}

/// A line for each model.
std::string models_text(const Merge& merge, const std::vector<int>& group_of_model) {
    std::string text;
    for (size_t model = 0; model < merge.models.size(); ++model) {
        const int group = group_of_model[model];
        text +=
            fmt::format("{}\t{}\n", group == every_group ? "-" : std::to_string(group), merge.models[model].reference);
    }
    return text;
}

Json scoring_json(const CandidateMemory& memory, uint64_t token_bytes) {
    return {{"models", memory.models},     {"orders", memory.orders},     {"resident", memory.resident},
            {"spread", memory.spread},     {"streamed", memory.streamed}, {"least_memory", memory.least_budget()},
            {"written_token", token_bytes}};
}

Json rank_json(const RankPrice& price) {
    return {{"tensors", price.tensors},        {"shared_tensors", price.shared},  {"collectives", price.collectives},
            {"bytes_sent", price.sent},        {"bytes_handed_on", price.handed}, {"bytes_read", price.read},
            {"bytes_read_again", price.again}, {"bytes_passed", price.passed},    {"bytes_written", price.written},
            {"memory", price.memory},          {"products", price.products}};
}

Json plan_json(const Merge& merge, const OutputLayout& layout, const Price& price) {
    Json json = {{"method", merge.method->name},       {"models", merge.models.size()},
                 {"tensors", merge.tasks.size()},      {"files", layout.files.size()},
                 {"file_bytes", layout.file_bytes},    {"imbalance", price.imbalance},
                 {"least_memory", price.least_memory}, {"statistics_first", price.looks_first},
                 {"hands_on_planes", price.links},     {"bytes_held", price.held}};
    json["total"] = rank_json(price.total);
    json["ranks"] = Json::array();
    for (const RankPrice& rank : price.ranks) json["ranks"].push_back(rank_json(rank));
    return json;
}

Json times_json(const Machine& machine, const StageTimes& times) {
    return {{"machine", machine.name},       {"nodes", times.nodes},      {"read", times.read},
            {"write", times.write},          {"memory", times.memory},    {"arithmetic", times.arithmetic},
            {"network", times.network},      {"overlapped", times.whole}, {"bound", times.bound},
            {"models_to_disks", times.fetch}};
}

int run(const Arguments& arguments) {
    constexpr std::string_view mismatches[] = {"error", "skip"};
    constexpr std::string_view integers[] = {"error", "base"};
    PriceOptions wanted;
    wanted.ranks = int(arguments.integer("ranks", 1, 1, 1 << 20));
    wanted.memory = arguments.bytes("memory", 0);
    if (arguments.has("memory") && wanted.memory == 0) throw UsageError("--memory 0: must be more");
    if (arguments.has("memory")) check_budget(wanted.memory);
    const uint64_t shard_bytes = arguments.bytes("shard-size", 5'000'000'000);
    const ResolveOptions rules = {arguments.choice("on-mismatch", mismatches) == "skip",
                                  arguments.choice("integers", integers) == "base"};
    const auto files = disk_files();
    std::optional<Machine> machine;
    if (arguments.has("machine")) machine = read_machine(*files, arguments.text("machine"));
    const Recipe recipe =
        read_recipe(*files, arguments.positionals[0], {arguments.texts("set"), arguments.has("allow-unknown")});
    const Merge merge = resolve(*files, recipe, rules);
    for (const std::string& warning : merge.warnings) log_warning("{}", warning);
    wanted.paper = merge.compat == Compat::paper;
    wanted.groups =
        choose_model_groups(int(arguments.integer("model-groups", 0, 1, max_groups)), recipe.groups(), wanted.ranks);
    wanted.group_of_model = model_groups(merge, wanted.groups);
    const OutputLayout layout = output_layout(merge, shard_bytes);
    const Price price = price_merge(merge.tasks, layout, *merge.method, wanted);
    const CandidateMemory scoring = candidate_memory(merge.tasks, *merge.method, wanted.ranks);
    const uint64_t token_bytes = written_token_bytes(merge);
    if (arguments.has("models")) {
        print_out(models_text(merge, wanted.group_of_model));
    } else if (arguments.has("json")) {
        Json json = plan_json(merge, layout, price);
        json["scoring"] = scoring_json(scoring, token_bytes);
        json["model_groups"] = wanted.groups;
        if (machine) json["times"] = times_json(*machine, stage_times(price, *machine));
        print_out(json_text(json));
    } else {
        print_out(plan_text(merge, layout, price, wanted.memory) +
                  scoring_text(scoring, token_bytes, wanted.ranks, wanted.memory) +
                  (machine ? times_text(*machine, stage_times(price, *machine)) : "") +
                  (wanted.groups > 1 || arguments.has("model-groups")
                       ? groups_text(price, wanted, recipe, merge, layout, machine)
                       : ""));
    }
    return 0;
}

}  // namespace

const Command plan_command = {"plan",      "Price a merge for any number of ranks, without its weights",
                              description, positionals,
                              options,     examples,
                              false,       run};

}  // namespace amalgam
