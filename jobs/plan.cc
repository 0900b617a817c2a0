// amalgam plan: what a merge would cost each rank, without reading any weights.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "jobs/commands.h"
#include "jobs/json.h"
#include "jobs/table.h"
#include "src/base/bytes.h"
#include "src/base/log.h"
#include "src/plan/plan.h"
#include "src/plan/price.h"
#include "src/recipe/machine.h"
#include "src/recipe/resolve.h"

namespace amalgam {
namespace {

constexpr Positional positionals[] = {{"RECIPE", "what to merge; only headers of its models are read"}};
constexpr Option options[] = {
    {"ranks", "N", "ranks that share the work [1]"},
    {"memory", "BYTES", "budget of a rank, as for merge [no limit]"},
    {"machine", "FILE",
     "description of a machine (TOML; see configs/machine-example.toml): adds the time of each stage"},
    {"shard-size", "BYTES", "largest output file, as for merge [5GB]"},
    {"set", "PATH=VALUE", "override the recipe; repeatable", true},
    {"on-mismatch", "WHAT", "as for merge [error]"},
    {"integers", "WHAT", "as for merge [error]"},
    {"allow-unknown", "", "warn about unknown keys of the recipe instead of failing"},
    {"json", "", "as JSON, with every rank"},
};
constexpr std::string_view description =
    "Counts bytes, memory, collectives and arithmetic of every rank. Numbers are upper bounds: input in the page cache "
    "is not "
    "read again, and a selection may need fewer exchanges. \"Read again\" is input that statistics and fold both need "
    "and that "
    "does not fit into the budget in between.";
constexpr std::string_view examples =
    "amalgam plan ties.yaml --ranks 64 --memory 8GiB\n"
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
    return {std::move(name),          count_text(price.tensors),
            count_text(price.shared), bytes_text(price.read),
            bytes_text(price.again),  bytes_text(price.written),
            bytes_text(price.memory), count_text(price.collectives),
            bytes_text(price.sent),   operations_text(price.products)};
}

std::string ranks_text(const Price& price) {
    Table table("lrrrrrrrrr");
    table.add({"rank", "tensors", "shared", "read", "again", "written", "memory", "collectives", "sent", "products"});
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
    return text + table.text("  ");
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

Json rank_json(const RankPrice& price) {
    return {{"tensors", price.tensors},     {"shared_tensors", price.shared}, {"collectives", price.collectives},
            {"bytes_sent", price.sent},     {"bytes_read", price.read},       {"bytes_read_again", price.again},
            {"bytes_passed", price.passed}, {"bytes_written", price.written}, {"memory", price.memory},
            {"products", price.products}};
}

Json plan_json(const Merge& merge, const OutputLayout& layout, const Price& price) {
    Json json = {{"method", merge.method->name},       {"models", merge.models.size()},
                 {"tensors", merge.tasks.size()},      {"files", layout.files.size()},
                 {"file_bytes", layout.file_bytes},    {"imbalance", price.imbalance},
                 {"least_memory", price.least_memory}, {"statistics_first", price.looks_first}};
    json["total"] = rank_json(price.total);
    json["ranks"] = Json::array();
    for (const RankPrice& rank : price.ranks) json["ranks"].push_back(rank_json(rank));
    return json;
}

Json times_json(const Machine& machine, const StageTimes& times) {
    return {{"machine", machine.name},  {"nodes", times.nodes},      {"read", times.read},
            {"write", times.write},     {"memory", times.memory},    {"arithmetic", times.arithmetic},
            {"network", times.network}, {"overlapped", times.whole}, {"bound", times.bound}};
}

int run(const Arguments& arguments) {
    constexpr std::string_view mismatches[] = {"error", "skip"};
    constexpr std::string_view integers[] = {"error", "base"};
    PriceOptions wanted;
    wanted.ranks = int(arguments.integer("ranks", 1, 1, 1 << 20));
    wanted.memory = arguments.bytes("memory", 0);
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
    const OutputLayout layout = output_layout(merge, shard_bytes);
    const Price price = price_merge(merge.tasks, layout, *merge.method, wanted);
    if (arguments.has("json")) {
        Json json = plan_json(merge, layout, price);
        if (machine) json["times"] = times_json(*machine, stage_times(price, *machine));
        print_out(json_text(json));
    } else {
        print_out(plan_text(merge, layout, price, wanted.memory) +
                  (machine ? times_text(*machine, stage_times(price, *machine)) : ""));
    }
    return 0;
}

}  // namespace

const Command plan_command = {"plan",      "Price a merge for any number of ranks, without its weights",
                              description, positionals,
                              options,     examples,
                              false,       run};

}  // namespace amalgam
