// Scores on a GPU, or on the emulated one, against those on the CPU: random decoders of every family, and the zoo.
#include "src/evaluate/cuda_decoder.h"
#include "tests/device/gpu_test.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "src/device/device.h"
#include "src/evaluate/checkpoint_reader.h"
#include "src/evaluate/decoder.h"
#include "src/evaluate/evaluate.h"

namespace amalgam {
namespace {

using Json = nlohmann::json;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

/// Values that follow from a tensor's name: norms around 1, matrices and biases large enough that mistakes show.
class RandomReader final : public TensorReader {
  public:
    explicit RandomReader(bool norms_around_zero) : middle_(norms_around_zero ? 0 : 1) {}
    void read(const std::string& name, const std::vector<int64_t>& shape, float* to) override {
        int64_t count = 1;
        for (int64_t size : shape) count *= size;
        std::mt19937 generator(unsigned(std::hash<std::string>()(name)));
        const bool norm = name.find("norm") != std::string::npos;
        std::normal_distribution<float> normal(norm ? middle_ : 0, shape.size() > 1 ? 0.2f : 0.4f);
        for (int64_t i = 0; i < count; ++i) to[i] = normal(generator);
    }
    bool is_bfloat16(const std::string&) override { return false; }

  private:
    float middle_;
};

struct Family {
    const char* name;
    Json changes;
};

DecoderConfig config_of(const Family& family) {
    Json json = {{"vocab_size", 97},
                 {"hidden_size", 48},
                 {"intermediate_size", 80},
                 {"num_hidden_layers", 3},
                 {"num_attention_heads", 6},
                 {"num_key_value_heads", 2},
                 {"max_position_embeddings", 4096},
                 {"rms_norm_eps", 1e-5},
                 {"eos_token_id", 2}};
    json.update(family.changes);
    return parse_decoder_config(json.dump());
}

const Json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32}};
const Json llama3 = {{"rope_type", "llama3"},
                     {"factor", 4.0},
                     {"low_freq_factor", 1.0},
                     {"high_freq_factor", 4.0},
                     {"original_max_position_embeddings", 32}};
const std::vector<Family> families = {
    {"llama", {{"model_type", "llama"}}},
    {"llama, tied, one kv head, odd sizes",
     {{"model_type", "llama"},
      {"tie_word_embeddings", true},
      {"head_dim", 10},
      {"num_key_value_heads", 1},
      {"intermediate_size", 37},
      {"hidden_size", 51},
      {"num_attention_heads", 3}}},
    {"llama, biases, llama3",
     {{"model_type", "llama"}, {"attention_bias", true}, {"mlp_bias", true}, {"rope_scaling", llama3}}},
    {"llama, a vocabulary of two tiles", {{"model_type", "llama"}, {"vocab_size", 4099}, {"num_hidden_layers", 1}}},
    {"mistral, window", {{"model_type", "mistral"}, {"sliding_window", 9}}},
    {"qwen2, tied, window in one layer",
     {{"model_type", "qwen2"},
      {"tie_word_embeddings", true},
      {"use_sliding_window", true},
      {"sliding_window", 7},
      {"max_window_layers", 2}}},
    {"qwen3, yarn", {{"model_type", "qwen3"}, {"head_dim", 16}, {"rope_scaling", yarn}}},
    {"gemma2",
     {{"model_type", "gemma2"},
      {"head_dim", 12},
      {"sliding_window", 11},
      {"query_pre_attn_scalar", 20},
      {"attn_logit_softcapping", 3.0},
      {"final_logit_softcapping", 2.0},
      {"hidden_activation", "gelu_pytorch_tanh"}}},
    {"heads of 132", {{"model_type", "llama"}, {"head_dim", 132}, {"num_hidden_layers", 1}}}};

std::vector<int32_t> random_ids(int64_t count, const DecoderConfig& config, unsigned seed) {
    std::mt19937 generator(seed);
    std::uniform_int_distribution<int32_t> uniform(0, int32_t(config.vocabulary) - 1);
    std::vector<int32_t> ids(static_cast<size_t>(count));
    for (int32_t& id : ids) id = uniform(generator);
    return ids;
}

using Written = std::vector<std::vector<int32_t>>;

struct Answers {
    std::vector<float> logits;
    std::vector<std::vector<TokenScore>> scores;
    Written written;
};

Answers ask(Scorer& scorer) {
    const DecoderConfig& config = scorer.config();
    Answers answers;
    answers.logits = scorer.logits(random_ids(70, config, 1));
    std::vector<std::vector<int32_t>> texts;
    for (int64_t length : {2, 33, 5, 71, 2, 128}) texts.push_back(random_ids(length, config, unsigned(length)));
    std::vector<ScoredSequence> sequences;
    for (const auto& text : texts) sequences.push_back({text, std::max<int64_t>(1, int64_t(text.size()) / 2)});
    answers.scores = scorer.score(sequences);
    const std::vector<std::span<const int32_t>> prompts(texts.begin(), texts.end());
    answers.written = scorer.generate(prompts, {{2, 3, 5, 8}, 9});
    return answers;
}

