// One output tensor and all that goes into it: the unit in which a merge is planned, priced and carried out.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/method_info.h"
#include "src/checkpoint/tensor.h"

namespace amalgam {

/// One tensor of one model as an input of a task.
struct TaskInput {
    int model = 0;         ///< index into Merge::models
    int position = 0;      ///< of the entry in the recipe's list: addresses random masks (design 3)
    TensorInfo tensor;     ///< where its bytes are; tensor.file is an index into that model's files
    FieldValues fields{};  ///< per-model fields of the method, resolved for this tensor
};

enum class TaskKind {
    merge,  ///< arithmetic on floating-point elements by Merge::method
    copy,   ///< bytes of inputs[0], converted to the output dtype if that differs
    equal,  ///< integers and the like: bytes of inputs[0], an error if another input's bytes differ
};

/// Elements of the output tensor are numbered flat, row-major. An input may have more rows than the output: then its
/// first `elements()` elements take part.
struct TensorTask {
    std::string name;
    Dtype dtype = Dtype::f32;
    std::vector<int64_t> shape;
    TaskKind kind = TaskKind::merge;
    FieldValues global{};  ///< global fields of the method, resolved for this tensor
    std::vector<TaskInput>
        inputs;  ///< in recipe order, without the base (unless the method's BaseUse is `member`: see base)
    std::optional<TaskInput> base;  ///< the origin of task vectors; for `member` methods the first of the two models
    std::string tower;              ///< prefix before the layer number; "" for tensors of no layer
    int64_t layer = -1;             ///< layer number in the output

    int64_t elements() const {
        int64_t product = 1;
        for (int64_t dimension : shape)
            if (dimension == 0) return 0;  // the other dimensions may be as large as they like
        for (int64_t dimension : shape) product *= dimension;
        return product;
    }
    uint64_t bytes() const { return uint64_t(elements()) * info(dtype).bits / 8; }
    /// Length of a row: the last dimension; a vector is one row; a scalar has one element.
    int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
};

}  // namespace amalgam
