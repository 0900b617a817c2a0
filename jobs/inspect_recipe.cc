#include <algorithm>
#include <cmath>
#include <map>

#include "jobs/command_line.h"
#include "jobs/inspect.h"
#include "jobs/json.h"
#include "jobs/table.h"
#include "src/base/bytes.h"
#include "src/base/log.h"
#include "src/plan/plan.h"
#include "src/recipe/resolve.h"

namespace amalgam {
namespace {

const char* kind_text(TaskKind kind) {
    return kind == TaskKind::merge ? "merge" : kind == TaskKind::copy ? "copy" : "equal";
}

std::string dtype_name(Dtype dtype) { return std::string(info(dtype).name); }

/// "weight 0.5, density 0.3"; fields that are absent are left out.
std::string fields_text(const MethodInfo& method, Scope scope, const FieldValues& values) {
    std::string text;
    for (size_t i = 0; i < method.fields.size(); ++i) {
        const Field& field = method.fields[i];
        if (field.scope != scope || std::isnan(values[i])) continue;
        text += fmt::format(
            "{}{} {}", text.empty() ? "" : ", ", field.name,
            field.kind == FieldKind::boolean ? (values[i] != 0 ? "true" : "false") : number_text(values[i]));
    }
    return text;
}

Json fields_json(const MethodInfo& method, Scope scope, const FieldValues& values) {
    Json json = Json::object();
    for (size_t i = 0; i < method.fields.size(); ++i) {
        const Field& field = method.fields[i];
        if (field.scope != scope || std::isnan(values[i])) continue;
        json[std::string(field.name)] =
            field.kind == FieldKind::boolean ? Json(values[i] != 0) : json_number(values[i]);
    }
    return json;
}

/// The lowest and highest value of each field over the tensors.
class FieldRanges {
  public:
    FieldRanges() {
        low_.fill(infinity);
        high_.fill(-infinity);
    }
    void add(const FieldValues& values) {
        for (size_t i = 0; i < values.size(); ++i) {
            if (std::isnan(values[i])) continue;
            low_[i] = std::min(low_[i], values[i]);
            high_[i] = std::max(high_[i], values[i]);
        }
    }
    std::string text(const MethodInfo& method, Scope scope) const {
        std::string text;
        for (size_t i = 0; i < method.fields.size(); ++i) {
            const Field& field = method.fields[i];
            if (field.scope != scope || low_[i] > high_[i]) continue;
            const bool boolean = field.kind == FieldKind::boolean;
            const auto value = [&](double number) {
                return boolean ? std::string(number != 0 ? "true" : "false") : number_text(number);
            };
            text += fmt::format("{}{} {}", text.empty() ? "" : ", ", field.name,
                                low_[i] == high_[i] ? value(low_[i]) : value(low_[i]) + " to " + value(high_[i]));
        }
        return text;
    }