class OnGpu : public GpuTest {
  protected:
    static ReaderWeights weights_for(const Family& family, MatrixLayout layout, Compute compute = Compute::float32) {
        const DecoderConfig config = config_of(family);
        return {config, std::make_unique<RandomReader>(config.norm_offset != 0), compute, true, layout};
    }
    static Answers on_cpu(const Family& family) {
        ReaderWeights weights = weights_for(family, MatrixLayout::packed);
        ThreadPool pool(1);
        return ask(*make_cpu_evaluation(pool)->make_scorer(weights));
    }
    static Answers on_gpu(const Family& family, const CudaLimits& limits, Compute compute = Compute::float32) {
        ReaderWeights weights = weights_for(family, MatrixLayout::plain, compute);
        return ask(*make_cuda_evaluation(0, 1, limits)->make_scorer(weights));
    }
};

void expect_near(const Answers& found, const Answers& wanted) {
    ASSERT_EQ(found.logits.size(), wanted.logits.size());
    float size = 1;
    for (float logit : wanted.logits) size = std::max(size, std::abs(logit));
    EXPECT_GT(*std::max_element(wanted.logits.begin(), wanted.logits.end()), 0.5);
    for (size_t i = 0; i < wanted.logits.size(); ++i)
        ASSERT_NEAR(found.logits[i], wanted.logits[i], 1e-4 * double(size)) << i;
    for (size_t text = 0; text < wanted.scores.size(); ++text) {
        ASSERT_EQ(found.scores[text].size(), wanted.scores[text].size());
        for (size_t i = 0; i < wanted.scores[text].size(); ++i) {
            EXPECT_NEAR(found.scores[text][i].log_likelihood, wanted.scores[text][i].log_likelihood,
                        1e-4 * double(size));
            EXPECT_EQ(found.scores[text][i].best, wanted.scores[text][i].best);
        }
    }
    EXPECT_EQ(found.written, wanted.written);
}

TEST_F(OnGpu, FamiliesAreThoseOfTheCpu) {
    for (const Family& family : families) {
        SCOPED_TRACE(family.name);
        expect_near(on_gpu(family, {}), on_cpu(family));
        if (sanitized && family.changes["model_type"] == "mistral") break;
    }
}

/// Bits do not depend on what is computed together on the emulated GPU, whose products do not: then nothing else does.
TEST_F(OnGpu, NothingDependsOnBatchesOrOnKeepingWeights) {
    Family family = *std::find_if(families.begin(), families.end(),
                                  [](const Family& each) { return each.name == std::string("gemma2"); });
    // The embedding's memory then serves a layer next, where nothing is kept.
    family.changes["vocab_size"] = 480;
    const Answers wanted = on_gpu(family, {});
    for (const CudaLimits& limits : {CudaLimits{1, 0}, CudaLimits{40, 1}, CudaLimits{100, 60000}}) {
        const Answers found = on_gpu(family, limits);
        expect_near(found, wanted);
#if defined(AMALGAM_EMULATED)
        EXPECT_EQ(found.logits, wanted.logits);
        EXPECT_EQ(found.scores, wanted.scores);
#endif
    }
}

TEST_F(OnGpu, TextsLongerThanWhatGoesThroughWideMatricesTogether) {
    if (sanitized) GTEST_SKIP() << "takes long under emulation";
    const Family family{"",
                        {{"model_type", "llama"},
                         {"num_hidden_layers", 1},
                         {"num_attention_heads", 2},
                         {"num_key_value_heads", 2},
                         {"hidden_size", 8},
                         {"intermediate_size", 6}}};
    ReaderWeights packed = weights_for(family, MatrixLayout::packed), plain = weights_for(family, MatrixLayout::plain);
    const std::vector<int32_t> text = random_ids(2150, packed.config(), 3);
    const std::vector<ScoredSequence> sequences = {{text, 1}};
    ThreadPool pool(1);
    const auto wanted = make_cpu_evaluation(pool)->make_scorer(packed)->score(sequences);
    const auto device = make_cuda_evaluation(0, 1);
    const auto scorer = device->make_scorer(plain);
    const auto found = scorer->score(sequences);
    ASSERT_EQ(found[0].size(), 2149u);
    for (size_t i = 0; i < found[0].size(); ++i)
        ASSERT_NEAR(found[0][i].log_likelihood, wanted[0][i].log_likelihood, 1e-4) << i;
    const std::vector<float> logits = scorer->logits(text);
    const float* row = logits.data() + 2100 * 97;
    double sum = 0;
    for (int64_t id = 0; id < 97; ++id) sum += std::exp(double(row[id]));
    EXPECT_NEAR(row[text[2101]] - std::log(sum), wanted[0][2100].log_likelihood, 1e-4);
}

