#include "src/run/report.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "src/base/bytes.h"
#include "src/base/shell_word.h"
#include "src/run/progress.h"

namespace amalgam {

namespace {

template <class T>
void put(std::string& bytes, const T& value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}
template <class T>
T take(const std::string& bytes, size_t& at) {
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    at += sizeof value;
    return value;
}

/// Hash of a tensor's bytes: XXH64 over the digests of its blocks in order; the same for any ranks and shards.
std::string tensor_hash(std::span<const FinishedBlock> blocks) {
    std::vector<uint64_t> digests;
    for (const FinishedBlock& block : blocks) digests.push_back(block.digest);
    return fmt::format("{:016x}", XXH64(digests.data(), digests.size() * sizeof(uint64_t), 0));
}

std::string number_text(double value, FieldKind kind) {
    if (kind == FieldKind::boolean) return value != 0 ? "true" : "false";
    return fmt::format("{}", value);
}

/// "weight 0.5, density 0.2": fields of one scope that were resolved the same for every tensor, "varies" for others.
template <class Values>
std::string settings_text(const MethodInfo& method, Scope scope, const Values& values_of) {
    std::string text;
    for (size_t f = 0; f < method.fields.size(); ++f) {
        const Field& field = method.fields[f];
        if (field.scope != scope) continue;
        double low = INFINITY, high = -INFINITY;
        values_of([&](const FieldValues& values) {
            low = std::min(low, values[f]);
            high = std::max(high, values[f]);
        });
        if (!(low <= high)) continue;
        if (!text.empty()) text += ", ";
        text += low == high ? fmt::format("{} {}", field.name, number_text(low, field.kind))
                            : fmt::format("{} {} to {}", field.name, number_text(low, field.kind),
                                          number_text(high, field.kind));
    }
    return text;
}

double rate(double bytes, double seconds) { return bytes / 1e9 / std::max(1e-9, seconds); }

/// What was moved, how fast, and what share of the machine's limit that is.
void add_speed(nlohmann::ordered_json& json, const MergeTotals& totals, const RunFacts& facts) {
    const ThreadSeconds& threads = totals.threads;
    json["thread_seconds"] = {
        {"read", threads.read}, {"wait", threads.wait}, {"compute", threads.compute}, {"write", threads.write}};
    const uint64_t folded = totals.bytes_read - std::min(totals.bytes_read, totals.statistics_bytes);
    json["moved"]["statistics"] = {
        {"bytes_read", totals.statistics_bytes},
        {"gigabytes_per_second", rate(double(totals.statistics_bytes), facts.slowest_statistics)}};
    json["moved"]["fold"] = {{"bytes_read", folded},
                             {"bytes_written", totals.bytes_written},
                             {"gigabytes_per_second", rate(double(folded + totals.bytes_written), facts.slowest_fold)}};
    json["memory_limit"] = nullptr;
    if (facts.memory_speed <= 0 || facts.device != "cpu") return;
    // What is written goes through the cache line and once more into the page cache.
    const double moved = rate(double(totals.bytes_read) + 2 * double(totals.bytes_written),
                              facts.slowest_statistics + facts.slowest_fold);
    json["memory_limit"] = {{"gigabytes_per_second", facts.memory_speed / 1e9},
                            {"moved_gigabytes_per_second", moved},
                            {"share", moved * 1e9 / facts.memory_speed}};
}

/// The tensors of which there is something to count.
nlohmann::ordered_json counted_tensors(const Merge& merge, const MergeTotals& totals, int64_t OutputCounts::*count) {
    auto list = nlohmann::ordered_json::array();
    for (const auto& [task, counts] : totals.outputs)
        if (counts.*count > 0)
            list.push_back({{"tensor", merge.tasks[size_t(task)].name}, {"elements", counts.*count}});
    return list;
}

/// "1303 elements in 7 tensors (a 5, b 4 and 5 more)"
class NamedTensors {
  public:
    void add(const std::string& tensor, int64_t elements) {
        elements_ += elements;
        if (tensors_++ < most) names_ += fmt::format("{}{} {}", names_.empty() ? "" : ", ", tensor, elements);
    }
    bool empty() const { return tensors_ == 0; }
    std::string text() const {
        return fmt::format("{} element{} in {} tensor{} ({}{})", elements_, elements_ == 1 ? "" : "s", tensors_,
                           tensors_ == 1 ? "" : "s", names_,
                           tensors_ > most ? fmt::format(" and {} more", tensors_ - most) : "");
    }

