#include "src/checkpoint/json_events.h"

#include <nlohmann/json.hpp>

#include "src/base/error.h"

namespace amalgam {

namespace {

/// The shape nlohmann's parser wants its events in.
class Adapter {
  public:
    using Json = nlohmann::json;

    explicit Adapter(JsonEvents& events) : events_(events) {}

    bool null() {
        events_.null();
        return true;
    }
    bool boolean(bool value) {
        events_.other(value ? "true" : "false");
        return true;
    }
    // The parser calls this for text with a minus sign only: also for -0.
    bool number_integer(Json::number_integer_t) {
        events_.other("a negative number");
        return true;
    }
    bool number_unsigned(Json::number_unsigned_t value) {
        events_.number(value);
        return true;
    }
    // 2.0 and 2e0 arrive here, and integers that 64 bits do not hold.
    bool number_float(Json::number_float_t, const std::string& text) {
        events_.other(text.find_first_of(".eE") == std::string::npos ? "a number beyond 64 bits"
                                                                     : "a number with a point or exponent");
        return true;
    }
    bool string(std::string& value) {
        events_.text(value);
        return true;
    }
    bool binary(Json::binary_t&) { return false; }
    bool key(std::string& value) {
        events_.key(value);
        return true;
    }
    bool start_object(std::size_t) { return open(true); }
    bool start_array(std::size_t) { return open(false); }
    bool end_object() { return close(); }
    bool end_array() { return close(); }

    bool parse_error(std::size_t position, const std::string& token, const Json::exception&) {
        fail("not valid JSON at byte {}, at '{}'", position,
             printable(token.substr(token.size() - std::min<size_t>(token.size(), 40))));
    }

  private:
    bool open(bool object) {
        check(++depth_ <= max_json_depth, "the JSON is nested more than {} levels deep", max_json_depth);
        events_.open(object);
        return true;
    }
    bool close() {
        --depth_;
        events_.close();
        return true;
    }

    JsonEvents& events_;
    int depth_ = 0;
};

}  // namespace

void read_json(std::string_view text, JsonEvents& events) {
    check(!text.empty(), "not valid JSON: there is no text");
    check(!text.starts_with("\xef\xbb\xbf"), "not valid JSON: it starts with a byte order mark");
    // The parser takes a NUL for the end of the text and would not look at what follows.
    const size_t nul = text.find('\0');
    check(nul == std::string_view::npos, "not valid JSON: a NUL byte at byte {}", nul);
    Adapter adapter(events);
    nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &adapter);
}

}  // namespace amalgam