TEST_F(OnGpu, Bfloat16IsClose) {
    for (const Family& family : families) {
        if (sanitized || family.name != std::string("llama")) continue;
        const Answers full = on_gpu(family, {}), half = on_gpu(family, {}, Compute::bfloat16);
        double worst = 0;
        for (size_t i = 0; i < full.logits.size(); ++i)
            worst = std::max(worst, std::abs(double(full.logits[i]) - half.logits[i]));
        EXPECT_GT(worst, 1e-4);
        EXPECT_LT(worst, 0.3);
    }
}

TEST_F(OnGpu, WhatCannotBeComputedIsSaid) {
    const auto device = make_cuda_evaluation(0, 1);
    ReaderWeights large = weights_for({"", {{"model_type", "llama"}, {"head_dim", 258}}}, MatrixLayout::plain);
    try {
        device->make_scorer(large);
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("258"));
    }
    ReaderWeights weights = weights_for(families[0], MatrixLayout::plain);
    const auto scorer = device->make_scorer(weights);
    EXPECT_THROW(scorer->logits(std::vector<int32_t>{97}), Error);
    EXPECT_THROW(scorer->logits(std::vector<int32_t>(4097, 1)), Error);
    const std::vector<int32_t> text = {1, 2, 3};
    EXPECT_THROW(scorer->score(std::vector<ScoredSequence>{{text, 3}}), Error);
    EXPECT_THROW(scorer->generate(std::vector<std::span<const int32_t>>{text}, {{2}, 4094}), Error);
    EXPECT_TRUE(scorer->score({}).empty());
}

/// The models of one device come one after the other; one that is broken disturbs no other.
TEST_F(OnGpu, BrokenModelsAreSeenAndTheNextOneIsScored) {
    class Broken final : public TensorReader {
      public:
        explicit Broken(float value) : value_(value) {}
        void read(const std::string& name, const std::vector<int64_t>& shape, float* to) override {
            RandomReader(false).read(name, shape, to);
            if (name == "model.layers.1.mlp.down_proj.weight") to[0] = value_;
        }
        bool is_bfloat16(const std::string&) override { return false; }

      private:
        float value_;
    };
    const auto device = make_cuda_evaluation(0, 1);
    const DecoderConfig config = config_of(families[0]);
    const std::vector<int32_t> text = random_ids(40, config, 5);
    for (float value : {NAN, INFINITY, 0.0f}) {
        ReaderWeights weights(config, std::make_unique<Broken>(value), Compute::float32, true, MatrixLayout::plain);
        const auto scorer = device->make_scorer(weights);
        const std::vector<ScoredSequence> sequences = {{text, 1}};
        const std::vector<std::span<const int32_t>> prompts = {text};
        if (value == 0) {
            EXPECT_EQ(scorer->score(sequences)[0].size(), 39u);
            EXPECT_FALSE(scorer->generate(prompts, {{2}, 3}).empty());
        } else {
            EXPECT_THROW(scorer->score(sequences), BrokenModel);
            EXPECT_THROW(scorer->generate(prompts, {{2}, 3}), BrokenModel);
        }
    }
}

/// Another implementation's logits and texts.
TEST_F(OnGpu, ReferencesOfTheZoo) {
    const std::string zoo = AMALGAM_SOURCE_DIR "/tests/data/zoo";
    const auto files = disk_files();
    const auto device = make_cuda_evaluation(0, 1);
    for (const char* name : {"base", "math-en"}) {
        const Json reference = Json::parse(files->read_all(zoo + "/reference/" + name + ".json", 1 << 24));
        const DecoderCheckpoint opened = open_decoder(*files, zoo + "/models/" + name);
        ReaderWeights weights(opened.config, checkpoint_reader(*files, opened.checkpoint), Compute::float32, false,
                              device->layout());
        const auto scorer = device->make_scorer(weights);
        std::vector<std::vector<int32_t>> prompts, answers;
        for (const Json& prompt : reference["prompts"]) {
            prompts.push_back(prompt["prompt_ids"]);
            answers.push_back(prompt["greedy_ids"]);
            const std::vector<double> wanted = prompt["last_logits"];
            const std::vector<float> logits = scorer->logits(prompts.back());
            const float* last = logits.data() + (prompts.back().size() - 1) * wanted.size();
            for (size_t id = 0; id < wanted.size(); ++id) ASSERT_NEAR(last[id], wanted[id], 1e-4);
            if (sanitized) break;
        }
        const std::vector<std::span<const int32_t>> spans(prompts.begin(), prompts.end());
        EXPECT_EQ(scorer->generate(spans, {{2}, 12}), answers);
        if (sanitized) break;
        const Task corpus = read_task(*files, zoo + "/tasks/corpus.jsonl");
        EXPECT_NEAR(evaluate(*scorer, {corpus}).tasks[0].mean_nll, reference["corpus_mean_nll"].get<double>(), 1e-6);
    }
}

}  // namespace
}  // namespace amalgam
