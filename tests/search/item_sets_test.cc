#include "src/search/item_sets.h"

#include <gmock/gmock.h>

#include "src/base/error.h"

namespace amalgam {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(ItemSets, PublicTestSetsAreKnownByTheirNames) {
    for (const char* path : {"gsm8k/test.jsonl", "/data/GSM8K_test.jsonl", "mgsm-ja-test.jsonl",
                             "x/mmlu_pro.test.jsonl", "arc_challenge/test-00000.jsonl", "tasks/hellaswag/TEST.jsonl"})
        EXPECT_NE(public_test_set(path), "") << path;
    for (const char* path :
         {"gsm8k/train.jsonl", "tests/data/zoo/tasks/math-ja/search.jsonl", "gsm8k/search.jsonl", "test.jsonl",
          "contest/gsm8k.jsonl", "gsm8k-like/latest.jsonl", "raindrop/test.jsonl", "gsm8k/a/test.jsonl", ""})
        EXPECT_EQ(public_test_set(path), "") << path;
}

Task task_of(const std::string& path, const std::vector<int32_t>& prompts) {
    Task task;
    task.path = path;
    for (int32_t prompt : prompts) {
        TaskItem& item = task.items.emplace_back();
        item.prompt = {1, prompt};
    }
    return task;
}

TEST(ItemSets, AreCheckedBeforeASearch) {
    SearchInputs inputs;
    inputs.config.path = "search.toml";
    inputs.search = {task_of("a/search.jsonl", {1, 2, 3})};
    inputs.heldout = {task_of("gsm8k/test.jsonl", {4, 5})};  // as a report it is welcome
    EXPECT_THAT(check_item_sets(inputs), IsEmpty());
    inputs.heldout.push_back(task_of("b/heldout.jsonl", {2, 6, 3, 2}));
    EXPECT_THAT(check_item_sets(inputs), ElementsAre(HasSubstr("2 of 5 held-out items are searched on too")));
    inputs.validation = {task_of("v", {1})};
    EXPECT_EQ(check_item_sets(inputs).size(), 2u);
    for (auto* tasks : {&inputs.search, &inputs.validation}) {
        std::swap((*tasks)[0].path, inputs.heldout[0].path);
        EXPECT_THROW(check_item_sets(inputs), Error);
        inputs.config.public_tests = true;
        EXPECT_EQ(check_item_sets(inputs).size(), 2u);
        inputs.config.public_tests = false;
        std::swap((*tasks)[0].path, inputs.heldout[0].path);
    }
}

TEST(ItemSets, OneOfTheTasksCounts) {
    SearchInputs inputs;
    inputs.config.path = "search.toml";
    inputs.search = {task_of("a", {1}), task_of("b", {2})};
    inputs.search[0].weight = 0;
    EXPECT_THAT(check_item_sets(inputs), IsEmpty());
    inputs.search[1].weight = 0;
    try {
        check_item_sets(inputs);
        ADD_FAILURE() << "taken";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("search.toml: tasks: the weight of a is 0, and no other one counts"));
    }
}

}  // namespace
}  // namespace amalgam
