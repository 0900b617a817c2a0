// A search whose scores are a function of the recipe.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/search/search.h"

namespace amalgam {

/// One group that scores a recipe by a function of it, at once.
class FunctionGroups final : public SearchGroups {
  public:
    using Score = std::function<double(const Recipe& recipe, ItemSet set)>;
    explicit FunctionGroups(Score score) : score_(std::move(score)) {}
    int count() const override { return 1; }
    void start(int group, const SearchJob& job) override {
        ++asked;
        event_ = scored(group, job, [this](const std::string& text) {
            const Instruction instruction = decode_instruction(text);
            const double score = score_(parse_recipe(instruction.recipe, "candidate.toml"), instruction.set);
            return encode_answer({score, 0, {{score, 0, {score}}}});
        });
        time_ += 1;
    }
    std::optional<Event> wait(double) override { return std::exchange(event_, std::nullopt); }
    double now() override { return time_; }
    int asked = 0;

  private:
    Score score_;
    std::optional<Event> event_;
    double time_ = 0;
};

/// One task of one item, for searching and held out.
inline SearchInputs task_inputs(SearchConfig config) {
    SearchInputs inputs;
    inputs.config = std::move(config);
    Task task;
    task.name = "t";
    task.items.resize(1);
    task.items[0].answer = {7};
    inputs.search = inputs.heldout = {task};
    inputs.layers = 4;
    return inputs;
}

/// With the records of a journal, to which it adds its own.
inline SearchResult run(const SearchInputs& inputs, FunctionGroups& groups, std::vector<std::string>& journal) {
    SearchWorld world;
    world.groups = &groups;
    const std::vector<std::string> before = journal;
    world.append = [&](const std::string& record, bool) { journal.push_back(record); };
    return run_search(inputs, world, before);
}

}  // namespace amalgam
