#include "src/evaluate/cuda_decoder.h"

#include <algorithm>
#include <cmath>

#include "src/evaluate/cuda_layer.h"
#include "src/evaluate/texts.h"

namespace amalgam {
namespace {

/// Texts that are continued together.
constexpr size_t most_texts = 256;

/// At the end of a call, however it ends: memory that the next one takes is in no one's use.
class Finish {
  public:
    explicit Finish(CudaQueue& queue) : queue_(queue) {}
    Finish(const Finish&) = delete;
    Finish& operator=(const Finish&) = delete;
    ~Finish() {
        try {
            queue_.finish();
        } catch (const Error&) {
            // The next call will say it.
        }
    }

  private:
    CudaQueue& queue_;
};

TargetScore score_of(const cuda::LogitState& state, bool with_target) {
    TargetScore score;
    score.finite = std::isfinite(state.sum) && std::isfinite(state.largest) && std::isfinite(state.target);
    score.best = int32_t(state.best);
    if (with_target) score.log_likelihood = state.target - state.largest - std::log(state.sum);
    return score;
}

class CudaDecoder final : public Scorer {
  public:
    CudaDecoder(CudaQueue& queue, CudaProducts& products, uint64_t memory, const CudaLimits& limits,
                WeightSource& source)
        : queue_(queue),
          config_(source.config()),
          path_(source.path()),
          memory_(memory),
          batch_tokens_(limits.batch_tokens),
          weights_(queue, source, limits.most_kept > 0 ? limits.most_kept : memory / 2),
          forward_(queue, products, config_) {}
    ~CudaDecoder() override { const Finish finish(queue_); }

    const DecoderConfig& config() const override { return config_; }
    std::vector<std::vector<TokenScore>> score(std::span<const ScoredSequence> sequences) override;
    std::vector<std::vector<int32_t>> generate(std::span<const std::span<const int32_t>> prompts,
                                               const GenerateOptions& options) override;
    std::vector<float> logits(std::span<const int32_t> ids) override;

  private:
    /// Rows on their way through the layers.
    struct Batch {
        GpuRows rows;
        float* hidden = nullptr;
    };
    struct Continued;

    DeviceBuffer floats(int64_t count) const { return queue_.context().pool->take(uint64_t(count) * sizeof(float)); }
    /// Waits, unless the weights stay where they are.
    template <class Weights>
    void let_go(std::shared_ptr<const Weights>& weights) {
        if (!weights->kept) queue_.finish();
        weights = nullptr;
    }
    /// Calls body(layer, number, window) along the path. While the GPU computes a layer, the next one is made and copied.
    template <class Body>
    void each_layer(const Body& body);
    void run_batches(std::vector<Batch>& batches, const GpuRope& rope, const CudaScratch& scratch);
    void score_pass(std::span<const TextBatch> texts, std::span<const ScoredSequence> sequences, const GpuRope& rope,
                    const CudaScratch& scratch, std::vector<std::vector<TokenScore>>& results);
    Continued begin(std::span<const std::span<const int32_t>> prompts, const GenerateOptions& options);
    std::vector<TargetScore> feed(Continued& continued, const std::vector<FedTokens>& tokens);
    std::vector<TargetScore> judge(const GpuHead& head, const float* hidden, const JudgedRows& judged,
                                   const CudaScratch& scratch);

