#include <utility>

#include "src/base/error.h"
#include "src/checkpoint/json_events.h"
#include "src/checkpoint/safetensors.h"

namespace amalgam {

namespace {

/// The file name of an index entry without "." and empty components, so that one file has one name.
std::string shard_name(const std::string& tensor, const std::string& text) {
    const auto bad = [&](std::string_view why) {
        fail("tensor '{}' is said to be in '{}': {}", printable(tensor), printable(text), why);
    };
    if (text.empty()) bad("an empty file name");
    if (text.front() == '/') bad("the path is absolute, only names inside the folder of the index are allowed");
    std::string name;
    for (size_t begin = 0; begin <= text.size();) {
        const size_t end = std::min(text.find('/', begin), text.size());
        const std::string part = text.substr(begin, end - begin);
        if (part == "..") bad("'..' leads out of the folder of the index");
        for (char c : part)
            if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) bad("the file name has control characters");
        if (!part.empty() && part != ".") name += (name.empty() ? "" : "/") + part;
        begin = end + 1;
    }
    if (name.empty()) bad("not the name of a file");
    return name;
}

/// Keeps `weight_map` of the outermost object; everything else is passed over.
class IndexEvents : public JsonEvents {
  public:
    void open(bool object) override {
        ++depth_;
        if (depth_ == 1 && !object) fail("the index is an array instead of an object");
        if (depth_ == 2 && key_is_map_) {
            check(object, "weight_map is an array instead of an object");
            in_map_ = true;
        } else if (in_map_) {
            not_a_name(object ? "an object" : "an array");
        }
    }
    void close() override {
        if (--depth_ == 1) in_map_ = false;
    }
    void key(std::string& name) override {
        if (depth_ == 1) {
            key_is_map_ = name == "weight_map";
            if (key_is_map_) {
                check(!has_map_, "weight_map appears twice");
                has_map_ = true;
            }
        } else if (in_map_) {
            name_ = std::move(name);
        }
    }
    void text(std::string& value) override {
        if (!in_map_) return other("a string");
        const bool is_new = map_.emplace(name_, shard_name(name_, value)).second;
        if (!is_new) fail("the tensor '{}' appears twice in weight_map", printable(name_));
    }
    void number(uint64_t) override { other("a number"); }
    void null() override { other("null"); }
    void other(std::string_view what) override {
        check(depth_ > 0, "the index is {} instead of an object", what);
        check(depth_ > 1 || !key_is_map_, "weight_map is {} instead of an object", what);
        if (in_map_) not_a_name(what);
    }

    std::map<std::string, std::string> take() {
        check(has_map_, "it has no weight_map, which says what file has which tensor");
        check(!map_.empty(), "its weight_map is empty");
        return std::move(map_);
    }

  private:
    [[noreturn]] void not_a_name(std::string_view what) const {
        fail("tensor '{}' has {} in weight_map instead of a file name", printable(name_), what);
    }

    std::map<std::string, std::string> map_;
    std::string name_;
    int depth_ = 0;
    bool key_is_map_ = false;
    bool has_map_ = false;
    bool in_map_ = false;
};

}  // namespace

std::map<std::string, std::string> parse_index(std::string_view json) {
    IndexEvents events;
    read_json(json, events);
    return events.take();
}

}  // namespace amalgam
