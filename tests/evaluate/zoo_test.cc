// The tiny zoo: reference logits and texts of another implementation, and the table of its README.
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "src/evaluate/checkpoint_reader.h"
#include "src/evaluate/decoder.h"
#include "src/evaluate/evaluate.h"

namespace amalgam {
namespace {

using Json = nlohmann::json;

const std::string zoo = AMALGAM_SOURCE_DIR "/tests/data/zoo";

Json read_json(const std::string& path) { return Json::parse(std::ifstream(path)); }

class Model {
  public:
    explicit Model(const std::string& name, bool keep = true, Compute compute = Compute::float32)
        : opened_(open_decoder(*files_, zoo + "/models/" + name)),
          weights_(opened_.config, checkpoint_reader(*files_, opened_.checkpoint), compute, keep) {}
    ReaderWeights& weights() { return weights_; }

  private:
    std::unique_ptr<Files> files_ = disk_files();
    DecoderCheckpoint opened_;
    ReaderWeights weights_;
};

Task task(const std::string& name) { return read_task(*disk_files(), zoo + "/tasks/" + name + ".jsonl"); }

/// What must not differ by a bit.
std::vector<std::vector<double>> all_numbers(const Evaluation& evaluation) {
    std::vector<std::vector<double>> numbers;
    for (const TaskResult& result : evaluation.tasks)
        for (const ItemResult& item : result.items) {
            numbers.push_back(item.log_likelihoods);
            numbers.back().push_back(item.score);
            numbers.back().insert(numbers.back().end(), item.written.begin(), item.written.end());
        }
    return numbers;
}

class Reference : public testing::TestWithParam<const char*> {};

TEST_P(Reference, LogitsTextsAndPerplexity) {
    const Json reference = read_json(zoo + "/reference/" + GetParam() + ".json");
    Model model(GetParam());
    ThreadPool pool(2);
    Decoder decoder(model.weights(), pool);
    std::vector<std::vector<int32_t>> prompts, answers;
    for (const Json& prompt : reference["prompts"]) {
        prompts.push_back(prompt["prompt_ids"]);
        answers.push_back(prompt["greedy_ids"]);
        const std::vector<double> wanted = prompt["last_logits"];
        const std::vector<float> logits = decoder.logits(prompts.back());
        const float* last = logits.data() + (prompts.back().size() - 1) * wanted.size();
        for (size_t id = 0; id < wanted.size(); ++id) ASSERT_NEAR(last[id], wanted[id], 1e-4);
    }
    const std::vector<std::span<const int32_t>> spans(prompts.begin(), prompts.end());
    EXPECT_EQ(decoder.generate(spans, {{2}, 12}), answers);
    const Evaluation corpus = evaluate(model.weights(), {task("corpus")}, pool);
    EXPECT_EQ(corpus.tasks[0].tokens, reference["corpus_tokens"]);
    EXPECT_NEAR(corpus.tasks[0].mean_nll, reference["corpus_mean_nll"].get<double>(), 1e-6);
    EXPECT_NEAR(corpus.score, std::exp(-corpus.tasks[0].mean_nll), 1e-12);
}
INSTANTIATE_TEST_SUITE_P(Zoo, Reference, testing::Values("base", "math-en"));

TEST(Zoo, TableOfSourcesIsReproduced) {
    const Json wanted = read_json(zoo + "/results.json")["sources"];
    ThreadPool pool(2);
    std::vector<std::string> names;
    std::vector<Task> tasks;
    for (const char* name : {"math-ja", "math-en", "lang-ja"})
        for (const char* part : {"search", "heldout"}) {
            names.push_back(std::string(name) + "/" + part);
            tasks.push_back(task(names.back()));
            EXPECT_EQ(tasks.back().name, name);
        }
    for (const auto& [model_name, scores] : wanted.items()) {
        Model model(model_name);
        const Evaluation evaluation = evaluate(model.weights(), tasks, pool);
        // The file has four digits: half a count of 512 items is 0.00098.
        for (size_t i = 0; i < tasks.size(); ++i)
            EXPECT_NEAR(evaluation.tasks[i].score, scores[names[i]].get<double>(), 5.1e-5) << model_name << names[i];
    }
}

/// One pass over the answer and decoding token by token decide alike: the language filter as a judge of whole texts.
TEST(Zoo, OnePassAgreesWithDecoding) {
    Model model("lang-ja");
    ThreadPool pool(2);
    const Task one_pass = task("lang-ja/heldout");
    Task decoded = one_pass;
    decoded.metric = Metric::rouge_l;
    decoded.limit = 12;
    const Evaluation evaluation = evaluate(model.weights(), {one_pass, decoded}, pool);
    int right = 0;
    for (size_t i = 0; i < one_pass.items.size(); ++i) {
        const bool same = evaluation.tasks[1].items[i].written == one_pass.items[i].answer;
        EXPECT_EQ(evaluation.tasks[0].items[i].score, same ? 1 : 0) << i;
        right += same;
    }
    EXPECT_EQ(right, 399);  // 77.9 % of 512
}

TEST(Zoo, NothingDependsOnThreadsOrOnKeepingLayers) {
    std::vector<Task> tasks = {task("math-en/search"), task("corpus"), task("lang-ja/search")};
    tasks[2].metric = Metric::rouge_l;
    tasks[2].limit = 8;
    std::vector<std::vector<std::vector<double>>> results;
    for (int threads : {1, 2, 3}) {
        Model model("math-en", threads != 2);
        ThreadPool pool(threads);
        results.push_back(all_numbers(evaluate(model.weights(), tasks, pool)));
    }
    EXPECT_EQ(results[0], results[1]);
    EXPECT_EQ(results[0], results[2]);
}

TEST(Zoo, NothingDependsOnMemory) {
    std::vector<Task> tasks = {task("math-en/search"), task("lang-ja/search")};
    tasks[1].metric = Metric::rouge_l;
    tasks[1].limit = 8;
    tasks[1].items.resize(70);
    std::vector<std::vector<std::vector<double>>> results;
    for (const bool keep : {true, false})
        for (uint64_t memory : {uint64_t(1) << 60, uint64_t(1) << 19, uint64_t(0)}) {
            Model model("math-en", keep);
            ThreadPool pool(memory == 0 ? 1 : 3);
            Decoder decoder(model.weights(), pool);
            decoder.limit_memory(memory);
            results.push_back(all_numbers(evaluate(decoder, tasks)));
            EXPECT_EQ(results.back(), results.front()) << keep << " " << memory;
        }
}

/// Who is computed together with an item changes nothing but last bits.
TEST(Zoo, ItemsAreIndependentOfTheirNeighbours) {
    Model model("math-en");
    ThreadPool pool(1);
    const Task whole = task("math-en/search");
    Task few = whole;
    few.items.erase(few.items.begin(), few.items.begin() + 200);
    const Evaluation all = evaluate(model.weights(), {whole}, pool), some = evaluate(model.weights(), {few}, pool);
    for (size_t i = 0; i < few.items.size(); ++i)
        EXPECT_NEAR(some.tasks[0].items[i].log_likelihoods[0], all.tasks[0].items[200 + i].log_likelihoods[0], 1e-4);
}

TEST(Zoo, WeightsOfTasksMakeTheScore) {
    Model model("math-en");
    ThreadPool pool(2);
    std::vector<Task> tasks = {task("math-en/search"), task("lang-ja/search")};
    tasks[0].weight = 3;
    const Evaluation evaluation = evaluate(model.weights(), tasks, pool);
    EXPECT_DOUBLE_EQ(evaluation.score, 0.75 * evaluation.tasks[0].score + 0.25 * evaluation.tasks[1].score);
    tasks[0].weight = tasks[1].weight = 0;
    EXPECT_THROW(evaluate(model.weights(), tasks, pool), Error);
}

TEST(Zoo, ChoicesAreComparedByLikelihood) {
    Model model("base");
    ThreadPool pool(1);
    // A text of the corpus, whose likelihood is known from another metric, against a shuffled one that is longer.
    Task task = parse_task(
        "{\"prompt_ids\": [1], \"choices_ids\": [[87, 193, 41, 196, 136, 176], [193, 136, 87, 196, 195]], \"answer\": "
        "1}",
        "t");
    Task texts = parse_task("{\"ids\": [1, 87, 193, 41, 196, 136, 176]}\n{\"ids\": [1, 193, 136, 87, 196, 195]}", "u");
    const Evaluation evaluation = evaluate(model.weights(), {task, texts}, pool);
    const ItemResult& item = evaluation.tasks[0].items[0];
    EXPECT_EQ(item.score, 1);
    for (size_t choice = 0; choice < 2; ++choice)
        EXPECT_NEAR(item.log_likelihoods[choice], evaluation.tasks[1].items[choice].log_likelihoods[0], 1e-5);
    EXPECT_GT(item.log_likelihoods[1], item.log_likelihoods[0]);
}

TEST(Zoo, LanguageFilterAndEnd) {
    Model model("math-en");
    ThreadPool pool(1);
    Task first = task("math-en/search");
    first.items.resize(40);
    Task filtered = first;
    const Evaluation plain = evaluate(model.weights(), {first}, pool);
    ASSERT_GT(plain.score, 0.5);
    filtered.allowed_ids = {0};
    EXPECT_EQ(evaluate(model.weights(), {filtered}, pool).score, 0);
    for (const TaskItem& item : first.items)
        filtered.allowed_ids.insert(filtered.allowed_ids.end(), item.answer.begin(), item.answer.end());
    std::sort(filtered.allowed_ids.begin(), filtered.allowed_ids.end());
    EXPECT_EQ(evaluate(model.weights(), {filtered}, pool).score, plain.score);
    // Nothing is right if texts would have to end by another token.
    first.end_ids = {5};
    EXPECT_EQ(evaluate(model.weights(), {first}, pool).score, 0);
}

/// A checkpoint's tensors, one of them changed.
class Changed final : public TensorReader {
  public:
    Changed(std::unique_ptr<TensorReader> reader, std::string name, float value)
        : reader_(std::move(reader)), name_(std::move(name)), value_(value) {}
    void read(const std::string& name, const std::vector<int64_t>& shape, float* to) override {
        reader_->read(name, shape, to);
        if (name == name_) to[0] = value_;
    }
    bool is_bfloat16(const std::string& name) override { return reader_->is_bfloat16(name); }

