#include "src/evaluate/texts.h"

#include <algorithm>

namespace amalgam {

void check_sequence(const DecoderConfig& config, std::span<const int32_t> ids, int64_t length) {
    check(!ids.empty(), "an empty sequence cannot be evaluated");
    check(length <= config.context, "a sequence of {} tokens is longer than the model's context, {}", length,
          config.context);
    for (int32_t id : ids)
        check(id >= 0 && id < config.vocabulary, "token {} is outside of the vocabulary of {}", id, config.vocabulary);
}

std::vector<TextBatch> cut_batches(const DecoderConfig& config, std::span<const ScoredSequence> sequences,
                                   int64_t most_tokens) {
    std::vector<TextBatch> batches;
    for (size_t number = 0; number < sequences.size(); ++number) {
        const ScoredSequence& sequence = sequences[number];
        const int64_t fed = int64_t(sequence.ids.size()) - 1;
        check_sequence(config, sequence.ids, fed);
        check(sequence.first_target >= 1 && sequence.first_target <= fed,
              "a sequence of {} tokens is to be judged from token {} on", fed + 1, sequence.first_target);
        if (batches.empty() || int64_t(batches.back().ids.size()) + fed > most_tokens) batches.push_back({{}, {}, {0}});
        TextBatch& batch = batches.back();
        batch.sequences.push_back(number);
        batch.ids.insert(batch.ids.end(), sequence.ids.begin(), sequence.ids.end() - 1);
        batch.first_rows.push_back(int64_t(batch.ids.size()));
    }
    return batches;
}

int64_t longest_text(const std::vector<TextBatch>& batches) {
    int64_t longest = 0;
    for (const TextBatch& batch : batches)
        for (size_t place = 0; place < batch.sequences.size(); ++place)
            longest = std::max(longest, batch.first_rows[place + 1] - batch.first_rows[place]);
    return longest;
}

std::vector<BatchRange> cut_passes(const std::vector<TextBatch>& batches, int64_t most_tokens) {
    std::vector<BatchRange> passes;
    int64_t tokens = 0;
    for (size_t batch = 0; batch < batches.size(); ++batch) {
        const auto own = int64_t(batches[batch].ids.size());
        if (passes.empty() || tokens + own > most_tokens) {
            passes.push_back({batch, batch});
            tokens = 0;
        }
        tokens += own;
        passes.back().last = batch + 1;
    }
    return passes;
}

JudgedRows judged_rows(const TextBatch& batch, std::span<const ScoredSequence> sequences) {
    JudgedRows judged;
    for (size_t place = 0; place < batch.sequences.size(); ++place) {
        const ScoredSequence& sequence = sequences[batch.sequences[place]];
        for (size_t at = size_t(sequence.first_target); at < sequence.ids.size(); ++at) {
            judged.rows.push_back(int32_t(batch.first_rows[place] + int64_t(at) - 1));
            judged.targets.push_back(sequence.ids[at]);
        }
    }
    return judged;
}

void hand_out(const TextBatch& batch, std::span<const ScoredSequence> sequences, const std::vector<TargetScore>& scores,
              std::vector<std::vector<TokenScore>>& results) {
    auto next = scores.begin();
    for (size_t number : batch.sequences) {
        const auto first = size_t(sequences[number].first_target), count = sequences[number].ids.size() - first;
        for (size_t i = 0; i < count; ++i, ++next) {
            if (!next->finite)
                throw BrokenModel(
                    fmt::format("logits of token {} of sequence {} are not finite: the model's weights are broken",
                                first + i, number));
            results[number].push_back({next->log_likelihood, next->best});
        }
    }
}

std::vector<TextGroup> cut_groups(const DecoderConfig& config, std::span<const std::span<const int32_t>> prompts,
                                  const GenerateOptions& options, size_t most_texts, int64_t most_positions) {
    check(options.limit >= 1, "at most {} new tokens: at least 1 is needed", options.limit);
    std::vector<TextGroup> groups;
    for (size_t number = 0; number < prompts.size(); ++number) {
        const int64_t length = int64_t(prompts[number].size()) + options.limit;
        check_sequence(config, prompts[number], length);
        if (groups.empty() || groups.back().count == most_texts || groups.back().positions + length > most_positions)
            groups.push_back({number, 0, 0});
        ++groups.back().count;
        groups.back().positions += length;
    }
    return groups;
}

int64_t longest_continuation(std::span<const std::span<const int32_t>> prompts, const GenerateOptions& options) {
    int64_t longest = 0;
    for (const auto& prompt : prompts) longest = std::max(longest, int64_t(prompt.size()) + options.limit);
    return longest;
}

void write_greedily(std::span<const std::span<const int32_t>> prompts, const GenerateOptions& options,
                    int64_t most_tokens, const Feed& feed, std::span<std::vector<int32_t>> written) {
    std::vector<int32_t> next(prompts.size());
    const auto feed_all = [&](const std::vector<FedTokens>& fed) {
        const std::vector<TargetScore> scores = feed(fed);
        for (size_t i = 0; i < fed.size(); ++i) {
            if (!scores[i].finite)
                throw BrokenModel("logits of a generated token are not finite: the model's weights are broken");
            next[fed[i].text] = scores[i].best;
        }
    };
    // Prompts in portions, as in scoring.
    for (size_t first = 0; first < prompts.size();) {
        std::vector<FedTokens> fed;
        int64_t count = 0;
        for (; first < prompts.size(); ++first) {
            const auto own = int64_t(prompts[first].size());
            if (!fed.empty() && count + own > most_tokens) break;
            count += own;
            fed.push_back({first, prompts[first], 0});
        }
        feed_all(fed);
    }
    std::vector<size_t> going(prompts.size());
    for (size_t text = 0; text < going.size(); ++text) going[text] = text;
    while (true) {
        std::erase_if(going, [&](size_t text) {
            const bool ends =
                std::find(options.end_ids.begin(), options.end_ids.end(), next[text]) != options.end_ids.end();
            if (!ends) written[text].push_back(next[text]);
            return ends || int64_t(written[text].size()) >= options.limit;
        });
        if (going.empty()) return;
        std::vector<FedTokens> fed;
        for (size_t text : going)
            fed.push_back({text, std::span<const int32_t>(&written[text].back(), 1),
                           int64_t(prompts[text].size() + written[text].size()) - 1});
        feed_all(fed);
    }
}

}  // namespace amalgam
