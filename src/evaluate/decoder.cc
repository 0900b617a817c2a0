#include "src/evaluate/decoder.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "src/evaluate/head.h"

namespace amalgam {

/// Sequences that one thread computes together.
struct Decoder::MicroBatch {
    std::vector<size_t> sequences;  ///< numbers in the caller's list
    std::vector<int32_t> ids;       ///< all but the last one of each
    std::vector<Run> runs;
    std::vector<float> hidden;
    std::vector<TargetScore> scores;  ///< of judged tokens, sequence after sequence
};

namespace {

/// What one layer may be held for: up to where micro-batches have room for their hidden values, and no fewer than `least`, for
/// which threads have as much memory to work in.
template <class MicroBatch>
size_t end_of_pass(const std::vector<MicroBatch>& batches, size_t first, int64_t hidden, int64_t most_values,
                   size_t least) {
    int64_t values = 0;
    size_t last = first;
    while (last < batches.size()) {
        values += int64_t(batches[last].ids.size()) * hidden;
        if (last - first >= least && values > most_values) break;
        ++last;
    }
    return last;
}

size_t judged_tokens(const ScoredSequence& sequence) { return sequence.ids.size() - size_t(sequence.first_target); }

class CpuEvaluation final : public EvaluationDevice {
  public:
    CpuEvaluation(ThreadPool& pool, Communicator* ranks) : pool_(pool), ranks_(ranks) {}
    std::string name() const override { return "cpu"; }
    MatrixLayout layout() const override { return MatrixLayout::packed; }
    bool has_bfloat16() const override { return has_fast_bfloat16(); }
    bool uses_source_memory() const override { return true; }
    std::unique_ptr<Scorer> make_scorer(WeightSource& weights) override {
        return std::make_unique<Decoder>(weights, pool_, ranks_);
    }

