// What a group of ranks does for a search: scores the merges that rank 0 asks for.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "jobs/command_line.h"
#include "src/run/evaluator_group.h"
#include "src/search/race.h"
#include "src/search/search.h"

namespace amalgam {

class InstructionScorer {
  public:
    /// Collective over the group; all outlive it.
    InstructionScorer(const Arguments& arguments, Files& files, const SearchInputs& inputs, Communicator& world,
                      Communicator& group);

    /// The answer to an instruction (messages.h), as text. Collective over the group. Throws Error for a candidate without a
    /// score, on every rank the same.
    std::string score(const std::string& text);

  private:
    EvaluatorSettings settings(const Arguments& arguments, const Communicator& world) const;
    Answer race(const Recipe& recipe, const std::vector<std::vector<double>>& cut);

    const SearchInputs& inputs_;
    std::vector<std::vector<Task>> rounds_;  ///< of the search items
    ThreadPool pool_;
    std::unique_ptr<EvaluationDevice> device_;
    EvaluatorGroup group_;
};

}  // namespace amalgam
