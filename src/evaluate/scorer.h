// What a decoder thinks of given texts, and what it writes itself, whatever computes it.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/base/thread_pool.h"
#include "src/comm/communicator.h"
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

    bool operator==(const TokenScore&) const = default;
};

struct GenerateOptions {
    std::vector<int32_t> end_ids;  ///< tokens that end a text; they are not part of the result
    int64_t limit = 64;            ///< most new tokens
};

/// All ids must be below the vocabulary and all sequences within the context (Error else). What is computed together follows
/// from the sequences alone. One thread at a time.
class Scorer {
  public:
    Scorer() = default;
    Scorer(const Scorer&) = delete;
    Scorer& operator=(const Scorer&) = delete;
    virtual ~Scorer() = default;

    virtual const DecoderConfig& config() const = 0;
    /// Bytes of this machine's memory that texts may take while they are computed: their hidden values, and the keys and
    /// values of texts that are written. One text is computed whatever it takes. No limit until it is called.
    virtual void limit_memory(uint64_t /*bytes*/) {}
    /// One pass; a layer of the source is asked for once for as many tokens as there is memory for. Throws BrokenModel.
    virtual std::vector<std::vector<TokenScore>> score(std::span<const ScoredSequence> sequences) = 0;
    /// The likeliest continuation of each prompt, token by token. Throws BrokenModel.
    virtual std::vector<std::vector<int32_t>> generate(std::span<const std::span<const int32_t>> prompts,
                                                       const GenerateOptions& options) = 0;
    /// Logits at every position of one sequence: ids.size() x vocabulary.
    virtual std::vector<float> logits(std::span<const int32_t> ids) = 0;
};

/// A processor that scores models, one after the other.
class EvaluationDevice {
  public:
    EvaluationDevice() = default;
    EvaluationDevice(const EvaluationDevice&) = delete;
    EvaluationDevice& operator=(const EvaluationDevice&) = delete;
    virtual ~EvaluationDevice() = default;

    /// For people: "cpu", or the device's number and name.
    virtual std::string name() const = 0;
    /// How sources must make the matrices of its models.
    virtual MatrixLayout layout() const = 0;
    /// Whether it multiplies bfloat16 at least as fast as float32.
    virtual bool has_bfloat16() const = 0;
    /// Whether scorers use the source's own memory again and again, so that the source should keep what it made; else they
    /// have copies.
    virtual bool uses_source_memory() const = 0;
    /// The source, and the device, outlive the scorer.
    virtual std::unique_ptr<Scorer> make_scorer(WeightSource& weights) = 0;
};

/// Both outlive it. With `ranks`, these share the work, as Decoder says.
std::unique_ptr<EvaluationDevice> make_cpu_evaluation(ThreadPool& pool, Communicator* ranks = nullptr);
/// A GPU, chosen as make_cuda_device() says; the ranks on it share its memory, no work. Throws Error if there is none, or in
/// a build without CUDA.
std::unique_ptr<EvaluationDevice> make_cuda_evaluation(int node_rank, int node_size);

}  // namespace amalgam
