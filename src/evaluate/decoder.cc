#include "src/evaluate/decoder.h"

#include <algorithm>

#include "src/evaluate/head.h"

namespace amalgam {

/// Sequences that one thread computes together.
struct Decoder::MicroBatch {
    std::vector<size_t> sequences;  ///< numbers in the caller's list
    std::vector<int32_t> ids;       ///< all but the last one of each
    std::vector<Run> runs;
    std::vector<float> hidden;
};

namespace {

struct Pass {
    size_t first = 0, last = 0;  ///< micro-batches
};

/// What one layer may be held for: as many micro-batches as have room for their hidden values.
template <class MicroBatch>
std::vector<Pass> make_passes(const std::vector<MicroBatch>& batches, int64_t hidden, int64_t most_values) {
    std::vector<Pass> passes;
    int64_t values = most_values;
    for (size_t batch = 0; batch < batches.size(); ++batch) {
        const int64_t own = int64_t(batches[batch].ids.size()) * hidden;
        if (values + own > most_values) {
            passes.push_back({batch, batch});
            values = 0;
        }
        values += own;
        passes.back().last = batch + 1;
    }
    return passes;
}

/// Rows of hidden values whose next token is judged, and that token.
struct Judged {
    std::vector<float> hidden;
    std::vector<int32_t> targets;
};

Judged judged_rows(const ScoredSequence& sequence, const float* rows, int64_t width) {
    Judged judged;
    for (size_t at = size_t(sequence.first_target); at < sequence.ids.size(); ++at) {
        const float* row = rows + int64_t(at - 1) * width;
        judged.hidden.insert(judged.hidden.end(), row, row + width);
        judged.targets.push_back(sequence.ids[at]);
    }
    return judged;
}

}  // namespace

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
void Decoder::run_path(std::vector<MicroBatch>& batches, const RopeTable& rope) {
    std::vector<LayerScratch> scratch(static_cast<size_t>(pool_.threads()));
    for (const PathStep& step : weights_.path()) {
        const auto layer = weights_.layer(step);
        const int64_t window = config_.windows[size_t(step.layer)];
        pool_.parallel_for(int64_t(batches.size()), [&](int64_t index, int thread) {
            MicroBatch& batch = batches[size_t(index)];
            run_layer(config_, *layer, window, rope, batch.runs, int64_t(batch.ids.size()), batch.hidden.data(),
                      scratch[size_t(thread)]);
        });
    }
}

std::vector<std::vector<TokenScore>> Decoder::score(std::span<const ScoredSequence> sequences) {
    std::vector<MicroBatch> batches;
    int64_t longest = 0;
    for (size_t number = 0; number < sequences.size(); ++number) {
        const ScoredSequence& sequence = sequences[number];
        const int64_t fed = int64_t(sequence.ids.size()) - 1;
        check_sequence(sequence.ids, fed);
        check(sequence.first_target >= 1 && sequence.first_target <= fed,
              "a sequence of {} tokens is to be judged from token {} on", fed + 1, sequence.first_target);
        longest = std::max(longest, fed);
        if (batches.empty() || int64_t(batches.back().ids.size()) + fed > micro_batch_tokens) batches.emplace_back();
        MicroBatch& batch = batches.back();
        batch.sequences.push_back(number);
        batch.runs.push_back({int64_t(batch.ids.size()), fed, 0, nullptr});
        batch.ids.insert(batch.ids.end(), sequence.ids.begin(), sequence.ids.end() - 1);
    }
    const RopeTable rope(config_.rope, longest);
    std::vector<std::vector<TokenScore>> result(sequences.size());
    const auto judge = [&](MicroBatch& batch, const HeadWeights& head) {
        Judged all;
        for (size_t place = 0; place < batch.sequences.size(); ++place) {
            const float* rows = batch.hidden.data() + batch.runs[place].first_row * config_.hidden;
            const Judged judged = judged_rows(sequences[batch.sequences[place]], rows, config_.hidden);
            all.hidden.insert(all.hidden.end(), judged.hidden.begin(), judged.hidden.end());
            all.targets.insert(all.targets.end(), judged.targets.begin(), judged.targets.end());
        }
        batch.hidden = {};
        const std::vector<TargetScore> scores =
            judge_rows(config_, head, all.hidden.data(), int64_t(all.targets.size()), all.targets);
        auto next = scores.begin();
        for (size_t number : batch.sequences) {
            const auto count = sequences[number].ids.size() - size_t(sequences[number].first_target);
            for (size_t i = 0; i < count; ++i, ++next) {
                if (!next->finite)
                    throw BrokenModel(
                        fmt::format("logits of token {} of sequence {} are not finite: the model's weights "
                                    "are broken",
                                    size_t(sequences[number].first_target) + i, number));
                result[number].push_back({next->log_likelihood, next->best});
            }
        }
    };
    for (const Pass& pass : make_passes(batches, config_.hidden, most_values)) {
        std::vector<MicroBatch> own(std::make_move_iterator(batches.begin() + int64_t(pass.first)),
                                    std::make_move_iterator(batches.begin() + int64_t(pass.last)));
        const auto embedding = weights_.embedding();
        pool_.parallel_for(int64_t(own.size()), [&](int64_t index, int) {
            MicroBatch& batch = own[size_t(index)];
            batch.hidden.resize(batch.ids.size() * size_t(config_.hidden));
            embed(*embedding, batch.ids, batch.hidden.data());
        });
        run_path(own, rope);
        const auto head = weights_.head();
        pool_.parallel_for(int64_t(own.size()), [&](int64_t index, int) { judge(own[size_t(index)], *head); });
    }
    return result;
}

std::vector<float> Decoder::logits(std::span<const int32_t> ids) {
    check_sequence(ids, int64_t(ids.size()));
    std::vector<MicroBatch> batches(1);
    MicroBatch& batch = batches[0];
    batch.ids.assign(ids.begin(), ids.end());
    batch.runs = {{0, int64_t(ids.size()), 0, nullptr}};
    batch.hidden.resize(ids.size() * size_t(config_.hidden));
    embed(*weights_.embedding(), ids, batch.hidden.data());
    run_path(batches, RopeTable(config_.rope, int64_t(ids.size())));
    return all_logits(config_, *weights_.head(), batch.hidden.data(), int64_t(ids.size()));
}

}  // namespace amalgam