  private:
    std::unique_ptr<TensorReader> reader_;
    std::string name_;
    float value_;
};

TEST(Zoo, BrokenWeightsHaveNoScore) {
    const auto files = disk_files();
    const DecoderCheckpoint opened = open_decoder(*files, zoo + "/models/base");
    ThreadPool pool(2);
    Task one_pass = task("math-en/search");
    one_pass.items.resize(3);
    Task written = one_pass;
    written.metric = Metric::rouge_l;
    for (const char* name : {"model.layers.3.mlp.down_proj.weight", "lm_head.weight", "model.norm.weight",
                             "model.embed_tokens.weight", "model.layers.0.self_attn.v_proj.weight"})
        for (float value : {NAN, INFINITY}) {
            // Row 0 of the embedding is that of a token no text has.
            if (std::string(name).find("embed") != std::string::npos) continue;
            for (const Task& each : {one_pass, written}) {
                ReaderWeights weights(
                    opened.config, std::make_unique<Changed>(checkpoint_reader(*files, opened.checkpoint), name, value),
                    Compute::float32);
                EXPECT_THROW(evaluate(weights, {each}, pool), BrokenModel) << name << value;
            }
        }
}

TEST(Zoo, Bfloat16IsClose) {
    if (!has_fast_bfloat16()) GTEST_SKIP() << "this processor does not multiply bfloat16";
    ThreadPool pool(2);
    Model full("base"), half("base", true, Compute::bfloat16);
    const double wanted = evaluate(full.weights(), {task("corpus")}, pool).tasks[0].mean_nll;
    const double found = evaluate(half.weights(), {task("corpus")}, pool).tasks[0].mean_nll;
    EXPECT_NEAR(found, wanted, 3e-3);
    EXPECT_NE(found, wanted);
}

}  // namespace
}  // namespace amalgam