  private:
    ThreadPool& pool_;
    Communicator* ranks_;
};

}  // namespace

std::unique_ptr<EvaluationDevice> make_cpu_evaluation(ThreadPool& pool, Communicator* ranks) {
    return std::make_unique<CpuEvaluation>(pool, ranks);
}

Decoder::Limits Decoder::limits() const {
    const auto threads = uint64_t(pool_.threads());
    std::array<uint64_t, 3> least = {memory_, memory_ / threads, threads};
    if (ranks_) ranks_->all_reduce_min(least);
    return {least[0], least[1], least[2]};
}

void Decoder::check_sequence(std::span<const int32_t> ids, int64_t length) const {
    check(!ids.empty(), "an empty sequence cannot be evaluated");
    check(length <= config_.context, "a sequence of {} tokens is longer than the model's context, {}", length,
          config_.context);
    for (int32_t id : ids)
        check(id >= 0 && id < config_.vocabulary, "token {} is outside of the vocabulary of {}", id,
              config_.vocabulary);
}

void Decoder::embed(const Embedding& embedding, std::span<const int32_t> ids, float* to) const {
    for (size_t row = 0; row < ids.size(); ++row) embedding.read(ids[row], to + int64_t(row) * config_.hidden);
}

/// Layer by layer over all micro-batches, so that a layer that is folded or read as it is asked for is made once.
void Decoder::run_path(const std::vector<MicroBatch*>& batches, const RopeTable& rope) {
    std::vector<LayerScratch> scratch(static_cast<size_t>(pool_.threads()));
    for (const PathStep& step : weights_.path()) {
        const auto layer = weights_.layer(step);
        const int64_t window = config_.windows[size_t(step.layer)];
        pool_.parallel_for(int64_t(batches.size()), [&](int64_t index, int thread) {
            MicroBatch& batch = *batches[size_t(index)];
            run_layer(config_, *layer, window, rope, batch.runs, int64_t(batch.ids.size()), batch.hidden.data(),
                      scratch[size_t(thread)]);
        });
    }
}

std::vector<Decoder::MicroBatch> Decoder::micro_batches(std::span<const ScoredSequence> sequences) const {
    std::vector<MicroBatch> batches;
    for (size_t number = 0; number < sequences.size(); ++number) {
        const ScoredSequence& sequence = sequences[number];
        const int64_t fed = int64_t(sequence.ids.size()) - 1;
        check_sequence(sequence.ids, fed);
        check(sequence.first_target >= 1 && sequence.first_target <= fed,
              "a sequence of {} tokens is to be judged from token {} on", fed + 1, sequence.first_target);
        if (batches.empty() || int64_t(batches.back().ids.size()) + fed > micro_batch_tokens) batches.emplace_back();
        MicroBatch& batch = batches.back();
        batch.sequences.push_back(number);
        batch.runs.push_back({int64_t(batch.ids.size()), fed, 0, nullptr});
        batch.ids.insert(batch.ids.end(), sequence.ids.begin(), sequence.ids.end() - 1);
    }
    return batches;
}

/// Rows of hidden values whose next token is judged, against that token.
void Decoder::judge(MicroBatch& batch, std::span<const ScoredSequence> sequences, const HeadWeights& head) const {
    std::vector<float> hidden;
    std::vector<int32_t> targets;
    for (size_t place = 0; place < batch.sequences.size(); ++place) {
        const ScoredSequence& sequence = sequences[batch.sequences[place]];
        const float* first =
            batch.hidden.data() + (batch.runs[place].first_row + sequence.first_target - 1) * config_.hidden;
        hidden.insert(hidden.end(), first, first + int64_t(judged_tokens(sequence)) * config_.hidden);
        targets.insert(targets.end(), sequence.ids.begin() + sequence.first_target, sequence.ids.end());
    }
    batch.hidden = {};
    batch.scores = judge_rows(config_, head, hidden.data(), int64_t(targets.size()), targets);
}

namespace {

/// Scores of all micro-batches on every rank, batch after batch.
void exchange_scores(Communicator& ranks, std::vector<std::vector<TargetScore>*>& by_batch) {
    const auto size = size_t(ranks.size());
    std::string own;
    for (size_t batch = size_t(ranks.rank()); batch < by_batch.size(); batch += size)
        for (const TargetScore& score : *by_batch[batch]) {
            const double values[3] = {score.log_likelihood, double(score.best), double(score.finite)};
            own.append(reinterpret_cast<const char*>(values), sizeof values);
        }
    const std::vector<std::string> all = ranks.all_gather(own);
    for (size_t rank = 0; rank < size; ++rank) {
        const char* at = all[rank].data();
        for (size_t batch = rank; batch < by_batch.size(); batch += size)
            for (TargetScore& score : *by_batch[batch]) {
                double values[3];
                std::memcpy(values, at, sizeof values);
                at += sizeof values;
                score = {values[0], int32_t(values[1]), values[2] != 0};
            }
    }
}

}  // namespace

std::vector<std::vector<TokenScore>> Decoder::score(std::span<const ScoredSequence> sequences) {
    std::vector<MicroBatch> batches = micro_batches(sequences);
    int64_t longest = 0;
    for (const ScoredSequence& sequence : sequences) longest = std::max(longest, int64_t(sequence.ids.size()) - 1);
    const RopeTable rope(config_.rope, longest);
    const Limits limits = this->limits();
    const int64_t values = int64_t(std::min(uint64_t(most_values), limits.memory / sizeof(float))) * ranks();
    for (size_t first = 0, last = 0; first < batches.size(); first = last) {
        last = end_of_pass(batches, first, config_.hidden, values, limits.threads * size_t(ranks()));
        std::vector<MicroBatch*> own;
        for (size_t batch = first; batch < last; ++batch)
            if (is_mine(batch)) own.push_back(&batches[batch]);
        const auto embedding = weights_.embedding();
        pool_.parallel_for(int64_t(own.size()), [&](int64_t index, int) {
            MicroBatch& batch = *own[size_t(index)];
            batch.hidden.resize(batch.ids.size() * size_t(config_.hidden));
            embed(*embedding, batch.ids, batch.hidden.data());
        });
        run_path(own, rope);
        const auto head = weights_.head();
        pool_.parallel_for(int64_t(own.size()),
                           [&](int64_t index, int) { judge(*own[size_t(index)], sequences, *head); });
    }
    if (ranks_) {
        std::vector<std::vector<TargetScore>*> by_batch;
        for (MicroBatch& batch : batches) {
            size_t count = 0;
            for (size_t number : batch.sequences) count += judged_tokens(sequences[number]);
            batch.scores.resize(count);
            by_batch.push_back(&batch.scores);
        }
        exchange_scores(*ranks_, by_batch);
    }
    std::vector<std::vector<TokenScore>> result(sequences.size());
    for (const MicroBatch& batch : batches) {
        auto next = batch.scores.begin();
        for (size_t number : batch.sequences)
            for (size_t token = size_t(sequences[number].first_target); token < sequences[number].ids.size(); ++token) {
                if (!next->finite)
                    throw BrokenModel(
                        fmt::format("logits of token {} of sequence {} are not finite: the model's "
                                    "weights are broken",
                                    token, number));
                result[number].push_back({next->log_likelihood, next->best});
                ++next;
            }
    }
    return result;
}

std::vector<float> Decoder::logits(std::span<const int32_t> ids) {
    check_sequence(ids, int64_t(ids.size()));
    MicroBatch batch;
    batch.ids.assign(ids.begin(), ids.end());
    batch.runs = {{0, int64_t(ids.size()), 0, nullptr}};
    batch.hidden.resize(ids.size() * size_t(config_.hidden));
    embed(*weights_.embedding(), ids, batch.hidden.data());
    run_path({&batch}, RopeTable(config_.rope, int64_t(ids.size())));
    return all_logits(config_, *weights_.head(), batch.hidden.data(), int64_t(ids.size()));
}

}  // namespace amalgam
