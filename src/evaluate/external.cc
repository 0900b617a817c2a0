#include "src/evaluate/external.h"

#include <chrono>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/nearest.h"
#include "src/base/shell_word.h"
#include "src/evaluate/process.h"

namespace amalgam {

namespace {

using Json = nlohmann::json;

constexpr int most_levels = 100;

/// Strict JSON of Python's: NaN and Infinity, which it writes as they are, become null. Nested too deep: left as it is up to
/// there, so that the parser refuses it.
std::string as_json(std::string_view text) {
    std::string result;
    result.reserve(text.size());
    bool quoted = false;
    int level = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        const char letter = text[i];
        if (quoted && letter == '\\' && i + 1 < text.size()) {
            result += letter;
            result += text[++i];
            continue;
        }
        if (letter == '"') quoted = !quoted;
        if (!quoted) {
            level += (letter == '{' || letter == '[') - (letter == '}' || letter == ']');
            if (level > most_levels) return result;
            bool replaced = false;
            for (std::string_view name : {"NaN", "Infinity", "-Infinity"})
                if (text.substr(i).starts_with(name)) {
                    result += "null";
                    i += name.size() - 1;
                    replaced = true;
                    break;
                }
            if (replaced) continue;
        }
        result += letter;
    }
    return result;
}

/// `why` tells what is wrong with text that is no JSON object.
bool parse_object(std::string_view text, Json& json, std::string& why) {
    try {
        json = Json::parse(as_json(text));
    } catch (const Json::exception& error) {
        why = printable(error.what(), 300);
        return false;
    }
    if (json.is_object()) return true;
    why = "it is no object";
    return false;
}

std::string_view without_blanks(std::string_view text) {
    const size_t begin = text.find_first_not_of(" \t\r\n");
    if (begin == std::string_view::npos) return {};
    return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

Json find_object(std::string_view output) {
    const std::string_view text = without_blanks(output);
    Json json;
    std::string why;
    if (text.starts_with("{") && parse_object(text, json, why)) return json;
    std::string first_reason;
    size_t last_opening = std::string_view::npos;
    for (size_t end = text.size(); end > 0;) {
        const size_t newline = text.rfind('\n', end - 1);
        const size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
        const std::string_view line = text.substr(begin, end - begin);
        end = newline == std::string_view::npos ? 0 : newline;
        if (!line.starts_with("{")) continue;
        if (last_opening == std::string_view::npos) last_opening = begin;
        if (parse_object(without_blanks(line), json, why)) return json;
        if (first_reason.empty()) first_reason = why;
    }
    check(last_opening != std::string_view::npos,
          "its standard output holds no JSON object: the score is read from a line such as {{\"score\": 0.5}}");
    if (parse_object(text.substr(last_opening), json, why)) return json;
    fail("its standard output holds no valid JSON object ({})", first_reason);
}

std::vector<std::string> path_of(const std::string& place) {
    check(!place.empty() && place != "/", "the place of the score is empty: give a key, as in score");
    const bool pointer = place[0] == '/';
    std::vector<std::string> keys(1);
    for (size_t i = pointer ? 1 : 0; i < place.size(); ++i) {
        if (place[i] == (pointer ? '/' : '.')) {
            keys.emplace_back();
        } else if (pointer && place[i] == '~') {
            const char next = i + 1 < place.size() ? place[++i] : ' ';
            check(next == '0' || next == '1', "{}: ~ stands before 0 (for ~) or 1 (for /) in a JSON pointer",
                  printable(place, 200));
            keys.back() += next == '0' ? '~' : '/';
        } else {
            keys.back() += place[i];
        }
    }
    return keys;
}

std::string keys_text(const Json& json, const std::string& key) {
    std::vector<std::string_view> names;
    constexpr size_t most = 30;
    for (const auto& [name, value] : json.items()) {
        if (names.size() == most) break;
        names.push_back(name);
    }
    return printable(did_you_mean(key, names), 600);
}

const Json& value_at(const Json& json, const std::string& place) {
    const Json* value = &json;
    for (const std::string& key : path_of(place)) {
        const std::string shown = printable(key, 200);
        if (value->is_array()) {
            const bool number = !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == key.npos;
            check(number && std::stoul(key) < value->size(), "{}: no element {} in a list of {}", printable(place, 200),
                  shown, value->size());
            value = &(*value)[std::stoul(key)];
            continue;
        }
        check(value->is_object(), "{}: there is nothing to look for {} in", printable(place, 200), shown);
        const auto found = value->find(key);
        check(found != value->end(), "its answer has no {} of {}{}", shown, printable(place, 200),
              keys_text(*value, key));
        value = &*found;
    }
    return *value;
}

double finite_number(const Json& json, const std::string& what) {
    check(json.is_number(), "{} is {}, not a number", what,
          json.is_null() ? std::string("null or NaN")
                         : printable(json.dump(-1, ' ', true, Json::error_handler_t::replace), 100));
    const double number = json.get<double>();
    check(std::isfinite(number), "{} is not finite", what);
    return number;
}

ExternalScore read_score(const Json& json, const std::string& place) {
    ExternalScore result;
    result.score = finite_number(value_at(json, place), "the score at " + printable(place, 200));
    const auto items = json.find("items");
    if (items == json.end()) return result;
    check(items->is_array(), "its \"items\" are no list");
    for (const Json& item : *items) {
        const std::string what = fmt::format("the score of item {}", result.items.size());
        if (!item.is_object()) {
            result.items.push_back(finite_number(item, what));
            continue;
        }
        check(item.contains("score"), "item {} has no \"score\"", result.items.size());
        result.items.push_back(finite_number(item["score"], what));
    }
    return result;
}

class Deadline {
  public:
    explicit Deadline(double seconds) : seconds_(seconds) {}
    /// Infinity if there is none.
    double left() const {
        if (seconds_ <= 0) return std::numeric_limits<double>::infinity();
        return seconds_ - std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    }

  private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    double seconds_;
};

}  // namespace

ExternalScore find_score(std::string_view output, const std::string& place) {
    return read_score(find_object(output), place);
}

void check_place(const std::string& place) { path_of(place); }

std::string fill_in(const std::string& command, const std::string& model) {
    constexpr std::string_view mark = "{model}";
    std::string result;
    size_t done = 0;
    for (size_t found; (found = command.find(mark, done)) != std::string::npos; done = found + mark.size())
        result += command.substr(done, found - done) + shell_word(model);
    return result + command.substr(done);
}

ExternalScore run_command(const ExternalOptions& options, const ExternalCandidate& candidate) {
    ProcessOptions started;
    started.command = fill_in(options.command, candidate.model);
    started.environment = options.environment;
    started.environment.emplace_back("AMALGAM_MODEL", candidate.model);
    started.grace = options.grace;
    const Deadline deadline(options.timeout);
    Process process(started);
    std::string none, output;
    while (process.running()) {
        const double left = deadline.left();
        if (left <= 0) {
            process.end();
            fail("the command took longer than {} s and was ended{}", options.timeout, process.log_tail());
        }
        process.step(none, output, left);
        if (output.size() > 2 * most_answer_bytes) output.erase(0, output.size() - most_answer_bytes);
    }
    const std::string failure = process.failure();
    check(failure.empty(), "the command failed: {}{}", failure, process.log_tail());
    if (output.size() > most_answer_bytes) output.erase(0, output.size() - most_answer_bytes);
    try {
        return find_score(output, options.score_at);
    } catch (const Error& error) {
        fail("the command gave no score: {}{}", error.what(), process.log_tail());
    }
}

Worker::Worker(ExternalOptions options) : options_(std::move(options)) {}

Worker::~Worker() {
    if (process_) process_->finish();
}

/// False if the worker ended before it answered.
bool Worker::ask(const std::string& request, std::string& answer, std::string& why) {
    if (process_) {
        // It may have ended since its last answer, which costs nobody anything.
        std::string none;
        process_->step(none, unread_, 0);
        if (!process_->running()) process_.reset();
    }
    if (!process_) {
        unread_.clear();
        ProcessOptions started;
        started.command = options_.command;
        started.takes_input = true;
        started.environment = options_.environment;
        started.grace = options_.grace;
        process_ = std::make_unique<Process>(started);
        ++starts_;
    }
    const Deadline deadline(options_.timeout);
    std::string to_send = request;
    for (size_t looked_at = 0;;) {
        const size_t newline = unread_.find('\n', looked_at);
        if (newline != std::string::npos) {
            answer = without_blanks(std::string_view(unread_).substr(0, newline));
            unread_.erase(0, newline + 1);
            looked_at = 0;
            if (!answer.empty()) return true;
            continue;
        }
        looked_at = unread_.size();
        if (unread_.size() > most_answer_bytes)
            give_up(fmt::format("the worker wrote a line of more than {} bytes", most_answer_bytes));
        if (!process_->running()) {
            const std::string failure = process_->failure();
            why = fmt::format("the worker ended without an answer: {}{}", failure.empty() ? "exit code 0" : failure,
                              process_->log_tail());
            process_.reset();
            return false;
        }
        const double left = deadline.left();
        if (left <= 0) {
            process_->end();
            give_up(fmt::format("the worker gave no answer within {} s and was ended", options_.timeout));
        }
        process_->step(to_send, unread_, left);
    }
}

void Worker::give_up(const std::string& why) {
    process_->end();
    const std::string text = why + process_->log_tail();
    process_.reset();
    throw Error(text);
}

ExternalScore Worker::score(const ExternalCandidate& candidate) {
    Json request = {{"id", ++id_}, {"model", candidate.model}};
    if (!candidate.recipe.empty()) {
        request["recipe"] = candidate.recipe;
        request["set"] = candidate.set;
    }
    const std::string line = request.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
    std::string answer, why;
    if (!ask(line, answer, why)) check(ask(line, answer, why), "{} (and so did the one before it)", why);
    Json json;
    if (!parse_object(answer, json, why))
        give_up(fmt::format("the worker wrote what is no answer, {} ({}); its log belongs on standard error",
                            printable(answer, 200), why));
    const auto id = json.find("id");
    if (id == json.end() || *id != id_)
        give_up(fmt::format("the worker answered {}, the \"id\" should be {}", printable(answer, 200), id_));
    const auto error = json.find("error");
    if (error != json.end() && !error->is_null())
        fail("the worker says: {}", printable(error->is_string() ? error->get<std::string>() : error->dump(), 2000));
    try {
        return read_score(json, options_.score_at);
    } catch (const Error& reason) {
        give_up(fmt::format("the worker gave no score: {}", reason.what()));
    }
}

}  // namespace amalgam