  private:
    FieldValues low_, high_;
};

struct Summary {
    int64_t merged = 0, copied = 0, equal = 0, parameters = 0;
    uint64_t read = 0, written = 0;
    FieldRanges global;
    std::map<std::pair<int, int>, FieldRanges> inputs;  ///< by place in the recipe and model
    int base = -1;
};

Summary summarise(const Merge& merge) {
    Summary summary;
    for (const TensorTask& task : merge.tasks) {
        summary.merged += task.kind == TaskKind::merge;
        summary.copied += task.kind == TaskKind::copy;
        summary.equal += task.kind == TaskKind::equal;
        summary.parameters += task.elements();
        summary.written += task.bytes();
        for (const TaskInput* input : all_inputs(task)) summary.read += input_bytes(*input, task.elements());
        if (task.base) summary.base = task.base->model;
        if (task.kind != TaskKind::merge) continue;
        summary.global.add(task.global);
        for (const TaskInput& input : task.inputs) summary.inputs[{input.position, input.model}].add(input.fields);
    }
    return summary;
}

std::string reference(const Merge& merge, int model) { return printable(merge.models[size_t(model)].reference, 200); }

std::string summary_text(const Recipe& recipe, const Merge& merge) {
    const Summary summary = summarise(merge);
    Table head("ll");
    head.add({"method", fmt::format("{}: {}", merge.method->name, merge.method->summary)});
    if (!merge.method->paper_rules.empty()) head.add({"compat", merge.compat == Compat::paper ? "paper" : "mergekit"});
    head.add({"seed", fmt::format("{}", merge.seed)});
    if (const std::string text = summary.global.text(*merge.method, Scope::global); !text.empty())
        head.add({"parameters", text});
    head.add(
        {"output", fmt::format("{}, {} parameters, {}{}", plural(int64_t(merge.tasks.size()), "tensor"),
                               count_text(summary.parameters), bytes_text(summary.written),
                               merge.config_dtype ? fmt::format(", {}", info(*merge.config_dtype).config_name) : "")});
    head.add({"", fmt::format("{} merged, {} copied, {} checked to be equal", summary.merged, summary.copied,
                              summary.equal)});
    if (!merge.layer_sources.empty())
        head.add({"layers", fmt::format("{} from {} slices", merge.layer_sources.size(), recipe.slices.size())});
    head.add(
        {"input", fmt::format("{} of {}", bytes_text(summary.read), plural(int64_t(merge.models.size()), "model"))});
    head.add({"config.json", "from " + reference(merge, merge.config_donor)});
    head.add({"tokenizer", "from " + reference(merge, merge.tokenizer_donor)});
    std::string text = printable(recipe.path) + "\n" + head.text("  ") + "\nModels\n";
    Table models("ll");
    for (const auto& [place, ranges] : summary.inputs)
        models.add({reference(merge, place.second), ranges.text(*merge.method, Scope::per_model)});
    // Nothing is merged where layers are stacked.
    if (summary.inputs.empty())
        for (size_t i = 0; i < merge.models.size(); ++i) models.add({reference(merge, int(i)), ""});
    if (summary.base >= 0) models.add({reference(merge, summary.base), "the base"});
    return text + models.text("  ");
}

void add_input(Table& table, const Merge& merge, const TensorTask& task, const TaskInput& input, bool base) {
    const TensorInfo& tensor = input.tensor;
    std::string note = tensor.name == task.name ? "" : printable(tensor.name);
    if (tensor.shape != task.shape || tensor.dtype != task.dtype || !note.empty())
        note += fmt::format("{}{} {}", note.empty() ? "" : " ", dtype_name(tensor.dtype), shape_text(tensor.shape));
    const bool numbers = task.kind == TaskKind::merge && !base;
    table.add({reference(merge, input.model),
               base      ? "base"
               : numbers ? fields_text(*merge.method, Scope::per_model, input.fields)
                         : "",
               note});
}

std::string tensors_text(const Merge& merge) {
    std::string text = "\nTensors\n";
    for (const TensorTask& task : merge.tasks) {
        std::string how = task.kind == TaskKind::merge ? std::string(merge.method->name) : kind_text(task.kind);
        if (task.kind == TaskKind::merge)
            if (const std::string fields = fields_text(*merge.method, Scope::global, task.global); !fields.empty())
                how += ": " + fields;
        text +=
            fmt::format("  {} {} {}  {}\n", printable(task.name), dtype_name(task.dtype), shape_text(task.shape), how);
        Table inputs("lll");
        if (task.base) add_input(inputs, merge, task, *task.base, true);
        for (const TaskInput& input : task.inputs) add_input(inputs, merge, task, input, false);
        text += inputs.text("    ");
    }
    return text;
}

Json input_json(const Merge& merge, const TensorTask& task, const TaskInput& input, bool base) {
    const MergeModel& model = merge.models[size_t(input.model)];
    Json json = {{"model", model.reference},    {"position", input.position},
                 {"tensor", input.tensor.name}, {"dtype", info(input.tensor.dtype).name},
                 {"shape", input.tensor.shape}, {"file", model.checkpoint.files[size_t(input.tensor.file)].path}};
    if (!base && task.kind == TaskKind::merge)
        json["parameters"] = fields_json(*merge.method, Scope::per_model, input.fields);
    return json;
}

Json task_json(const Merge& merge, const TensorTask& task) {
    Json json = {
        {"name", task.name}, {"dtype", info(task.dtype).name}, {"shape", task.shape}, {"kind", kind_text(task.kind)}};
    json["tower"] = task.layer < 0 ? Json(nullptr) : Json(task.tower);
    json["layer"] = task.layer < 0 ? Json(nullptr) : Json(task.layer);
    if (task.kind == TaskKind::merge) json["parameters"] = fields_json(*merge.method, Scope::global, task.global);
    json["base"] = task.base ? input_json(merge, task, *task.base, true) : Json(nullptr);
    json["inputs"] = Json::array();
    for (const TaskInput& input : task.inputs) json["inputs"].push_back(input_json(merge, task, input, false));
    return json;
}

Json merge_json(const Recipe& recipe, const Merge& merge, bool tensors) {
    const Summary summary = summarise(merge);
    Json json = {{"recipe", recipe.path},
                 {"method", merge.method->name},
                 {"compat", merge.compat == Compat::paper ? "paper" : "mergekit"},
                 {"seed", merge.seed}};
    json["models"] = Json::array();
    for (const MergeModel& model : merge.models)
        json["models"].push_back({{"reference", model.reference}, {"path", model.checkpoint.path}});
    json["dtype"] = merge.config_dtype ? Json(info(*merge.config_dtype).config_name) : Json(nullptr);
    json["config_from"] = merge.models[size_t(merge.config_donor)].reference;
    json["tokenizer_from"] = merge.models[size_t(merge.tokenizer_donor)].reference;
    json["tensors"] = merge.tasks.size();
    json["merged"] = summary.merged;
    json["copied"] = summary.copied;
    json["equal"] = summary.equal;
    json["parameters"] = summary.parameters;
    json["bytes_read"] = summary.read;
    json["bytes_written"] = summary.written;
    json["warnings"] = merge.warnings;
    if (!tensors) return json;
    json["tensor_list"] = Json::array();
    for (const TensorTask& task : merge.tasks) json["tensor_list"].push_back(task_json(merge, task));
    return json;
}

}  // namespace

int show_recipe(Files& files, const std::string& path, const InspectOptions& options) {
    const Recipe recipe = read_recipe(files, path, {options.set, options.allow_unknown});
    const Merge merge = resolve(files, recipe);
    for (const std::string& warning : merge.warnings) log_warning("{}", warning);
    if (options.json)
        print_out(json_text(merge_json(recipe, merge, options.tensors)));
    else
        print_out(summary_text(recipe, merge) + (options.tensors ? tensors_text(merge) : ""));
    return 0;
}

}  // namespace amalgam
