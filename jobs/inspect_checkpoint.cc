#include "src/run/inspect_checkpoint.h"

#include "jobs/command_line.h"
#include "jobs/inspect.h"
#include "jobs/json.h"
#include "jobs/table.h"
#include "src/base/bytes.h"
#include "src/base/log.h"

namespace amalgam {
namespace {

constexpr size_t longest_value = 200;

Json amount_json(const Amount& amount) {
    return {{"tensors", amount.tensors}, {"parameters", amount.parameters}, {"bytes", amount.bytes}};
}

Json tensor_json(const CheckpointFacts& facts, const TensorInfo& tensor) {
    return {{"name", tensor.name},   {"dtype", info(tensor.dtype).name},
            {"shape", tensor.shape}, {"file", facts.checkpoint.files[size_t(tensor.file)].path},
            {"begin", tensor.begin}, {"end", tensor.end}};
}

Json facts_json(const CheckpointFacts& facts, bool tensors) {
    Json json = {{"path", facts.checkpoint.path}};
    json.update(amount_json(facts.all));
    json["files"] = Json::array();
    for (const CheckpointFile& file : facts.checkpoint.files)
        json["files"].push_back({{"path", file.path}, {"bytes", file.bytes}});
    json["dtypes"] = Json::object();
    for (const auto& [dtype, amount] : facts.dtypes)
        json["dtypes"][std::string(info(dtype).name)] = amount_json(amount);
    json["metadata"] = facts.metadata;
    json["config"] = Json::object();
    for (const auto& [name, value] : facts.config) json["config"][name] = value;
    json["layers"] = Json::array();
    for (const LayerAmount& layer : facts.layers) {
        Json entry = {{"tower", layer.tower}, {"layer", layer.layer}};
        entry.update(amount_json(layer.amount));
        json["layers"].push_back(std::move(entry));
    }
    json["outside_of_layers"] = amount_json(facts.outside);
    json["quantised"] = facts.quantised.empty() ? Json(nullptr) : Json(facts.quantised);
    json["warnings"] = facts.checkpoint.warnings;
    if (!tensors) return json;
    json["tensor_list"] = Json::array();
    for (const TensorInfo* tensor : facts.tensors) json["tensor_list"].push_back(tensor_json(facts, *tensor));
    return json;
}

std::vector<std::string> amount_cells(std::string name, const Amount& amount, std::string each = "") {
    return {std::move(name), plural(amount.tensors, "tensor"), plural(amount.parameters, "parameter"),
            bytes_text(amount.bytes), std::move(each)};
}

/// Runs of like layers in one line.
void add_layers(Table& table, const std::vector<LayerAmount>& layers) {
    for (size_t first = 0; first < layers.size();) {
        size_t last = first + 1;
        while (last < layers.size() && layers[last].tower == layers[first].tower &&
               layers[last].layer == layers[first].layer + int64_t(last - first) &&
               layers[last].amount == layers[first].amount)
            ++last;
        const LayerAmount& layer = layers[first];
        const std::string tower = layer.tower.empty() ? "layer" : printable(layer.tower, 100);
        std::string name = fmt::format("{} {}", tower, layer.layer);
        if (last - first > 1) name += fmt::format(" to {}", layers[last - 1].layer);
        table.add(amount_cells(std::move(name), layer.amount, last - first > 1 ? "each" : ""));
        first = last;
    }
}

std::string facts_text(const CheckpointFacts& facts, bool tensors) {
    std::string text = printable(facts.checkpoint.path) + "\n";
    Table head("llll");
    head.add(amount_cells("all", facts.all));
    for (const auto& [dtype, amount] : facts.dtypes) head.add(amount_cells(std::string(info(dtype).name), amount));
    text += head.text("  ");
    if (facts.checkpoint.files.size() > 1) text += fmt::format("  in {} files\n", facts.checkpoint.files.size());
    if (!facts.layers.empty()) {
        Table layers("lrrrl");
        add_layers(layers, facts.layers);
        if (facts.outside.tensors > 0) layers.add(amount_cells("outside of layers", facts.outside));
        text += "\nLayers\n" + layers.text("  ");
    }
    const auto add_pairs = [&](const char* title, const auto& pairs) {
        if (pairs.empty()) return;
        Table table("ll");
        for (const auto& [name, value] : pairs) table.add({printable(name, 100), printable(value, longest_value)});
        text += fmt::format("\n{}\n", title) + table.text("  ");
    };
    add_pairs("Configuration", facts.config);
    add_pairs("Metadata", facts.metadata);
    if (!tensors) return text;
    Table list("lllr");
    for (const TensorInfo* tensor : facts.tensors)
        list.add({printable(tensor->name), std::string(info(tensor->dtype).name), shape_text(tensor->shape),
                  bytes_text(tensor->bytes())});
    return text + "\nTensors\n" + list.text("  ");
}

}  // namespace

int show_checkpoint(Files& files, const std::string& reference, const InspectOptions& options) {
    const CheckpointFacts facts = inspect_checkpoint(files, find_model(files, reference));
    for (const std::string& warning : facts.checkpoint.warnings) log_warning("{}", warning);
    if (!facts.quantised.empty()) log_warning("a merge would refuse it: {}", facts.quantised);
    print_out(options.json ? json_text(facts_json(facts, options.tensors)) : facts_text(facts, options.tensors));
    return 0;
}

}  // namespace amalgam
