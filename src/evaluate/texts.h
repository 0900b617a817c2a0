// Texts of a scorer that computes many together: which they are, and what becomes of the results.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "src/evaluate/decoder_config.h"
#include "src/evaluate/head.h"
#include "src/evaluate/scorer.h"

namespace amalgam {

/// Throws Error unless all ids are tokens of the model and `length` is within its context.
void check_sequence(const DecoderConfig& config, std::span<const int32_t> ids, int64_t length);

/// Sequences that are computed together.
struct TextBatch {
    std::vector<size_t> sequences;    ///< numbers in the caller's list
    std::vector<int32_t> ids;         ///< all but the last one of each, one sequence behind the other
    std::vector<int64_t> first_rows;  ///< of each sequence among `ids`, and the end
};

/// In order, with at most `most_tokens` ids unless a sequence alone has more. Throws Error for sequences that cannot be
/// judged.
std::vector<TextBatch> cut_batches(const DecoderConfig& config, std::span<const ScoredSequence> sequences,
                                   int64_t most_tokens);
/// Ids of the longest sequence in the batches.
int64_t longest_text(const std::vector<TextBatch>& batches);

struct BatchRange {
    size_t first = 0, last = 0;
};
/// What one layer may be held for: consecutive batches with at most `most_tokens` ids together, or a single one.
std::vector<BatchRange> cut_passes(const std::vector<TextBatch>& batches, int64_t most_tokens);

/// Rows of a batch whose next token is judged, and that token.
struct JudgedRows {
    std::vector<int32_t> rows, targets;
};
JudgedRows judged_rows(const TextBatch& batch, std::span<const ScoredSequence> sequences);

/// Gives the scores of a batch's judged rows to its sequences. Throws BrokenModel.
void hand_out(const TextBatch& batch, std::span<const ScoredSequence> sequences, const std::vector<TargetScore>& scores,
              std::vector<std::vector<TokenScore>>& results);

/// Consecutive texts that are continued together.
struct TextGroup {
    size_t first = 0, count = 0;
    int64_t positions = 0;  ///< that all of them may take, prompts and new tokens
};
/// At most `most_texts`, and at most `most_positions` unless one text alone needs more. Throws Error for prompts that leave
/// no room for the new tokens.
std::vector<TextGroup> cut_groups(const DecoderConfig& config, std::span<const std::span<const int32_t>> prompts,
                                  const GenerateOptions& options, size_t most_texts, int64_t most_positions);
/// Positions that the longest continued prompt may take.
int64_t longest_continuation(std::span<const std::span<const int32_t>> prompts, const GenerateOptions& options);

/// Tokens of one text that are fed together.
struct FedTokens {
    size_t text = 0;
    std::span<const int32_t> ids;
    int64_t first_position = 0;
};
/// What the model says behind the last token of each.
using Feed = std::function<std::vector<TargetScore>(const std::vector<FedTokens>&)>;

/// Continues all prompts, which are fed with at most `most_tokens` at a time. Throws BrokenModel.
void write_greedily(std::span<const std::span<const int32_t>> prompts, const GenerateOptions& options,
                    int64_t most_tokens, const Feed& feed, std::span<std::vector<int32_t>> written);

}  // namespace amalgam
