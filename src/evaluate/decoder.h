// Forward passes of a decoder: what it thinks of given texts, and what it writes itself.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "src/base/error.h"
#include "src/base/thread_pool.h"
#include "src/comm/communicator.h"
#include "src/evaluate/layer.h"
#include "src/evaluate/weights.h"

namespace amalgam {

/// Logits that are not numbers: the model is broken, and has no score.
class BrokenModel : public Error {
  public:
    using Error::Error;
};

/// Token ids, of which those from `first_target` (at least 1) on are judged. The ids live as long as the call.
struct ScoredSequence {
    std::span<const int32_t> ids;
    int64_t first_target = 1;
};

/// One judged token.
struct TokenScore {
    double log_likelihood = 0;  ///< natural logarithm of the probability the model gives it
    int32_t best = 0;           ///< the likeliest token in its place, the lowest of several
};

struct GenerateOptions {
    std::vector<int32_t> end_ids;  ///< tokens that end a text; they are not part of the result
    int64_t limit = 64;            ///< most new tokens
};

/// Results do not depend on the number of threads or ranks: what is computed together (a micro-batch) follows from the
/// sequences alone, and one thread computes it. All ids must be below the vocabulary and all sequences within the context
/// (Error else).
class Decoder {
  public:
    /// All outlive the decoder. With `ranks`, these share the work: each calls the same functions with the same arguments
    /// and gets all results; they ask for weights in the same order.
    Decoder(WeightSource& weights, ThreadPool& pool, Communicator* ranks = nullptr)
        : weights_(weights), pool_(pool), config_(weights.config()), ranks_(ranks) {}

    /// One pass; a layer of the source is asked for once for as many tokens as fit `most_values` hidden values, and let go.
    /// Throws BrokenModel.
    std::vector<std::vector<TokenScore>> score(std::span<const ScoredSequence> sequences);

    /// The likeliest continuation of each prompt, token by token. A source that does not keep its layers is asked for all of
    /// them again for every token. Throws BrokenModel.
    std::vector<std::vector<int32_t>> generate(std::span<const std::span<const int32_t>> prompts,
                                               const GenerateOptions& options);

    /// Logits at every position of one sequence: ids.size() x vocabulary.
    std::vector<float> logits(std::span<const int32_t> ids);

    static constexpr int64_t micro_batch_tokens = 256;
    static constexpr int64_t most_values = int64_t(1) << 28;  ///< 1 GiB of hidden values

  private:
    struct MicroBatch;
    struct Group;

    int ranks() const { return ranks_ ? ranks_->size() : 1; }
    bool is_mine(size_t index) const { return !ranks_ || int(index % size_t(ranks_->size())) == ranks_->rank(); }
    void check_sequence(std::span<const int32_t> ids, int64_t length) const;
    std::vector<MicroBatch> micro_batches(std::span<const ScoredSequence> sequences) const;
    void run_path(const std::vector<MicroBatch*>& batches, const RopeTable& rope);
    void embed(const Embedding& embedding, std::span<const int32_t> ids, float* to) const;
    void judge(MicroBatch& batch, std::span<const ScoredSequence> sequences, const HeadWeights& head) const;

    std::vector<Group> make_groups(std::span<const std::span<const int32_t>> prompts, int64_t limit) const;
    void generate_kept(const std::vector<Group*>& groups, const RopeTable& rope, const GenerateOptions& options);
    void generate_streamed(const std::vector<Group*>& groups, const RopeTable& rope, const GenerateOptions& options);
    void enter(Group& group, const Embedding& embedding) const;
    void pass(Group& group, const LayerWeights& weights, size_t layer, const RopeTable& rope) const;
    void leave(Group& group, const HeadWeights& head) const;

    WeightSource& weights_;
    ThreadPool& pool_;
    const DecoderConfig& config_;
    Communicator* ranks_;
};

}  // namespace amalgam
