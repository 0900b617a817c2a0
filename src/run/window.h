// A run of blocks of one output tensor with all inputs in memory.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/gram_pass.h"
#include "kernels/pack.h"
#include "src/plan/plan.h"
#include "src/plan/tensor_task.h"

namespace amalgam {

/// What a pass works on. Operands point at element input_first of the tensor.
struct Window {
    const TensorTask* task = nullptr;
    int64_t first = 0, count = 0;  ///< elements of the output; first is a multiple of 65,536
    int64_t input_first = 0,
            input_count = 0;  ///< elements in memory: more than the window where whole rows are asked for
    Operand base;             ///< data is nullptr if the task has none
    std::vector<Operand> inputs;

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

/// Memory of one thread, kept from window to window.
struct Scratch {
    int thread = 0;
    int64_t block = block_elements;  ///< elements of a work block of a fold
    std::unique_ptr<GramScratch> gram;
    std::vector<double> numbers;
    std::vector<uint64_t> keys;
    std::vector<float> factors;
    std::vector<uint32_t> words;
    std::vector<Operand> operands;
};

}  // namespace amalgam
