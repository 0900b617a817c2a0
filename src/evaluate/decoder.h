// Forward passes of a decoder on the CPU.
#pragma once
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "src/base/thread_pool.h"
#include "src/comm/communicator.h"
#include "src/evaluate/layer.h"
#include "src/evaluate/scorer.h"
#include "src/evaluate/weights.h"

namespace amalgam {

/// Results do not depend on the number of threads or ranks: what is computed together (a micro-batch) follows from the
/// sequences alone, and one thread computes it.
class Decoder final : public Scorer {
  public:
    /// All outlive the decoder. With `ranks`, these share the work: each calls the same functions with the same arguments
    /// and gets all results; they ask for weights in the same order.
    Decoder(WeightSource& weights, ThreadPool& pool, Communicator* ranks = nullptr)
        : weights_(weights), pool_(pool), config_(weights.config()), ranks_(ranks) {}

    const DecoderConfig& config() const override { return config_; }
    void limit_memory(uint64_t bytes) override { memory_ = bytes; }

    /// A layer of the source is asked for once for as many tokens as fit `most_values` hidden values and the memory, and let go.
    std::vector<std::vector<TokenScore>> score(std::span<const ScoredSequence> sequences) override;

    /// A source that does not keep its layers is asked for all of them again for every token.
    std::vector<std::vector<int32_t>> generate(std::span<const std::span<const int32_t>> prompts,
                                               const GenerateOptions& options) override;

    std::vector<float> logits(std::span<const int32_t> ids) override;

    static constexpr int64_t micro_batch_tokens = 256;
    static constexpr int64_t most_values = int64_t(1) << 28;  ///< 1 GiB of hidden values

  private:
    struct MicroBatch;
    struct Group;
    /// The least of all ranks', so that they cut the work alike.
    struct Limits {
        uint64_t memory = 0;   ///< bytes of a rank for texts
        uint64_t share = 0;    ///< of a thread
        uint64_t threads = 1;  ///< of a rank
    };

    Limits limits() const;
    int ranks() const { return ranks_ ? ranks_->size() : 1; }
    bool is_mine(size_t index) const { return !ranks_ || int(index % size_t(ranks_->size())) == ranks_->rank(); }
    void check_sequence(std::span<const int32_t> ids, int64_t length) const;
    std::vector<MicroBatch> micro_batches(std::span<const ScoredSequence> sequences) const;
    void run_path(const std::vector<MicroBatch*>& batches, const RopeTable& rope);
    void embed(const Embedding& embedding, std::span<const int32_t> ids, float* to) const;
    void judge(MicroBatch& batch, std::span<const ScoredSequence> sequences, const HeadWeights& head) const;

    std::vector<Group> make_groups(std::span<const std::span<const int32_t>> prompts, int64_t limit,
                                   uint64_t most_bytes) const;
    void generate_kept(const std::vector<Group*>& groups, const RopeTable& rope, const GenerateOptions& options,
                       uint64_t memory);
    void generate_streamed(const std::vector<Group*>& groups, const RopeTable& rope, const GenerateOptions& options);
    void enter(Group& group, const Embedding& embedding) const;
    void pass(Group& group, const LayerWeights& weights, size_t layer, const RopeTable& rope) const;
    void leave(Group& group, const HeadWeights& head) const;

    WeightSource& weights_;
    ThreadPool& pool_;
    const DecoderConfig& config_;
    Communicator* ranks_;
    uint64_t memory_ = std::numeric_limits<uint64_t>::max();
};

}  // namespace amalgam
