#include "src/base/error.h"
#include "src/run/model_trim.h"
#include "src/run/works.h"

namespace amalgam {

std::vector<const TaskInput*> inputs_here(const TensorTask& task, const WorkSettings& settings) {
    std::vector<const TaskInput*> inputs;
    for (const TaskInput& input : task.inputs)
        if (settings.is_here(input)) inputs.push_back(&input);
    return inputs;
}

bool folds_in_links(const MethodInfo& method) {
    return method.field("lambda") >= 0 || method.name == "linear" || method.name == "passthrough" ||
           method.name == "nearswap" || method.name == "ram";
}

FoldCounts TensorWork::apply_link(const Window& window, Scratch&, std::byte*, const FoldLink&) const {
    fail("{}: this method does not fold in links (a bug in the program)", window.task->name);
}

FoldKind TensorWork::link_kind() const {
    fail("a method that does not fold in links has no planes (a bug in the program)");
}

std::unique_ptr<TensorWork> make_work(const TensorTask& task, const WorkSettings& settings, const ModelTrim* trim) {
    if (task.kind != TaskKind::merge) return make_copy_work(task, settings);
    const MethodInfo& method = *settings.method;
    if (method.field("lambda") >= 0) return make_gta_work(task, settings, trim);
    if (method.name == "sce") return make_sce_work(task, settings);
    if (method.name == "arcee_fusion") return make_fusion_work(task, settings);
    if (method.shape == Shape::blend) {
        const bool vector = task.shape.size() < 2;
        if (global_field(method, task, "filter_wise", 0) != 0) return make_row_blend_work(task, settings);
        if (method.name == "nuslerp" && !vector && global_field(method, task, "nuslerp_flatten", 1) == 0) {
            if (global_field(method, task, "nuslerp_row_wise", 0) != 0) return make_column_blend_work(task, settings);
            return make_row_blend_work(task, settings);
        }
        return make_blend_work(task, settings);
    }
    return make_fold_work(task, settings);
}

}  // namespace amalgam
