#include "src/evaluate/task.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "src/base/error.h"
#include "src/base/nearest.h"
#include "src/evaluate/metrics.h"

namespace amalgam {
namespace {

using Json = nlohmann::json;

constexpr uint64_t max_task_bytes = uint64_t(1) << 31;
constexpr size_t max_line_bytes = 64 << 20;
constexpr int64_t max_id = (int64_t(1) << 31) - 1;
constexpr int64_t max_limit = 1 << 20;

constexpr std::array<std::string_view, 7> metric_names = {"perplexity",  "choice",  "choice_normalised", "exact_match",
                                                          "last_number", "rouge_l", "language"};
constexpr std::array<std::string_view, 8> header_keys = {"name",    "metric",      "weight",        "limit",
                                                         "end_ids", "allowed_ids", "allowed_share", "tokens"};

std::vector<int32_t> read_ids(const Json& list, std::string_view key) {
    check(list.is_array(), "\"{}\" is not a list of token ids", key);
    std::vector<int32_t> ids;
    ids.reserve(list.size());
    for (const Json& id : list) {
        check(id.is_number_integer() && id >= 0 && id <= max_id, "\"{}\" holds {}, which is no token id", key,
              printable(id.dump(-1, ' ', false, Json::error_handler_t::replace), 100));
        ids.push_back(id.get<int32_t>());
    }
    return ids;
}

const Json* member(const Json& object, const char* key) {
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::vector<int32_t> ids_of(const Json& item, const char* key, bool required) {
    const Json* list = member(item, key);
    check(list || !required, "the item has no \"{}\"", key);
    return list ? read_ids(*list, key) : std::vector<int32_t>();
}

double header_number(const Json& value, std::string_view key, double low, double high) {
    check(value.is_number() && value >= low && value <= high, "\"{}\" of the task is not a number from {} to {}", key,
          low, high);
    return value.get<double>();
}

std::string header_text(const Json& value, std::string_view key) {
    check(value.is_string(), "\"{}\" of the task is not a string", key);
    return value.get<std::string>();
}

Metric read_metric(const std::string& name) {
    const auto found = std::find(metric_names.begin(), metric_names.end(), name);
    check(found != metric_names.end(), "there is no metric \"{}\"{}", printable(name, 100),
          did_you_mean(name, metric_names));
    return Metric(found - metric_names.begin());
}

struct Header {
    std::optional<Metric> metric;
    std::string tokens;  ///< name of the file of the token table
};

Header read_header(const Json& header, Task& task) {
    check(header.is_object(), "\"task\" is not an object");
    Header result;
    for (const auto& [key, value] : header.items()) {
        if (key == "name")
            task.name = header_text(value, key);
        else if (key == "metric")
            result.metric = read_metric(header_text(value, key));
        else if (key == "weight")
            task.weight = header_number(value, key, 0, 1e9);
        else if (key == "limit")
            task.limit = int64_t(header_number(value, key, 1, double(max_limit)));
        else if (key == "end_ids")
            task.end_ids = read_ids(value, key);
        else if (key == "allowed_ids") {
            task.allowed_ids = read_ids(value, key);
            check(!task.allowed_ids.empty(),
                  "\"allowed_ids\" is empty: no answer could pass this filter; leave the key out for none");
        } else if (key == "allowed_share")
            task.allowed_share = header_number(value, key, 0, 1);
        else if (key == "tokens")
            result.tokens = header_text(value, key);
        else
            fail("the task has a key \"{}\", which means nothing{}", printable(key, 100),
                 did_you_mean(key, header_keys));
    }
    std::sort(task.allowed_ids.begin(), task.allowed_ids.end());
    return result;
}

Metric metric_of(const Json& item) {
    if (member(item, "ids")) return Metric::perplexity;
    if (member(item, "choices_ids")) return Metric::choice;
    if (member(item, "answer_ids")) return Metric::exact_match;
    fail(
        "the item has neither \"ids\" nor \"choices_ids\" nor \"answer_ids\", and no metric is given in a first line "
        "{{\"task\": {{\"metric\": ...}}}}");
}

void read_choices(const Json& item, TaskItem& result) {
    const Json* choices = member(item, "choices_ids");
    check(choices && choices->is_array() && choices->size() >= 2,
          "\"choices_ids\" is not a list of two or more choices");
    for (const Json& choice : *choices) {
        result.choices.push_back(read_ids(choice, "choices_ids"));
        check(!result.choices.back().empty(), "a choice has no tokens");
    }
    const Json* right = member(item, "answer");
    check(right && right->is_number_integer() && *right >= 0 && *right < int64_t(choices->size()),
          "\"answer\" is not the number of a choice, from 0 to {}", choices->size() - 1);
    result.right = right->get<int64_t>();
}

TaskItem read_item(const Json& item, Metric metric) {
    TaskItem result;
    if (metric == Metric::perplexity) {
        result.prompt = ids_of(item, "ids", true);
        check(result.prompt.size() >= 2, "\"ids\" has {} tokens: two or more are needed", result.prompt.size());
        return result;
    }
    result.prompt = ids_of(item, "prompt_ids", true);
    check(!result.prompt.empty(), "\"prompt_ids\" is empty: a model needs at least one token to start from");
    if (metric == Metric::choice || metric == Metric::choice_normalised) {
        read_choices(item, result);
        return result;
    }
    result.answer = ids_of(item, "answer_ids", metric == Metric::exact_match);
    if (const Json* text = member(item, "answer"); text && needs_generation(metric))
        result.answer_text = text->is_string() ? text->get<std::string>() : text->dump();
    return result;
}

/// math-ja for math-ja.jsonl, math-ja/search.jsonl and math-ja/heldout.jsonl.
std::string name_from(const std::string& path) {
    const std::filesystem::path file(path);
    const std::string stem = file.stem().string();
    if (stem != "search" && stem != "heldout") return stem;
    const std::string folder = std::filesystem::absolute(file).parent_path().filename().string();
    return folder.empty() ? stem : folder;
}

/// What can only be said when header and items are known.
void check_whole(Task& task, const Header& header) {
    check(!task.items.empty(), "{}: there is no item in the file", printable(task.path));
    const bool text = task.metric == Metric::last_number;
    check(!text || !header.tokens.empty(), "{}: metric last_number reads text and needs a token table: \"tokens\"",
          printable(task.path));
    const bool written = task.metric == Metric::exact_match || needs_generation(task.metric);
    check(written || task.allowed_ids.empty(),
          "{}: metric {} judges no answer that the language filter could apply to: leave out \"allowed_ids\"",
          printable(task.path), metric_name(task.metric));
    check(task.metric != Metric::language || !task.allowed_ids.empty(), "{}: metric language needs \"allowed_ids\"",
          printable(task.path));
    for (const TaskItem& item : task.items) {
        if (!needs_generation(task.metric) || task.metric == Metric::language) continue;
        const bool has_text = !item.answer_text.empty() && !header.tokens.empty();
        check(has_text || !item.answer.empty(), "{}:{}: the item has no \"answer_ids\"{}", printable(task.path),
              item.line,
              header.tokens.empty() ? " (\"answer\" can be read with a token table only)" : " and no \"answer\"");
    }
}

/// Calls visit(number, text) for all lines that are not blank.
template <class Visit>
void each_line(std::string_view text, const Visit& visit) {
    for (int64_t number = 1; !text.empty(); ++number) {
        const size_t end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.find_first_not_of(" \t\r") != std::string_view::npos) visit(number, line);
    }
}

bool has_item_key(const Json& line) {
    for (const char* key : {"ids", "prompt_ids", "choices_ids", "answer_ids"})
        if (line.contains(key)) return true;
    return false;
}

/// Whether a line is the task's and not an item's, which may have a key `task` of its own.
bool is_header(const Json& line, bool first) {
    const Json* task = member(line, "task");
    if (!task) return false;
    const bool item = has_item_key(line);
    check(item || first, "\"task\" belongs into the first line of the file");
    check(
        !item || !first || !task->is_object(),
        "the line is a task and an item: give {{\"task\": {{...}}}} a line of its own before it, or rename the item's "
        "key");
    return !item;
}

Header parse_lines(std::string_view text, Task& task) {
    Header header;
    bool first = true;
    each_line(text, [&](int64_t number, std::string_view line) {
        try {
            check(line.size() <= max_line_bytes, "the line is longer than {} bytes", max_line_bytes);
            const Json json = Json::parse(line, nullptr, false);
            check(json.is_object(), "the line is not a JSON object");
            if (is_header(json, first)) {
                header = read_header(json["task"], task);
            } else {
                if (!header.metric) header.metric = metric_of(json);
                task.metric = *header.metric;
                TaskItem item = read_item(json, task.metric);
                item.line = number;
                task.items.push_back(std::move(item));
            }
            first = false;
        } catch (const Error& error) {
            fail("{}:{}: {}", printable(task.path), number, error.what());
        }
    });
    check_whole(task, header);
    return header;
}

std::shared_ptr<const TokenTable> read_tokens(Files& files, const Task& task, const std::string& name) {
    check(!name.empty() && name.find('/') == std::string::npos && name != "." && name != "..",
          "{}: \"tokens\" is {}: it must be the name of a file beside the task", printable(task.path),
          printable(name, 200));
    const std::string path = (std::filesystem::path(task.path).parent_path() / name).string();
    try {
        return std::make_shared<const TokenTable>(parse_token_table(files.read_all(path, 256 << 20)));
    } catch (const Error& error) {
        fail("{}: {}", printable(path), error.what());
    }
}

}  // namespace

std::string_view metric_name(Metric metric) { return metric_names[size_t(metric)]; }

bool needs_generation(Metric metric) {
    return metric == Metric::last_number || metric == Metric::rouge_l || metric == Metric::language;
}

Task parse_task(std::string_view text, const std::string& path) {
    Task task;
    task.path = path;
    task.name = name_from(path);
    const Header header = parse_lines(text, task);
    check(header.tokens.empty(), "{}: \"tokens\" names a file, and there is none to read (a bug in the program)",
          printable(path));
    return task;
}

Task read_task(Files& files, const std::string& path) {
    Task task;
    task.path = path;
    task.name = name_from(path);
    check(files.status(path).kind == FileKind::file, "{}: there is no such task file", printable(path));
    const Header header = parse_lines(files.read_all(path, max_task_bytes), task);
    if (!header.tokens.empty()) task.tokens = read_tokens(files, task, header.tokens);
    return task;
}

namespace {

std::string place(const Task& task, const TaskItem& item) {
    return fmt::format("{}:{}", printable(task.path), item.line);
}

void check_ids(const Task& task, const TaskItem& item, const std::vector<int32_t>& ids, int64_t vocabulary,
               std::string_view what) {
    for (int32_t id : ids)
        if (id < 0 || id >= vocabulary)
            fail("{}: {} holds token {}, the model's vocabulary has {}: was the file made with another tokenizer?",
                 place(task, item), what, id, vocabulary);
}

/// Tokens of the longest sequence that the item asks for.
int64_t longest_of(const Task& task, const TaskItem& item) {
    size_t answer = item.answer.size();
    for (const std::vector<int32_t>& choice : item.choices) answer = std::max(answer, choice.size());
    if (needs_generation(task.metric)) answer = size_t(task.limit);
    return int64_t(item.prompt.size() + answer);
}

void check_item(const Task& task, const TaskItem& item, const DecoderConfig& config,
                const std::vector<int32_t>& end_ids) {
    check_ids(task, item, item.prompt, config.vocabulary, "the prompt");
    check_ids(task, item, item.answer, config.vocabulary, "the answer");
    for (const std::vector<int32_t>& choice : item.choices)
        check_ids(task, item, choice, config.vocabulary, "a choice");
    if (task.tokens)
        for (const auto* ids : {&item.prompt, &item.answer})
            for (int32_t id : *ids)
                if (id >= task.tokens->size())
                    fail("{}: token {} of the item is not in the token table, which has {} entries", place(task, item),
                         id, task.tokens->size());
    if (task.metric == Metric::exact_match)
        for (int32_t id : item.answer)
            if (std::find(end_ids.begin(), end_ids.end(), id) != end_ids.end())
                fail("{}: the answer holds token {}, which ends a text: leave it out", place(task, item), id);
    if (const int64_t length = longest_of(task, item); length > config.context) {
        if (needs_generation(task.metric))
            fail(
                "{}: a prompt of {} tokens and up to {} new ones (\"limit\") are more than the model's context of {}: "
                "give the task a smaller limit, or the item a shorter prompt",
                place(task, item), item.prompt.size(), task.limit, config.context);
        fail("{}: {} tokens of prompt and answer are more than the model's context of {}", place(task, item), length,
             config.context);
    }
    if (task.metric != Metric::last_number) return;
    const std::string answer = item.answer_text.empty() ? task.tokens->text(item.answer) : item.answer_text;
    if (!last_number(answer)) fail("{}: there is no number in the answer", place(task, item));
}

}  // namespace

void check_task(const Task& task, const DecoderConfig& config) {
    const std::vector<int32_t>& end_ids = task.end_ids.empty() ? config.end_ids : task.end_ids;
    const bool ends = task.metric == Metric::exact_match || needs_generation(task.metric);
    if (ends && end_ids.empty())
        fail(
            "{}: neither the task (\"end_ids\") nor the model's config.json (eos_token_id) says which token ends a "
            "text",
            printable(task.path));
    for (int32_t id : end_ids)
        if (id >= config.vocabulary)
            fail("{}: end token {} is beyond the model's vocabulary of {}", printable(task.path), id,
                 config.vocabulary);
    if (!task.allowed_ids.empty() && task.allowed_ids.back() >= config.vocabulary)
        fail(
            "{}: \"allowed_ids\" holds token {}, the model's vocabulary has {}: was the file made with another "
            "tokenizer?",
            printable(task.path), task.allowed_ids.back(), config.vocabulary);
    // Vocabularies are padded to round numbers, with tokens that no tokenizer has.
    if (task.tokens && task.tokens->size() < config.vocabulary * 9 / 10)
        fail("{}: the token table has {} entries, the model's vocabulary {}: was it made with another tokenizer?",
             printable(task.path), task.tokens->size(), config.vocabulary);
    for (const TaskItem& item : task.items) check_item(task, item, config, end_ids);
}

}  // namespace amalgam
