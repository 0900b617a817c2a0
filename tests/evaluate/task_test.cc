#include "src/evaluate/task.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "src/base/error.h"
#include "tests/base/temporary_folder.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

template <class Call>
std::string error_of(const Call& call) {
    try {
        call();
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

std::string parse_error(const std::string& text) {
    return error_of([&] { parse_task(text, "t.jsonl"); });
}

DecoderConfig model(int64_t vocabulary = 10, int64_t context = 6) {
    DecoderConfig config;
    config.vocabulary = vocabulary;
    config.context = context;
    config.end_ids = {2};
    return config;
}

std::string fit_error(const std::string& text, const DecoderConfig& config = model()) {
    return error_of([&] { check_task(parse_task(text, "t.jsonl"), config); });
}

TEST(Task, IsNamedAfterFileOrFolder) {
    const std::string line = R"({"ids": [1, 2]})";
    EXPECT_EQ(parse_task(line, "a/math-ja.jsonl").name, "math-ja");
    EXPECT_EQ(parse_task(line, "tasks/math-ja/search.jsonl").name, "math-ja");
    EXPECT_EQ(parse_task(line, "tasks/math-ja/heldout.jsonl").name, "math-ja");
    EXPECT_EQ(parse_task("{\"task\": {\"name\": \"mine\"}}\n" + line, "x/search.jsonl").name, "mine");
}

TEST(Task, KindFollowsFromTheFirstItem) {
    EXPECT_EQ(parse_task(R"({"ids": [1, 2], "text": "a"})", "t").metric, Metric::perplexity);
    EXPECT_EQ(parse_task(R"({"prompt_ids": [1], "answer_ids": [2]})", "t").metric, Metric::exact_match);
    const Task choice = parse_task(R"({"prompt_ids": [1], "choices_ids": [[2], [3, 4]], "answer": 1})", "t");
    EXPECT_EQ(choice.metric, Metric::choice);
    EXPECT_THAT(choice.items[0].choices, ElementsAre(ElementsAre(2), ElementsAre(3, 4)));
    EXPECT_EQ(choice.items[0].right, 1);
}

TEST(Task, HeaderSetsEverything) {
    const Task task = parse_task(
        "\n{\"task\": {\"metric\": \"rouge_l\", \"weight\": 0.5, \"limit\": 7, \"end_ids\": [3], \"allowed_ids\": [9, "
        "4], "
        "\"allowed_share\": 0.9}}\r\n\n{\"prompt_ids\": [1], \"answer_ids\": [4]}\n",
        "t");
    EXPECT_EQ(task.metric, Metric::rouge_l);
    EXPECT_EQ(task.weight, 0.5);
    EXPECT_EQ(task.limit, 7);
    EXPECT_THAT(task.end_ids, ElementsAre(3));
    EXPECT_THAT(task.allowed_ids, ElementsAre(4, 9));
    EXPECT_EQ(task.allowed_share, 0.9);
    EXPECT_EQ(task.items[0].line, 4);
}

TEST(Task, ErrorsNameFileAndLine) {
    const std::string good = "{\"prompt_ids\": [1], \"answer_ids\": [2]}\n";
    EXPECT_THAT(parse_error(good + "not json"), AllOf(HasSubstr("t.jsonl:2: "), HasSubstr("not a JSON object")));
    EXPECT_THAT(parse_error(good + "[1]"), HasSubstr("t.jsonl:2: "));
    EXPECT_THAT(parse_error(good + "\xff"), HasSubstr("t.jsonl:2: "));
    EXPECT_THAT(parse_error(good + R"({"prompt_ids": [], "answer_ids": [2]})"), HasSubstr("\"prompt_ids\" is empty"));
    EXPECT_THAT(parse_error(good + R"({"prompt": "a", "answer_ids": [2]})"), HasSubstr("no \"prompt_ids\""));
    EXPECT_THAT(parse_error(good + R"({"prompt_ids": [1]})"), HasSubstr("no \"answer_ids\""));
    EXPECT_THAT(parse_error(R"({"prompt_ids": [1.5], "answer_ids": [2]})"), HasSubstr("holds 1.5"));
    EXPECT_THAT(parse_error(R"({"prompt_ids": [-1], "answer_ids": [2]})"), HasSubstr("holds -1"));
    EXPECT_THAT(parse_error(R"({"prompt_ids": [99999999999], "answer_ids": [2]})"), HasSubstr("holds 99999999999"));
    EXPECT_THAT(parse_error(R"({"prompt_ids": "1 2", "answer_ids": [2]})"), HasSubstr("not a list"));
    EXPECT_THAT(parse_error(R"({"ids": [1]})"), HasSubstr("two or more"));
    EXPECT_THAT(parse_error(R"({"text": "only"})"), HasSubstr("neither"));
    EXPECT_THAT(parse_error(R"({"prompt_ids": [1], "choices_ids": [[2]], "answer": 0})"), HasSubstr("two or more"));
    EXPECT_THAT(parse_error(R"({"prompt_ids": [1], "choices_ids": [[2], []], "answer": 0})"), HasSubstr("no tokens"));
    EXPECT_THAT(parse_error(R"({"prompt_ids": [1], "choices_ids": [[2], [3]], "answer": 2})"),
                HasSubstr("from 0 to 1"));
    EXPECT_THAT(parse_error(R"({"prompt_ids": [1], "choices_ids": [[2], [3]]})"), HasSubstr("\"answer\""));
    EXPECT_THAT(parse_error(""), HasSubstr("no item"));
    EXPECT_THAT(parse_error("{\"task\": {\"limt\": 3}}\n" + good), HasSubstr("did you mean \"limit\"?"));
    EXPECT_THAT(parse_error("{\"task\": {\"metric\": \"rouge\"}}\n" + good), HasSubstr("no metric \"rouge\""));
    EXPECT_THAT(parse_error("{\"task\": {\"limit\": 0}}\n" + good), HasSubstr("\"limit\""));
    EXPECT_THAT(parse_error("{\"task\": {\"metric\": \"last_number\"}}\n" + good), HasSubstr("token table"));
    EXPECT_THAT(parse_error("{\"task\": {\"metric\": \"language\"}}\n" + good), HasSubstr("allowed_ids"));
}

TEST(Task, ItemsMustFitTheModel) {
    EXPECT_EQ(fit_error(R"({"prompt_ids": [1, 3, 4], "answer_ids": [5, 6, 7]})"), "no error");
    EXPECT_THAT(fit_error(R"({"prompt_ids": [1, 3, 4, 5], "answer_ids": [5, 6, 7]})"),
                AllOf(HasSubstr("t.jsonl:1: 7 tokens"), HasSubstr("context of 6")));
    EXPECT_THAT(fit_error(R"({"prompt_ids": [10], "answer_ids": [5]})"),
                AllOf(HasSubstr("t.jsonl:1: the prompt holds token 10"), HasSubstr("vocabulary has 10")));
    EXPECT_THAT(fit_error(R"({"prompt_ids": [1], "answer_ids": [5, 11]})"), HasSubstr("the answer holds token 11"));
    EXPECT_THAT(fit_error(R"({"prompt_ids": [1], "answer_ids": [5, 2]})"), HasSubstr("holds token 2, which ends"));
    EXPECT_THAT(fit_error(R"({"prompt_ids": [1], "choices_ids": [[2], [33]], "answer": 0})"), HasSubstr("token 33"));
    EXPECT_THAT(fit_error("{\"task\": {\"end_ids\": [12]}}\n{\"prompt_ids\": [1], \"answer_ids\": [5]}"),
                HasSubstr("end token 12"));
    EXPECT_THAT(
        fit_error("{\"task\": {\"metric\": \"rouge_l\", \"limit\": 6}}\n{\"prompt_ids\": [1], \"answer_ids\": [5]}"),
        AllOf(HasSubstr("prompt of 1 tokens and up to 6 new ones"), HasSubstr("smaller limit")));
    DecoderConfig endless = model();
    endless.end_ids.clear();
    EXPECT_THAT(fit_error(R"({"prompt_ids": [1], "answer_ids": [5]})", endless), HasSubstr("eos_token_id"));
}

TEST(Task, ItemsMayHaveAKeyThatIsCalledTask) {
    const std::string good = "\n{\"prompt_ids\": [1], \"answer_ids\": [2]}";
    EXPECT_EQ(parse_task(R"({"prompt_ids": [1], "answer_ids": [2], "task": "math"})" + good, "t").items.size(), 2u);
    EXPECT_EQ(parse_task(good + "\n" + R"({"prompt_ids": [1], "answer_ids": [2], "task": {"a": 1}})", "t").items.size(),
              2u);
    EXPECT_EQ(parse_task(R"({"task": null, "ids": [1, 2]})", "t").items.size(), 1u);
    EXPECT_THAT(parse_error(R"({"task": {"name": "x"}, "prompt_ids": [1], "answer_ids": [2]})" + good),
                AllOf(HasSubstr("t.jsonl:1: "), HasSubstr("a line of its own")));
    EXPECT_THAT(parse_error(R"({"task": "math"})" + good), HasSubstr("\"task\" is not an object"));
    EXPECT_THAT(parse_error(good + "\n{\"task\": {\"limit\": 3}}"), AllOf(HasSubstr(":3: "), HasSubstr("first line")));
}

TEST(Task, LanguageFilterMustBeOne) {
    const std::string good = "\n{\"prompt_ids\": [1], \"answer_ids\": [3]}";
    const auto with = [](const std::string& header) { return "{\"task\": {" + header + "}}"; };
    EXPECT_THAT(parse_error(with("\"allowed_ids\": []") + good),
                AllOf(HasSubstr("t.jsonl:1: "), HasSubstr("\"allowed_ids\" is empty")));
    EXPECT_THAT(parse_error(with("\"allowed_ids\": [3]") + "\n{\"ids\": [1, 2]}"), HasSubstr("metric perplexity"));
    EXPECT_THAT(parse_error(with("\"metric\": \"choice\", \"allowed_ids\": [3]") +
                            "\n{\"prompt_ids\": [1], \"choices_ids\": [[2], [3]], \"answer\": 0}"),
                HasSubstr("metric choice"));
    EXPECT_EQ(fit_error(with("\"allowed_ids\": [9, 3]") + good), "no error");
    EXPECT_THAT(fit_error(with("\"allowed_ids\": [10, 3]") + good),
                HasSubstr("holds token 10, the model's vocabulary"));
}

TEST(Task, TokenTableMustBeTheModels) {
    Task task = parse_task(
        "{\"task\": {\"metric\": \"rouge_l\", \"limit\": 2}}\n{\"prompt_ids\": [15], \"answer_ids\": [3]}", "t.jsonl");
    const auto error_with = [&](size_t entries) {
        task.tokens = std::make_shared<TokenTable>(std::vector<std::string>(entries, "a"));
        return error_of([&] { check_task(task, model(20)); });
    };
    EXPECT_EQ(error_with(20), "no error");
    EXPECT_EQ(error_with(18), "no error");
    EXPECT_EQ(error_with(25), "no error");
    EXPECT_THAT(error_with(17), AllOf(HasSubstr("has 17 entries"), HasSubstr("vocabulary 20")));
    EXPECT_THAT(error_with(0), HasSubstr("has 0 entries"));
    task.items[0].prompt = {19};
    EXPECT_THAT(error_with(18), HasSubstr("t.jsonl:2: token 19"));
}

TEST(Task, TokenTableLiesBesideTheFile) {
    const TemporaryFolder folder;
    const auto write = [&](const std::string& name, const std::string& text) {
        std::ofstream(folder.path() + "/" + name) << text;
        return folder.path() + "/" + name;
    };
    const auto files = disk_files();
    const std::string item = "\n{\"prompt_ids\": [1], \"answer\": 12}\n";
    const std::string path =
        write("t.jsonl", "{\"task\": {\"metric\": \"last_number\", \"tokens\": \"table.json\"}}" + item);
    EXPECT_THAT(error_of([&] { read_task(*files, path); }), HasSubstr("table.json"));
    write("table.json", R"(["", " 1", [226, 130, 172], "2"])");
    const Task task = read_task(*files, path);
    EXPECT_EQ(task.tokens->text(std::vector<int32_t>{1, 3, 2, 77}), " 12\xe2\x82\xac");
    EXPECT_EQ(task.items[0].answer_text, "12");
    write("table.json", R"(["", 7])");
    EXPECT_THAT(error_of([&] { read_task(*files, path); }), HasSubstr("entry 1"));
    for (const char* name : {"../t.json", "/etc/passwd", "..", ""}) {
        const std::string bad = write(
            "bad.jsonl", std::string("{\"task\": {\"metric\": \"last_number\", \"tokens\": \"") + name + "\"}}" + item);
        EXPECT_NE(error_of([&] { read_task(*files, bad); }), "no error") << name;
    }
    EXPECT_THAT(error_of([&] { read_task(*files, folder.path() + "/missing.jsonl"); }), HasSubstr("no such task file"));
}

}  // namespace
}  // namespace amalgam
