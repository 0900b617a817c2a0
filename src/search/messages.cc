#include "src/search/messages.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "src/base/error.h"

namespace amalgam {

namespace {

using Json = nlohmann::json;
constexpr std::string_view set_names[] = {"search", "validation", "heldout"};

Json parse(const std::string& text, const char* what) {
    try {
        return Json::parse(text);
    } catch (const Json::exception& error) {
        fail("{} cannot be read: {}", what, error.what());
    }
}

/// Right and wrong as digits, which are read faster than numbers.
Json items_json(const TaskScores& task) {
    return is_graded(task.items) ? Json(task.items) : Json(item_digits(task.items));
}

std::vector<double> items_of(const Json& json) {
    if (!json.is_string()) return json;
    return items_of_digits(json.get_ref<const std::string&>());
}

}  // namespace

std::string_view item_set_name(ItemSet set) { return set_names[size_t(set)]; }

Answer answer_of(const Evaluation& evaluation) {
    Answer answer;
    answer.score = evaluation.score;
    double weights = 0;
    for (const TaskResult& task : evaluation.tasks) {
        TaskScores scores;
        scores.score = task.score;
        scores.likelihood = needs_generation(task.metric) ? 0 : -task.mean_nll;
        for (const ItemResult& item : task.items) scores.items.push_back(item.score);
        if (!needs_generation(task.metric)) {
            answer.likelihood += task.weight * scores.likelihood;
            weights += task.weight;
        }
        answer.tasks.push_back(std::move(scores));
    }
    if (weights > 0) answer.likelihood /= weights;
    return answer;
}

std::string encode_answer(const Answer& answer) {
    Json json = {{"score", answer.score}, {"likelihood", answer.likelihood}, {"tasks", Json::array()}};
    if (answer.raced_out) json["raced_out"] = true;
    for (const TaskScores& task : answer.tasks)
        json["tasks"].push_back({{"score", task.score}, {"likelihood", task.likelihood}, {"items", items_json(task)}});
    return json.dump();
}

Answer decode_answer(const std::string& text) {
    const Json json = parse(text, "the answer of a group");
    try {
        Answer answer;
        answer.score = json.at("score");
        answer.likelihood = json.at("likelihood");
        for (const Json& task : json.at("tasks"))
            answer.tasks.push_back({task.at("score"), task.at("likelihood"), items_of(task.at("items"))});
        answer.raced_out = json.value("raced_out", false);
        return answer;
    } catch (const Json::exception& error) {
        fail("the answer of a group cannot be read: {}", error.what());
    }
}

std::string encode_instruction(const Instruction& instruction) {
    // The recipe as it is: it is long, and to write it as JSON takes longer than all the rest.
    return Json{{"set", int(instruction.set)}, {"cut", instruction.cut}}.dump() + "\n" + instruction.recipe;
}

Instruction decode_instruction(const std::string& text) {
    const size_t line = text.find('\n');
    check(line != text.npos, "an instruction has no recipe");
    const Json json = parse(text.substr(0, line), "an instruction");
    try {
        const int set = json.at("set");
        check(set >= 0 && set < int(std::size(set_names)), "an instruction names item set {}", set);
        return {text.substr(line + 1), ItemSet(set), json.at("cut")};
    } catch (const Json::exception& error) {
        fail("an instruction cannot be read: {}", error.what());
    }
}

bool is_graded(const std::vector<double>& items) {
    return std::any_of(items.begin(), items.end(), [](double score) { return score != 0 && score != 1; });
}

std::vector<double> items_of_digits(std::string_view digits) {
    std::vector<double> items;
    items.reserve(digits.size());
    for (char digit : digits) {
        if (digit != '0' && digit != '1')
            fail("an item is {} where right (1) and wrong (0) are", printable(std::string(1, digit)));
        items.push_back(digit - '0');
    }
    return items;
}

std::string item_digits(const std::vector<double>& items) {
    const bool graded = is_graded(items);
    std::string digits;
    for (double score : items)
        digits += char('0' + (graded ? int(std::floor(9.999 * std::clamp(score, 0., 1.))) : int(score)));
    return digits;
}

}  // namespace amalgam
