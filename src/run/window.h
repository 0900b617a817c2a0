// A run of blocks of one output tensor with all inputs in memory.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/pack.h"
#include "src/device/lane.h"
#include "src/plan/plan.h"
#include "src/plan/tensor_task.h"

namespace amalgam {

/// What a pass works on. Operands point at element input_first of the tensor, in the memory of the lane that works on it.
struct Window {
    const TensorTask* task = nullptr;
    int64_t first = 0, count = 0;  ///< elements of the output; first is a multiple of 65,536
    int64_t input_first = 0,
            input_count = 0;  ///< elements in memory: more than the window where whole rows are asked for
    Operand base;             ///< data is nullptr if the task has none
    std::vector<Operand> inputs;

    /// The base, if there is one, and the inputs.
    std::vector<Operand*> operands() {
        std::vector<Operand*> all;
        if (base.data) all.push_back(&base);
        for (Operand& input : inputs) all.push_back(&input);
        return all;
    }
    int64_t first_block() const { return first / block_elements; }
    int64_t blocks() const { return block_count(count); }
};

/// Calls body(first element, elements) for every block of a window.
template <class Body>
void each_block(const Window& window, const Body& body) {
    for (int64_t at = 0; at < window.count; at += block_elements)
        body(window.first + at, std::min(block_elements, window.count - at));
}

/// An operand moved to a later element.
inline Operand at_element(const Operand& operand, int64_t elements) {
    if (!operand.data) return operand;
    return {static_cast<const unsigned char*>(operand.data) + elements * bytes_of(operand.dtype), operand.dtype};
}

/// Whether a task computes in double: an input is float64.
inline bool computes_in_double(const TensorTask& task) {
    for (const TaskInput* input : all_inputs(task))
        if (input->tensor.dtype == Dtype::f64) return true;
    return false;
}

/// Bytes of an input, in its file, that a window needs.
std::pair<uint64_t, uint64_t> byte_range(const TaskInput& input, const Window& window);
/// Puts number `index` of a window's inputs in place; the base, if the task has one, is number 0.
void set_operand(Window& window, const TensorTask& task, size_t index, const TaskInput& input, const std::byte* data);

/// What one thread works with.
struct Scratch {
    int thread = 0;
    Lane* lane = nullptr;  ///< where the window's operands lie
    std::vector<uint64_t> keys;
    std::vector<double> numbers;

    /// The window's inputs from one element on; valid until the next call.
    const Operand* inputs_from(const Window& window, int64_t first) {
        operands_.clear();
        for (const Operand& input : window.inputs) operands_.push_back(at_element(input, first - window.input_first));
        return operands_.data();
    }

  private:
    std::vector<Operand> operands_;
};

/// The window's base from one element on.
inline Operand base_from(const Window& window, int64_t first) {
    return at_element(window.base, first - window.input_first);
}

}  // namespace amalgam