  private:
    static constexpr size_t most = 5;
    std::string names_;
    size_t tensors_ = 0;
    int64_t elements_ = 0;
};

}  // namespace

std::string pack_totals(const MergeTotals& totals) {
    std::string bytes;
    for (uint64_t value :
         {totals.bytes_read, totals.bytes_written, totals.bytes_resumed, uint64_t(totals.emptied_inputs),
          uint64_t(totals.unchanged), uint64_t(totals.folded), totals.statistics_bytes})
        put(bytes, value);
    put(bytes, totals.threads);
    put(bytes, uint64_t(totals.nonfinite_inputs.size()));
    for (const auto& [place, count] : totals.nonfinite_inputs) {
        put(bytes, place.first);
        put(bytes, int64_t(place.second));
        put(bytes, count);
    }
    put(bytes, uint64_t(totals.outputs.size()));
    for (const auto& [task, counts] : totals.outputs) {
        put(bytes, task);
        put(bytes, counts);
    }
    put(bytes, uint64_t(totals.digests.size()));
    bytes.append(reinterpret_cast<const char*>(totals.digests.data()), totals.digests.size() * sizeof(FinishedBlock));
    return bytes;
}

void add_packed_totals(MergeTotals& sum, const std::string& bytes) {
    size_t at = 0;
    sum.bytes_read += take<uint64_t>(bytes, at);
    sum.bytes_written += take<uint64_t>(bytes, at);
    sum.bytes_resumed += take<uint64_t>(bytes, at);
    sum.emptied_inputs += int64_t(take<uint64_t>(bytes, at));
    sum.unchanged += int64_t(take<uint64_t>(bytes, at));
    sum.folded += int64_t(take<uint64_t>(bytes, at));
    sum.statistics_bytes += take<uint64_t>(bytes, at);
    sum.threads.add(take<ThreadSeconds>(bytes, at));
    for (uint64_t left = take<uint64_t>(bytes, at); left > 0; --left) {
        int64_t task = take<int64_t>(bytes, at), model = take<int64_t>(bytes, at);
        sum.nonfinite_inputs[{task, int(model)}] += take<int64_t>(bytes, at);
    }
    for (uint64_t left = take<uint64_t>(bytes, at); left > 0; --left) {
        const auto task = take<int64_t>(bytes, at);
        sum.count_output(task, take<OutputCounts>(bytes, at));
    }
    for (uint64_t left = take<uint64_t>(bytes, at); left > 0; --left)
        sum.digests.push_back(take<FinishedBlock>(bytes, at));
}

std::string report_text(const Merge& merge, const Recipe& recipe, const RecipeCopy& copy, const OutputLayout& layout,
                        const MergeTotals& totals, const RunFacts& facts) {
    nlohmann::ordered_json json;
    json["amalgam"] = facts.version;
    json["compiler"] = facts.compiler;
    json["mpi"] = facts.mpi;
    json["method"] = merge.method->name;
    json["compat"] = merge.compat == Compat::paper ? "paper" : "mergekit";
    json["seed"] = merge.seed;
    json["recipe_path"] = recipe.path;
    json["recipe"] = copy.text;
    if (copy.text != recipe.text) json["recipe_as_given"] = recipe.text;
    json["overrides"] = recipe.overrides;
    for (const MergeModel& model : merge.models)
        json["models"].push_back({{"reference", model.reference}, {"path", model.checkpoint.path}});
    json["ranks"] = facts.ranks;
    json["model_groups"] = facts.model_groups;
    json["threads_per_rank"] = facts.threads;
    json["device"] = facts.device;
    json["memory_budget"] = facts.memory;
    json["peak_memory"] = facts.peak_memory;
    json["bytes_read"] = totals.bytes_read;
    json["bytes_written"] = totals.bytes_written;
    json["bytes_resumed"] = totals.bytes_resumed;
    json["output_bytes"] = layout.file_bytes;
    json["seconds"] = {{"total", facts.total_seconds},
                       {"open", facts.open_seconds},
                       {"statistics", facts.slowest_statistics},
                       {"fold", facts.slowest_fold},
                       {"sync", facts.sync_seconds}};
    json["read_gigabytes_per_second"] =
        double(totals.bytes_read) / 1e9 / std::max(1e-9, facts.slowest_statistics + facts.slowest_fold);
    add_speed(json, totals, facts);
    const OutputCounts wrong = wrong_outputs(totals);
    json["saturated_elements"] = wrong.saturated;
    json["saturated"] = counted_tensors(merge, totals, &OutputCounts::saturated);
    json["emptied_task_vectors"] = totals.emptied_inputs;
    // Of the blocks that this start computed: those of former starts are not looked at again.
    int64_t compared = 0;
    for (const TensorTask& task : merge.tasks)
        if (compares_with_base(*merge.method, task)) compared += task.elements();
    if (totals.folded > 0)
        json["sparsity"] = {{"elements", totals.folded},
                            {"of_elements", compared},
                            {"unchanged_elements", totals.unchanged},
                            {"unchanged_share", double(totals.unchanged) / double(totals.folded)}};
    json["nonfinite"]["output_elements"] = wrong.nonfinite;
    json["nonfinite"]["outputs"] = counted_tensors(merge, totals, &OutputCounts::nonfinite);
    json["nonfinite"]["inputs"] = nlohmann::ordered_json::array();
    for (const auto& [place, count] : totals.nonfinite_inputs)
        json["nonfinite"]["inputs"].push_back({{"tensor", merge.tasks[size_t(place.first)].name},
                                               {"model", merge.models[size_t(place.second)].reference},
                                               {"elements", count}});
    json["warnings"] = merge.warnings;

    std::vector<FinishedBlock> digests = totals.digests;
    std::sort(digests.begin(), digests.end(), [](const FinishedBlock& a, const FinishedBlock& b) {
        return std::pair(a.task, a.block) < std::pair(b.task, b.block);
    });
    size_t at = 0;
    for (size_t t = 0; t < merge.tasks.size(); ++t) {
        const TensorTask& task = merge.tasks[t];
        size_t end = at;
        while (end < digests.size() && digests[end].task == int64_t(t)) ++end;
        nlohmann::ordered_json entry = {{"name", task.name},
                                        {"dtype", info(task.dtype).name},
                                        {"shape", task.shape},
                                        {"bytes", task.bytes()},
                                        {"file", layout.files[size_t(layout.places[t].file)].name},
                                        {"hash", tensor_hash(std::span(digests).subspan(at, end - at))}};
        json["tensors"].push_back(std::move(entry));
        at = end;
    }
    return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

OutputCounts wrong_outputs(const MergeTotals& totals) {
    OutputCounts sum;
    for (const auto& [task, counts] : totals.outputs) {
        sum.saturated += counts.saturated;
        sum.nonfinite += counts.nonfinite;
    }
    return sum;
}

std::vector<std::string> wrong_lines(const Merge& merge, const MergeTotals& totals, size_t most) {
    std::vector<std::string> lines;
    std::set<int64_t> carried;
    for (const auto& [place, count] : totals.nonfinite_inputs) {
        carried.insert(place.first);
        lines.push_back(fmt::format("{} of {}: {} element{} NaN or infinite", merge.tasks[size_t(place.first)].name,
                                    merge.models[size_t(place.second)].reference, count, count == 1 ? " is" : "s are"));
    }
    if (lines.size() > most) {
        const size_t more = lines.size() - most;
        lines.resize(most);
        lines.push_back(fmt::format("and {} more", more));
    }
    NamedTensors from_inputs, made, saturated;
    for (const auto& [task, counts] : totals.outputs) {
        const std::string& name = merge.tasks[size_t(task)].name;
        if (counts.nonfinite > 0) (carried.contains(task) ? from_inputs : made).add(name, counts.nonfinite);
        if (counts.saturated > 0) saturated.add(name, counts.saturated);
    }
    if (!from_inputs.empty())
        lines.push_back(fmt::format("the result is NaN or infinite as an input is: {}", from_inputs.text()));
    if (!made.empty())
        lines.push_back(
            fmt::format("the result is NaN or infinite where all inputs are finite: {}; a dtype (or out_dtype) with a "
                        "wider range holds what is too large",
                        made.text()));
    if (!saturated.empty())
        lines.push_back(
            fmt::format("the result was cut to the largest number of its 8-bit dtype: {}; a wider out_dtype holds what "
                        "is too large",
                        saturated.text()));
    return lines;
}

std::string nonfinite_refusal(const Merge& merge, const MergeTotals& totals) {
    NamedTensors inputs, results;
    for (const auto& [place, count] : totals.nonfinite_inputs)
        inputs.add(merge.tasks[size_t(place.first)].name + " of " + merge.models[size_t(place.second)].reference,
                   count);
    for (const auto& [task, counts] : totals.outputs)
        if (counts.nonfinite > 0) results.add(merge.tasks[size_t(task)].name, counts.nonfinite);
    if (inputs.empty() && results.empty()) return "";
    return fmt::format("NaN or infinite: {}{}{}, and --fail-on-nonfinite is given: nothing is published",
                       inputs.empty() ? "" : fmt::format("in the inputs {}", inputs.text()),
                       inputs.empty() || results.empty() ? "" : "; ",
                       results.empty() ? "" : fmt::format("in the result {}", results.text()));
}

std::string summary_text(const Merge& merge, const OutputLayout& layout, const MergeTotals& totals,
                         const RunFacts& facts, const std::string& out) {
    int64_t parameters = 0;
    for (const TensorTask& task : merge.tasks) parameters += task.elements();
    std::string text =
        fmt::format("{}: {} models -> {}: {} tensors, {:.4g} M parameters, {} in {} file{}\n", merge.method->name,
                    merge.models.size(), out, merge.tasks.size(), double(parameters) / 1e6,
                    bytes_text(layout.file_bytes), layout.files.size(), layout.files.size() == 1 ? "" : "s");
    text += fmt::format(
        "{} read, {} written in {:.2f} s ({:.3g} GB/s read) by {} rank{} x {} thread{}, at most {} of memory each",
        bytes_text(totals.bytes_read), bytes_text(totals.bytes_written), facts.total_seconds,
        double(totals.bytes_read) / 1e9 / std::max(1e-9, facts.total_seconds), facts.ranks, facts.ranks == 1 ? "" : "s",
        facts.threads, facts.threads == 1 ? "" : "s", bytes_text(facts.peak_memory));
    if (facts.device != "cpu") text += fmt::format(", on {}", facts.device);
    if (totals.bytes_resumed > 0)
        text += fmt::format("\n{} were there from a former start", bytes_text(totals.bytes_resumed));
    const OutputCounts wrong = wrong_outputs(totals);
    if (wrong.saturated > 0)
        text += fmt::format("\n{} elements were cut to the largest number of their 8-bit dtype", wrong.saturated);
    if (totals.emptied_inputs > 0)
        text += fmt::format("\n{} task vector{} of small tensors lost every element: int(density x n) is 0",
                            totals.emptied_inputs, totals.emptied_inputs == 1 ? "" : "s");
    if (wrong.nonfinite > 0) text += fmt::format("\n{} elements of the result are NaN or infinite", wrong.nonfinite);
    return text;
}

ModelCard merge_card(const Merge& merge, const RecipeCopy& copy, const MergeOptions& options,
                     const std::string& version) {
    const Recipe& recipe = copy.recipe;
    ModelCard card;
    std::string out = options.out;
    while (out.size() > 1 && out.back() == '/') out.pop_back();
    card.name = out.substr(out.rfind('/') + 1);
    card.method = merge.method->name;
    card.summary = merge.method->summary;
    card.base_model = recipe.base_model.value_or("");
    auto add_model = [&](const std::string& reference, int position, bool by_position) {
        std::string settings = settings_text(*merge.method, Scope::per_model, [&](const auto& take_values) {
            for (const TensorTask& task : merge.tasks)
                for (const TaskInput& input : task.inputs)
                    if (task.kind == TaskKind::merge && by_position && input.position == position)
                        take_values(input.fields);
        });
        card.models.push_back({reference, settings});
    };
    for (size_t i = 0; i < recipe.models.size(); ++i)
        if (recipe.models[i].model != card.base_model) add_model(recipe.models[i].model, int(i), true);
    if (recipe.models.empty())
        for (const MergeModel& model : merge.models)
            if (model.reference != card.base_model) add_model(model.reference, 0, false);
    card.settings = settings_text(*merge.method, Scope::global, [&](const auto& take_values) {
        for (const TensorTask& task : merge.tasks)
            if (task.kind == TaskKind::merge) take_values(task.global);
    });
    int64_t parameters = 0;
    for (const TensorTask& task : merge.tasks) parameters += task.elements();
    card.size = fmt::format("{} tensors, {} parameters{}", merge.tasks.size(), parameters,
                            merge.config_dtype ? fmt::format(", {}", info(*merge.config_dtype).config_name) : "");
    card.recipe = copy.text;
    card.yaml = copy.yaml;
    card.command = options.command;
    if (card.command.empty())
        card.command = fmt::format("amalgam merge {} {}{}", recipe_file_name(copy.yaml), shell_word(card.name),
                                   options.command_options);
    card.version = version;
    card.notes = merge.warnings;
    return card;
}

}  // namespace amalgam
