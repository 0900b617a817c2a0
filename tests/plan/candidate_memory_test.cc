#include "src/plan/candidate_memory.h"

#include <gtest/gtest.h>

#include "kernels/methods.h"

namespace amalgam {
namespace {

TensorTask tensor(const std::string& name, std::vector<int64_t> shape, int64_t layer) {
    TensorTask task;
    task.name = name;
    task.dtype = Dtype::bf16;
    task.shape = std::move(shape);
    task.layer = layer;
    task.tower = layer < 0 ? "" : "model.layers";
    TaskInput input;
    input.tensor.dtype = Dtype::f32;
    task.base = input;
    task.inputs = {input, input, input};
    return task;
}

/// Elements: 70 in the embedding, 15 + 6 in layer 0, 40 in layer 1.
const std::vector<TensorTask> tasks = {tensor("embed", {7, 10}, -1), tensor("a", {3, 5}, 0), tensor("b", {6}, 0),
                                       tensor("c", {40}, 1)};

TEST(CandidateMemory, CountsByHand) {
    const CandidateMemory ties = candidate_memory(tasks, *find_method("ties"), 1);
    EXPECT_EQ(ties.models, 131u * 4 * 4);
    EXPECT_EQ(ties.orders, 131u * 2 * 3);
    EXPECT_EQ(ties.resident, 131u * (2 + 4));
    EXPECT_EQ(ties.streamed, 70u * (2 + 4));
    EXPECT_EQ(candidate_memory(tasks, *find_method("task_arithmetic"), 1).orders, 0u);
}

TEST(CandidateMemory, RanksShareWhatIsFolded) {
    const CandidateMemory three = candidate_memory(tasks, *find_method("ties"), 3);
    EXPECT_EQ(three.models, 131u * 4 * 4 / 3);
    EXPECT_EQ(three.resident, 131u * 2 / 3 + 131u * 4);
    EXPECT_EQ(three.streamed, 70u * (2 + 4));
    EXPECT_EQ(three.spread, 131u * 2 / 3 + 70u * (2 + 4));
}

TEST(CandidateMemory, LayersCountAsAWhole) {
    const std::vector<TensorTask> layers(tasks.begin() + 1, tasks.end());
    EXPECT_EQ(candidate_memory(layers, *find_method("ties"), 1).streamed, 40u * 6);
    const std::vector<TensorTask> first(tasks.begin() + 1, tasks.begin() + 3);
    EXPECT_EQ(candidate_memory(first, *find_method("ties"), 1).streamed, 21u * 6);
}

TEST(CandidateMemory, AQuarterOfTheBudgetIsForTheFold) {
    const CandidateMemory memory = candidate_memory(tasks, *find_method("ties"), 1);
    EXPECT_TRUE(memory.fits(memory.resident / 3 * 4));
    EXPECT_FALSE(memory.fits(memory.resident / 3 * 4 - 4));
}

TEST(CandidateMemory, WhatIsLeftIsForTexts) {
    const CandidateMemory memory = candidate_memory(tasks, *find_method("ties"), 1);
    EXPECT_EQ(memory.least_budget(), 70u * (2 + 4) / 3 * 4);
    EXPECT_EQ(memory.room(memory.least_budget()), 0u);
    EXPECT_EQ(memory.room(800), 800u - 200 - 420);
    EXPECT_EQ(memory.room(960), 960u - 120 - 682);
    EXPECT_EQ(memory.room(1600), 1600u - 200 - 786);
}

}  // namespace
}  // namespace amalgam
