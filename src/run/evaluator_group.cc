#include "src/run/evaluator_group.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <tuple>

#include "src/base/bytes.h"
#include "src/evaluate/decoder.h"
#include "src/plan/candidate_memory.h"
#include "src/run/candidate.h"

namespace amalgam {

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class RememberingFiles final : public Files {
  public:
    explicit RememberingFiles(Files& source) : source_(source) {}
    FileStatus status(const std::string& path) override {
        return ask(statuses_, path, [&] { return source_.status(path); });
    }
    std::string read(const std::string& path, uint64_t first, uint64_t count) override {
        return ask(texts_, std::tuple(path, first, count), [&] { return source_.read(path, first, count); });
    }
    std::vector<std::string> list(const std::string& path) override {
        return ask(lists_, path, [&] { return source_.list(path); });
    }
    std::optional<std::string> environment(const std::string& name) override {
        return ask(variables_, name, [&] { return source_.environment(name); });
    }

  private:
    template <class Answers, class Key, class Ask>
    static typename Answers::mapped_type ask(Answers& answers, const Key& key, const Ask& question) {
        const auto known = answers.find(key);
        return known != answers.end() ? known->second : answers.emplace(key, question()).first->second;
    }

    Files& source_;
    std::map<std::string, FileStatus> statuses_;
    std::map<std::tuple<std::string, uint64_t, uint64_t>, std::string> texts_;
    std::map<std::string, std::vector<std::string>> lists_;
    std::map<std::string, std::optional<std::string>> variables_;
};

struct Resolved {
    Merge merge;
    DecoderCheckpoint model;
    Compute compute = Compute::float32;
    CandidateMemory memory;
    std::vector<std::string> warnings;
};

/// What `amalgam merge` and `amalgam evaluate` of the written merge would say.
std::vector<std::string> warnings_of(const Recipe& recipe, const Resolved& resolved,
                                     const std::vector<std::string>& of_config) {
    std::vector<std::string> warnings;
    for (const auto* list : {&recipe.warnings, &resolved.merge.warnings, &of_config, &resolved.model.config.warnings})
        warnings.insert(warnings.end(), list->begin(), list->end());
    if (!resolved.model.warning.empty()) warnings.push_back(resolved.model.warning);
    return warnings;
}

Resolved resolve_candidate(Files& files, const Recipe& recipe, const std::string& name,
                           const EvaluatorSettings& settings, int ranks) {
    Resolved result;
    result.merge = resolve(files, recipe, settings.rules);
    Checkpoint checkpoint;
    checkpoint.path = name;
    OutputConfig config = merged_config(result.merge);
    checkpoint.config = std::move(config.text);
    for (const TensorTask& task : result.merge.tasks) {
        TensorInfo tensor;
        tensor.name = task.name;
        tensor.dtype = task.dtype;
        tensor.shape = task.shape;
        checkpoint.tensors.push_back(std::move(tensor));
    }
    std::sort(checkpoint.tensors.begin(), checkpoint.tensors.end(),
              [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
    const std::string& companions = result.merge.models[size_t(result.merge.tokenizer_donor)].checkpoint.path;
    result.model = decoder_of(files, std::move(checkpoint), companions, settings.allow_unknown);
    result.compute = settings.compute(result.model);
    result.memory = candidate_memory(result.merge.tasks, *result.merge.method, ranks);
    result.warnings = warnings_of(recipe, result, config.warnings);
    if (const uint64_t least = result.memory.least_budget(); settings.memory < least) {
        const std::string need = fmt::format(
            "{}: a rank needs a budget of {} to score it in memory, for its largest layer, embedding or head; there "
            "{}",
            printable(name), bytes_text(least), settings.is_guess ? "may be" : "is");
        check(settings.is_guess, "{} {}: give --memory more, or leave it out", need, bytes_text(settings.memory));
        result.warnings.push_back(
            fmt::format("{} {} for each: fewer ranks on a machine, or one with more memory, are safe", need,
                        bytes_text(settings.memory)));
    }
    return result;
}

}  // namespace

std::unique_ptr<Files> remembering_files(Files& source) { return std::make_unique<RememberingFiles>(source); }

EvaluatorGroup::EvaluatorGroup(Files& files, ThreadPool& pool, Communicator& ranks, EvaluatorSettings settings)
    : files_(remembering_files(files)),
      pool_(pool),
      ranks_(ranks),
      settings_(std::move(settings)),
      maker_(pool, settings_.memory / 4) {}

EvaluatorGroup::~EvaluatorGroup() = default;

Scored EvaluatorGroup::score(const Recipe& recipe, const std::string& name, const std::vector<Task>& tasks) {
    return score(recipe, name, std::span(&tasks, 1), nullptr);
}

Scored EvaluatorGroup::score(const Recipe& recipe, const std::string& name, std::span<const std::vector<Task>> rounds,
                             const EnoughAsked& enough) {
    const Clock::time_point start = Clock::now();
    Resolved resolved;
    std::string error;
    try {
        resolved = resolve_candidate(*files_, recipe, name, settings_, ranks_.size());
        for (const std::vector<Task>& tasks : rounds)
            for (const Task& task : tasks) check_task(task, resolved.model.config);
    } catch (const std::exception& caught) {
        error = caught.what();
    }
    ranks_.agree(error);
    if (settings_.warn)
        for (const std::string& warning : resolved.warnings) settings_.warn(warning);

    const CandidateMaker::Counts before = maker_.counts();
    Scored result;
    result.compute = resolved.compute;
    CandidateModel candidate(maker_, ranks_, resolved.merge);
    const CandidateMemory& memory = resolved.memory;
    result.resident = ranks_.all_reduce_min(uint64_t(memory.fits(settings_.memory))) != 0;
    result.spread = !result.resident && ranks_.all_reduce_min(uint64_t(memory.fits_spread(settings_.memory))) != 0;
    if (result.resident || result.spread) candidate.fold_all();
    EvaluationDevice* const device = settings_.device;
    ReaderWeights weights(resolved.model.config, candidate.reader(), result.compute, result.resident,
                          device ? device->layout() : MatrixLayout::packed);
    const Clock::time_point folded = Clock::now();
    if (result.resident && ranks_.size() == 1) {
        weights.make_all(pool_);
        candidate.clear();
    }
    result.weight_seconds = seconds_since(folded);
    const double merged = candidate.seconds();
    const Clock::time_point ready = Clock::now();
    try {
        const std::unique_ptr<Scorer> scorer =
            device ? device->make_scorer(weights)
                   : std::make_unique<Decoder>(weights, pool_, ranks_.size() > 1 ? &ranks_ : nullptr);
        scorer->limit_memory(CandidateMemory::room(settings_.memory,
                                                   result.resident ? memory.resident
                                                   : result.spread ? memory.spread
                                                                   : memory.streamed,
                                                   result.resident || result.spread));
        for (size_t round = 0; round < rounds.size(); ++round) {
            Evaluation part = evaluate(*scorer, rounds[round]);
            if (round == 0)
                result.evaluation = std::move(part);
            else
                add_items(result.evaluation, std::move(part));
            if (round + 1 < rounds.size() && enough && enough(result.evaluation)) break;
        }
    } catch (const BrokenModel& broken) {
        fail("{}: {}", printable(name), broken.what());
    }
    result.merge_seconds = candidate.seconds();
    result.forward_seconds = seconds_since(ready) - (result.merge_seconds - merged);
    result.seconds = seconds_since(start);
    result.counts = maker_.counts() - before;
    return result;
}

}  // namespace amalgam
