#include "src/recipe/make_task.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "src/base/error.h"
#include "src/recipe/check_models.h"

namespace amalgam {
namespace {

bool computed(const TensorInfo& tensor) { return info(tensor.dtype).computed; }

/// Weights as 0.3, 0.6 and -0.9 sum to 0 but for their rounding. From where on nothing is left of a sum of float32 numbers
/// that is divided by it.
constexpr double least_weight_sum = 1. / (1 << 23);

}  // namespace

std::optional<TensorTask> TaskMaker::make(const OutputPart& part, TensorRow row) const {
    if (!complete(part, row)) return std::nullopt;
    TensorTask task;
    task.name = row.name;
    task.tower = row.tower;
    task.layer = row.layer;
    const TensorInfo& leader = *row.tensors[part.leader()];
    task.dtype = leader.dtype;
    task.shape = leader.shape;
    for (int i = 0; i < int(row.tensors.size()); ++i)
        if (computed(*row.tensors[i]) != computed(leader) && !(options_.take_integers && !computed(leader)))
            fail(
                "{}: tensor \"{}\" is {} in {} and {} in {}: floating-point numbers and others cannot be merged; "
                "convert "
                "one of the models",
                place(part, i), row.name, info(leader.dtype).name, reference(part.members[part.leader()]),
                info(row.tensors[i]->dtype).name, reference(part.members[i]));
    if (!computed(leader)) {
        make_equal(part, row, task);
        return task;
    }
    fit_shapes(part, row, task);
    fill(part, row, task);
    if (recipe_.out_dtype)
        task.dtype = *recipe_.out_dtype;
    else if (recipe_.dtype)
        task.dtype = *recipe_.dtype;
    choose_kind(task);
    check_weights(part, task);
    return task;
}

/// Finds a stand-in for what a model lacks; false if the tensor is to be dropped.
bool TaskMaker::complete(const OutputPart& part, TensorRow& row) const {
    int owner = -1;
    for (int i = 0; i < int(row.tensors.size()); ++i)
        if (row.tensors[i] && owner < 0) owner = i;
    for (int i = 0; i < int(row.tensors.size()); ++i) {
        if (row.tensors[i]) continue;
        const OpenModel& model = models_[part.members[i].model];
        if (is_head(row.name)) {
            row.tensors[i] = find_embedding(model.checkpoint);
            if (row.tensors[i] && model.layout.tied == false)
                notes_.add("are taken from embeddings",
                           fmt::format("{} has no \"{}\" though its config.json says tie_word_embeddings: false: its "
                                       "embedding \"{}\" is taken",
                                       model.reference, row.name, row.tensors[i]->name));
        }
        if (row.tensors[i]) continue;
        if (is_optional_buffer(row.name)) {
            notes_.add("are dropped", fmt::format("tensor \"{}\" is dropped: a buffer that {} has and {} has not",
                                                  row.name, reference(part.members[owner]), model.reference));
            return false;
        }
        fail(
            "{}: tensor \"{}\" is in {} and missing in {}: the models must have the same tensors (amalgam inspect "
            "shows "
            "them)",
            place(part, i), row.name, reference(part.members[owner]), model.reference);
    }
    return true;
}

void TaskMaker::make_equal(const OutputPart& part, const TensorRow& row, TensorTask& task) const {
    task.kind = TaskKind::equal;
    const int leader = part.leader();
    task.inputs.push_back(input(part.members[leader], row, *row.tensors[leader], false));
    if (options_.take_integers) return;
    for (int i = 0; i < int(row.tensors.size()); ++i) {
        if (i == leader) continue;
        const TensorInfo& tensor = *row.tensors[i];
        if (tensor.dtype != task.dtype || tensor.shape != task.shape)
            fail(
                "{}: tensor \"{}\" is {} {} in {} and {} {} in {}: {} numbers are never averaged; --integers base "
                "takes "
                "them from {}",
                place(part, i), row.name, info(task.dtype).name, shape_text(task.shape),
                reference(part.members[leader]), info(tensor.dtype).name, shape_text(tensor.shape),
                reference(part.members[i]), info(task.dtype).name, reference(part.members[leader]));
        task.inputs.push_back(input(part.members[i], row, tensor, false));
    }
}

void TaskMaker::fit_shapes(const OutputPart& part, TensorRow& row, TensorTask& task) const {
    const auto unlike = std::find_if(row.tensors.begin(), row.tensors.end(),
                                     [&](const TensorInfo* tensor) { return tensor->shape != task.shape; });
    if (unlike == row.tensors.end()) return;
    if (differ_in_vocabulary(part, row)) {
        cut_rows(part, row, task);
        return;
    }
    if (!options_.skip_on_mismatch)
        fail(
            "{}: tensor \"{}\" has different shapes: {}; the models do not fit together (--on-mismatch skip leaves "
            "models that differ from {} out of such tensors)",
            place(part, int(unlike - row.tensors.begin())), row.name, shapes_text(part, row),
            reference(part.members[part.leader()]));
    for (int i = 0; i < int(row.tensors.size()); ++i)
        if (row.tensors[i]->shape != task.shape)
            leave_out(part, row, i,
                      fmt::format("its shape {} is not {}", shape_text(row.tensors[i]->shape), shape_text(task.shape)));
}

void TaskMaker::leave_out(const OutputPart& part, TensorRow& row, int member, std::string_view why) const {
    notes_.add("are merged without some of the models",
               fmt::format("{} is left out of tensor \"{}\": {}", reference(part.members[member]), row.name, why));
    row.tensors[member] = nullptr;
}

bool TaskMaker::differ_in_vocabulary(const OutputPart& part, const TensorRow& row) const {
    bool rows_are_vocabularies = true;
    for (int i = 0; i < int(row.tensors.size()); ++i) {
        const std::vector<int64_t>& shape = row.tensors[i]->shape;
        if (shape.size() != 2 || shape[1] != row.tensors[0]->shape.back()) return false;
        rows_are_vocabularies = rows_are_vocabularies && models_[part.members[i].model].layout.vocabulary == shape[0];
    }
    return rows_are_vocabularies || is_vocabulary(row.name);
}

/// As mergekit: to the rows of the base where task vectors are added to it, to the common rows where models
/// are blended.
void TaskMaker::cut_rows(const OutputPart& part, TensorRow& row, TensorTask& task) const {
    int64_t rows = row.tensors[part.leader()]->shape[0];
    const std::string shapes = shapes_text(part, row);
    const bool to_base = part.has_origin && method_.base != BaseUse::member && method_.shape != Shape::blend;
    for (int i = 0; i < int(row.tensors.size()); ++i) {
        const int64_t own = row.tensors[i]->shape[0];
        if (!to_base) {
            rows = std::min(rows, own);
        } else if (own < rows) {
            if (!options_.skip_on_mismatch)
                fail(
                    "{}: tensor \"{}\" has fewer rows in {} ({}) than in the base ({}): {} cannot tell what the base's "
                    "last tokens become; resize its vocabulary, or --on-mismatch skip leaves it out of this tensor",
                    place(part, i), row.name, reference(part.members[i]), own, rows, method_.name);
            leave_out(part, row, i, fmt::format("it has {} rows, the base {}", own, rows));
        }
    }
    task.shape[0] = rows;
    notes_.add("are cut to fewer rows", fmt::format("VOCABULARIES DIFFER: tensor \"{}\" has shapes {}: cut to {} rows; "
                                                    "later tokens are lost and the tokenizers must "
                                                    "agree on the others",
                                                    row.name, shapes, rows));
}

void TaskMaker::fill(const OutputPart& part, const TensorRow& row, TensorTask& task) const {
    task.global = part.global.resolve(row.name, row.t);
    task.inputs.reserve(size_t(part.inputs()));
    for (int i = 0; i < part.inputs(); ++i) {
        if (!row.tensors[i]) continue;
        task.inputs.push_back(input(part.members[i], row, *row.tensors[i], true));
        check_della(part, part.members[i], row, task.inputs.back().fields);
    }
    if (part.has_origin) task.base = input(part.members.back(), row, *row.tensors.back(), false);
}

TaskInput TaskMaker::input(const PartMember& member, const TensorRow& row, const TensorInfo& tensor,
                           bool with_fields) const {
    TaskInput result;
    result.model = member.model;
    result.position = member.position;
    result.tensor = tensor;
    // The embedding that stands for a missing head goes by the head's name, as in mergekit.
    const bool stands_in = row.layer < 0 && tensor.name != row.name;
    if (with_fields) result.fields = member.fields.resolve(stands_in ? row.name : tensor.name, row.t);
    return result;
}

void TaskMaker::choose_kind(TensorTask& task) const {
    const auto copy = [&](const TaskInput& source) {
        std::vector<TaskInput> only = {source};
        task.inputs = std::move(only);
        task.base.reset();
        task.kind = TaskKind::copy;
    };
    task.kind = TaskKind::merge;
    if (method_.shape == Shape::copy) {
        const int scale = method_.field("scale");
        if (scale < 0 || std::isnan(task.inputs[0].fields[scale])) task.kind = TaskKind::copy;
    } else if (task.base && (task.inputs.empty() ||
                             (method_.base == BaseUse::required && int(task.inputs.size()) < method_.min_models))) {
        notes_.add("are copied from the base", fmt::format("tensor \"{}\" is copied from the base: {} models fit it",
                                                           task.name, task.inputs.empty() ? "no" : "too few"));
        copy(*task.base);
    } else if (task.inputs.size() == 1 && method_.shape == Shape::blend && method_.base != BaseUse::member) {
        // mergekit returns a single model as it is; its angle to nothing has no meaning.
        copy(task.inputs[0]);
    }
}

void TaskMaker::check_weights(const OutputPart& part, const TensorTask& task) const {
    if (task.kind != TaskKind::merge) return;
    const int normalize = method_.name == "linear" ? method_.field("normalize") : method_.field("normalize_weights");
    const int weight = method_.field("weight");
    if (normalize < 0 || weight < 0 || task.global[normalize] == 0) return;
    double sum = 0, whole = 0;
    for (const TaskInput& each : task.inputs) {
        sum += each.fields[weight];
        whole += std::abs(each.fields[weight]);
    }
    // What float32 takes for 0 is 0 to mergekit.
    if (float(sum) != 0 && std::abs(sum) > least_weight_sum * whole) return;
    std::string weights;
    for (size_t i = 0; i < task.inputs.size() && i < 4; ++i)
        weights += fmt::format("{}{} {}", i ? ", " : "", models_[task.inputs[i].model].reference,
                               task.inputs[i].fields[weight]);
    fail("{}: the weights of tensor \"{}\" sum to 0 ({}{}): {} divides by their sum; change them or set {} to false",
         place(part, 0), task.name, weights, task.inputs.size() > 4 ? ", ..." : "", method_.name,
         method_.fields[normalize].name);
}

void TaskMaker::check_della(const OutputPart& part, const PartMember& member, const TensorRow& row,
                            const FieldValues& fields) const {
    const int epsilon = method_.field("epsilon"), density = method_.field("density");
    if (epsilon < 0 || density < 0) return;
    const double middle = fields[density], half = fields[epsilon];
    if (middle >= 1 || middle <= 0 || (middle + half < 1 && middle - half > 0)) return;
    fail(
        "{}: density={} and epsilon={} of {} for tensor \"{}\": keep probabilities from density - epsilon to density + "
        "epsilon must lie "
        "between 0 and 1; make epsilon smaller than {}",
        member_place(recipe_, part, member), middle, half, reference(member), row.name, std::min(middle, 1 - middle));
}

std::string TaskMaker::place(const OutputPart& part, int member) const {
    return member_place(recipe_, part, part.members[size_t(member)]);
}

std::string TaskMaker::shapes_text(const OutputPart& part, const TensorRow& row) const {
    std::string text;
    std::vector<std::vector<int64_t>> seen;
    for (int i = 0; i < int(row.tensors.size()); ++i) {
        const std::vector<int64_t>& shape = row.tensors[i]->shape;
        if (std::find(seen.begin(), seen.end(), shape) != seen.end()) continue;
        if (seen.size() == 4) return text + ", ...";
        seen.push_back(shape);
        text += fmt::format("{}{} {}", text.empty() ? "" : ", ", reference(part.members[i]), shape_text(shape));
    }
    return text;
}

}  // namespace amalgam
