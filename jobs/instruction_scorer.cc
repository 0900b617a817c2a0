#include "jobs/instruction_scorer.h"

#include "jobs/evaluate.h"
#include "jobs/on_ranks.h"
#include "src/run/resources.h"

namespace amalgam {

InstructionScorer::InstructionScorer(const Arguments& arguments, Files& files, const SearchInputs& inputs,
                                     Communicator& world, Communicator& group)
    : inputs_(inputs),
      rounds_(rounds_of(inputs.search, inputs.config.racing)),
      pool_(thread_count(arguments, world)),
      device_(choose_device(arguments, pool_, world, group.size() > 1 ? &group : nullptr)),
      group_(files, pool_, group, settings(arguments, world)) {}

std::string InstructionScorer::score(const std::string& text) {
    const Instruction instruction = decode_instruction(text);
    // Names of models count from where the search file is.
    const Recipe recipe = parse_recipe(instruction.recipe, inputs_.config.recipe.folder() + "/candidate.toml");
    if (instruction.set == ItemSet::search) return encode_answer(race(recipe, instruction.cut));
    const std::vector<Task>& tasks = instruction.set == ItemSet::validation ? inputs_.validation : inputs_.heldout;
    return encode_answer(answer_of(group_.score(recipe, "candidate", tasks).evaluation));
}

Answer InstructionScorer::race(const Recipe& recipe, const std::vector<std::vector<double>>& cut) {
    Race race(inputs_.search, cut, rounds_.size(), inputs_.config.racing_level);
    const auto is_over = [&](const Evaluation& so_far) { return race.is_over(so_far); };
    return race.answer(group_.score(recipe, "candidate", rounds_, is_over).evaluation);
}

EvaluatorSettings InstructionScorer::settings(const Arguments& arguments, const Communicator& world) const {
    EvaluatorSettings settings;
    settings.device = device_.get();
    settings.memory = arguments.bytes("memory", free_memory() / 2 / uint64_t(world.node_size()));
    settings.is_guess = !arguments.has("memory");
    settings.allow_unknown = arguments.has("allow-unknown");
    settings.compute = [this, &arguments](const DecoderCheckpoint& model) {
        return choose_compute(arguments, model, device_->has_bfloat16());
    };
    return settings;
}

}  // namespace amalgam