    CudaQueue& queue_;
    const DecoderConfig& config_;
    const std::vector<PathStep>& path_;
    const uint64_t memory_;
    const int64_t batch_tokens_;
    CudaWeights weights_;
    CudaForward forward_;
};

template <class Body>
void CudaDecoder::each_layer(const Body& body) {
    std::shared_ptr<const GpuLayer> before;
    queue_.kernels();  // events belong to its device
    CudaEvent ended[2];
    for (size_t number = 0; number < path_.size(); ++number) {
        std::shared_ptr<const GpuLayer> layer = weights_.layer(path_[number]);
        body(*layer, number, config_.windows[size_t(path_[number].layer)]);
        ended[number % 2].record(queue_.kernel_stream());
        if (before && !before->kept) ended[(number + 1) % 2].wait();
        before = std::move(layer);
    }
    if (before) let_go(before);
}

void CudaDecoder::run_batches(std::vector<Batch>& batches, const GpuRope& rope, const CudaScratch& scratch) {
    auto embedding = weights_.embedding();
    for (Batch& batch : batches) forward_.embed(*embedding, batch.rows, batch.hidden);
    let_go(embedding);
    each_layer([&](const GpuLayer& layer, size_t, int64_t window) {
        for (Batch& batch : batches)
            forward_.run_layer(layer, window, rope, batch.rows, nullptr, batch.hidden, scratch);
    });
}

std::vector<TargetScore> CudaDecoder::judge(const GpuHead& head, const float* hidden, const JudgedRows& judged,
                                            const CudaScratch& scratch) {
    forward_.judge(head, hidden, judged.rows, judged.targets, scratch, [](auto...) {});
    std::vector<cuda::LogitState> states(judged.rows.size());
    queue_.copy_out(states.data(), scratch.states(), states.size() * sizeof(states[0]));
    std::vector<TargetScore> scores;
    for (const cuda::LogitState& state : states) scores.push_back(score_of(state, !judged.targets.empty()));
    return scores;
}

void CudaDecoder::score_pass(std::span<const TextBatch> texts, std::span<const ScoredSequence> sequences,
                             const GpuRope& rope, const CudaScratch& scratch,
                             std::vector<std::vector<TokenScore>>& results) {
    int64_t rows = 0;
    for (const TextBatch& text : texts) rows += int64_t(text.ids.size());
    const DeviceBuffer hidden = floats(rows * config_.hidden);
    auto* next = static_cast<float*>(hidden.data());
    std::vector<Batch> batches(texts.size());
    for (size_t number = 0; number < texts.size(); ++number) {
        const TextBatch& text = texts[number];
        FedRows fed;
        for (size_t place = 0; place < text.sequences.size(); ++place) {
            const auto first = size_t(text.first_rows[place]), last = size_t(text.first_rows[place + 1]);
            // Keys and values of all positions stand in the text's own rows.
            fed.add(config_, std::span(text.ids).subspan(first, last - first), 0, int64_t(first));
        }
        batches[number].rows.send(queue_, fed);
        batches[number].hidden = next;
        next += fed.count() * config_.hidden;
    }
    run_batches(batches, rope, scratch);
    auto head = weights_.head();
    for (size_t number = 0; number < texts.size(); ++number)
        hand_out(texts[number], sequences,
                 judge(*head, batches[number].hidden, judged_rows(texts[number], sequences), scratch), results);
    let_go(head);
    queue_.finish();
}

std::vector<std::vector<TokenScore>> CudaDecoder::score(std::span<const ScoredSequence> sequences) {
    const Finish finish(queue_);
    const std::vector<TextBatch> texts = cut_batches(config_, sequences, batch_tokens_);
    std::vector<std::vector<TokenScore>> results(sequences.size());
    if (texts.empty()) return results;
    size_t most_rows = 0;
    for (const TextBatch& text : texts) most_rows = std::max(most_rows, text.ids.size());
    const GpuRope rope(queue_, config_.rope, longest_text(texts));
    const CudaScratch scratch(queue_, config_, int64_t(most_rows));
    const auto hidden_bytes = uint64_t(config_.hidden) * sizeof(float);
    for (const BatchRange& pass : cut_passes(texts, int64_t(memory_ / 8 / hidden_bytes)))
        score_pass(std::span(texts).subspan(pass.first, pass.last - pass.first), sequences, rope, scratch, results);
    return results;
}

std::vector<float> CudaDecoder::logits(std::span<const int32_t> ids) {
    const Finish finish(queue_);
    const auto count = int64_t(ids.size());
    check_sequence(config_, ids, count);
    const GpuRope rope(queue_, config_.rope, count);
    const CudaScratch scratch(queue_, config_, count);
    const DeviceBuffer hidden = floats(count * config_.hidden);
    FedRows fed;
    fed.add(config_, ids, 0, 0);
    std::vector<Batch> batches(1);
    batches[0].rows.send(queue_, fed);
    batches[0].hidden = static_cast<float*>(hidden.data());
    run_batches(batches, rope, scratch);
    std::vector<float> result(ids.size() * size_t(config_.vocabulary)), tile;
    auto head = weights_.head();
    forward_.judge(*head, batches[0].hidden, fed.positions, {}, scratch,
                   [&](int64_t first, int64_t rows, int64_t id, int64_t width) {
                       tile.resize(size_t(rows * width));
                       queue_.copy_out(tile.data(), scratch.logits(), tile.size() * sizeof(float));
                       for (int64_t row = 0; row < rows; ++row)
                           std::copy_n(tile.data() + row * width, width,
                                       result.data() + (first + row) * config_.vocabulary + id);
                   });
    let_go(head);
    return result;
}

/// What a group of texts is continued with.
struct CudaDecoder::Continued {
    GpuRope rope;
    CudaScratch scratch;
    DeviceBuffer hidden;
    DeviceBuffer stored;              ///< keys and values: layers of the path, positions of all texts
    std::vector<int64_t> first_keys;  ///< of each text
    int64_t positions = 0;            ///< of all texts
    GpuRows rows;
};

CudaDecoder::Continued CudaDecoder::begin(std::span<const std::span<const int32_t>> prompts,
                                          const GenerateOptions& options) {
    int64_t positions = 0;
    auto rows = std::max(batch_tokens_, int64_t(prompts.size()));
    std::vector<int64_t> first_keys;
    for (const auto& prompt : prompts) {
        first_keys.push_back(positions);
        positions += int64_t(prompt.size()) + options.limit;
        rows = std::max(rows, int64_t(prompt.size()));
    }
    rows = std::min(rows, positions);
    return {GpuRope(queue_, config_.rope, longest_continuation(prompts, options)),
            CudaScratch(queue_, config_, rows),
            floats(rows * config_.hidden),
            floats(positions * 2 * config_.kv_width() * int64_t(path_.size())),
            std::move(first_keys),
            positions,
            {}};
}

std::vector<TargetScore> CudaDecoder::feed(Continued& continued, const std::vector<FedTokens>& tokens) {
    FedRows fed;
    JudgedRows last;
    for (const FedTokens& each : tokens) {
        fed.add(config_, each.ids, each.first_position, continued.first_keys[each.text]);
        last.rows.push_back(int32_t(fed.count() - 1));
    }
    GpuRows& rows = continued.rows;
    rows.send(queue_, fed);
    auto* hidden = static_cast<float*>(continued.hidden.data());
    auto embedding = weights_.embedding();
    forward_.embed(*embedding, rows, hidden);
    let_go(embedding);
    auto* stored = static_cast<float*>(continued.stored.data());
    each_layer([&](const GpuLayer& layer, size_t number, int64_t window) {
        float* own = stored + int64_t(number) * continued.positions * 2 * config_.kv_width();
        forward_.run_layer(layer, window, continued.rope, rows, own, hidden, continued.scratch);
    });
    auto head = weights_.head();
    std::vector<TargetScore> scores = judge(*head, hidden, last, continued.scratch);
    let_go(head);
    return scores;
}

std::vector<std::vector<int32_t>> CudaDecoder::generate(std::span<const std::span<const int32_t>> prompts,
                                                        const GenerateOptions& options) {
    const Finish finish(queue_);
    const uint64_t position_bytes = uint64_t(2 * config_.kv_width()) * path_.size() * sizeof(float);
    const auto most_positions = int64_t(std::clamp<uint64_t>(memory_ / 4 / position_bytes, 1, uint64_t(1) << 30));
    std::vector<std::vector<int32_t>> result(prompts.size());
    for (const TextGroup& group : cut_groups(config_, prompts, options, most_texts, most_positions)) {
        const auto own = prompts.subspan(group.first, group.count);
        Continued continued = begin(own, options);
        write_greedily(
            own, options, batch_tokens_, [&](const std::vector<FedTokens>& tokens) { return feed(continued, tokens); },
            std::span(result).subspan(group.first, group.count));
        queue_.finish();
    }
    return result;
}

class CudaEvaluation final : public EvaluationDevice {
  public:
    CudaEvaluation(Gpu gpu, const CudaLimits& limits)
        : limits_(limits), gpu_(std::move(gpu)), queue_(gpu_.context), products_(queue_) {}

    std::string name() const override { return gpu_.name; }
    MatrixLayout layout() const override { return MatrixLayout::plain; }
    bool has_bfloat16() const override { return true; }
    bool uses_source_memory() const override { return false; }
    std::unique_ptr<Scorer> make_scorer(WeightSource& weights) override {
        return std::make_unique<CudaDecoder>(queue_, products_, gpu_.memory, limits_, weights);
    }

  private:
    CudaLimits limits_;
    Gpu gpu_;
    CudaQueue queue_;
    CudaProducts products_;
};

}  // namespace

std::unique_ptr<EvaluationDevice> make_cuda_evaluation(int node_rank, int node_size, const CudaLimits& limits) {
    return std::make_unique<CudaEvaluation>(open_gpu(node_rank, node_size), limits);
}

std::unique_ptr<EvaluationDevice> make_cuda_evaluation(int node_rank, int node_size) {
    return make_cuda_evaluation(node_rank, node_size, CudaLimits());
}

}  // namespace amalgam
