// The only includer of yaml-cpp. Its events are read, not its nodes: aliases are copied here and counted, so that no
// text can make the tree larger than max_recipe_values.
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <array>
#include <map>
#include <sstream>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "src/base/error.h"
#include "src/recipe/value.h"

namespace amalgam {
namespace {

bool one_of(std::string_view text, std::initializer_list<std::string_view> words) {
    return std::find(words.begin(), words.end(), text) != words.end();
}

/// Nothing and booleans as YAML 1.1 (and so mergekit) has them; numbers are read where one is expected.
void set_plain_scalar(Value& value, const std::string& text) {
    value.loose = true;
    value.text = text;
    value.kind = Value::Kind::string;
    if (one_of(text, {"", "~", "null", "Null", "NULL"})) {
        value.kind = Value::Kind::null;
    } else if (one_of(text, {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})) {
        value.kind = Value::Kind::boolean;
        value.boolean = true;
    } else if (one_of(text, {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})) {
        value.kind = Value::Kind::boolean;
    }
}

int64_t count_values(const Value& value) {
    int64_t count = 1;
    for (const Value& item : value.items) count += count_values(item);
    for (const Value::Member& member : value.members) count += 1 + count_values(member.value);
    return count;
}

int depth_of(const Value& value) {
    int deepest = 0;
    for (const Value& item : value.items) deepest = std::max(deepest, depth_of(item));
    for (const Value::Member& member : value.members) deepest = std::max(deepest, depth_of(member.value));
    return deepest + 1;
}

class Builder : public YAML::EventHandler {
  public:
    explicit Builder(const std::string& file) : file_(file) {}

    void OnDocumentStart(const YAML::Mark&) override {}
    void OnDocumentEnd() override {}

    void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
        Value value;
        value.line = mark.line + 1;
        value.loose = true;
        add(std::move(value), anchor);
    }

    void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  const std::string& text) override {
        Value value;
        value.line = mark.line + 1;
        value.kind = Value::Kind::string;
        value.text = text;
        // "?" is a plain scalar. mergekit takes numbers in quotes too, so those are loose as well.
        if (tag == "?" || tag.empty())
            set_plain_scalar(value, text);
        else
            value.loose = true;
        add(std::move(value), anchor);
    }

    void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
        const auto found = anchors_.find(anchor);
        check(found != anchors_.end(), "{}:{}: an alias inside the value it stands for", file_, mark.line + 1);
        // Counting first: the copy of a tree that is too large must not be made.
        values_ += found->second.count;
        check_size(mark.line + 1);
        check(int(open_.size()) + found->second.depth <= max_recipe_depth,
              "{}:{}: nested more than {} levels deep: recipes are flat", file_, mark.line + 1, max_recipe_depth);
        place(Value(found->second.value));
    }

    void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                         YAML::EmitterStyle::value) override {
        open(mark, anchor, Value::Kind::list);
    }
    void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                    YAML::EmitterStyle::value) override {
        open(mark, anchor, Value::Kind::table);
    }
    void OnSequenceEnd() override { close(); }
    void OnMapEnd() override {
        finish_table(open_.back().value);
        close();
    }

    Value result() && { return std::move(root_); }

  private:
    struct Open {
        Value value;
        YAML::anchor_t anchor = 0;
        bool has_key = false;  ///< of a table: the next value belongs to `key`
        std::string key;
        int key_line = 0;
    };
    struct Anchored {
        Value value;
        int64_t count = 0;
        int depth = 0;
    };

    void check_size(int line) const {
        check(values_ <= max_recipe_values, "{}:{}: more than {} values (aliases count each time): split the recipe",
              file_, line, max_recipe_values);
    }

    void open(const YAML::Mark& mark, YAML::anchor_t anchor, Value::Kind kind) {
        check(int(open_.size()) < max_recipe_depth, "{}:{}: nested more than {} levels deep: recipes are flat", file_,
              mark.line + 1, max_recipe_depth);
        ++values_;
        check_size(mark.line + 1);
        Open entry;
        entry.value.kind = kind;
        entry.value.line = mark.line + 1;
        entry.anchor = anchor;
        open_.push_back(std::move(entry));
    }

    void close() {
        Open entry = std::move(open_.back());
        open_.pop_back();
        remember(entry.value, entry.anchor);
        place(std::move(entry.value));
    }

    void add(Value value, YAML::anchor_t anchor) {
        ++values_;
        check_size(value.line);
        remember(value, anchor);
        place(std::move(value));
    }

    void remember(const Value& value, YAML::anchor_t anchor) {
        if (anchor == 0) return;
        const int64_t count = count_values(value);
        // The copy kept for aliases costs as much as the value.
        values_ += count;
        check_size(value.line);
        anchors_[anchor] = {value, count, depth_of(value)};
    }

    void place(Value value) {
        if (open_.empty()) {
            root_ = std::move(value);
            return;
        }
        Open& parent = open_.back();
        if (parent.value.kind == Value::Kind::list) {
            parent.value.items.push_back(std::move(value));
        } else if (!parent.has_key) {
            check(value.kind != Value::Kind::list && value.kind != Value::Kind::table,
                  "{}:{}: {} as a key: keys are words", file_, value.line, value.kind_text());
            parent.key = std::move(value.text);
            parent.key_line = value.line;
            parent.has_key = true;
        } else {
            // yaml-cpp reports a value that is not there at the token after it.
            if (value.kind == Value::Kind::null) value.line = parent.key_line;
            parent.value.members.push_back({std::move(parent.key), parent.key_line, std::move(value)});
            parent.has_key = false;
        }
    }

    /// No key twice; "<<" inserts the members of other tables that are not given here.
    void finish_table(Value& table) {
        std::unordered_set<std::string> keys;
        std::vector<Value> merged;
        std::vector<Value::Member> members;
        members.reserve(table.members.size());
        for (Value::Member& member : table.members) {
            if (member.key == "<<") {
                take_merged(std::move(member), merged);
                continue;
            }
            if (!keys.insert(member.key).second)
                fail("{}:{}: key \"{}\" is given twice: remove one", file_, member.line, printable(member.key));
            members.push_back(std::move(member));
        }
        for (Value& source : merged)
            for (Value::Member& member : source.members)
                if (keys.insert(member.key).second) members.push_back(std::move(member));
        table.members = std::move(members);
    }

    void take_merged(Value::Member member, std::vector<Value>& merged) {
        const int line = member.line;
        std::vector<Value> sources;
        if (member.value.kind == Value::Kind::list)
            sources = std::move(member.value.items);
        else
            sources.push_back(std::move(member.value));
        for (Value& source : sources) {
            check(source.kind == Value::Kind::table, "{}:{}: \"<<\" needs a table or a list of tables", file_, line);
            merged.push_back(std::move(source));
        }
    }

    const std::string& file_;
    Value root_;
    std::vector<Open> open_;
    std::map<YAML::anchor_t, Anchored> anchors_;
    int64_t values_ = 0;
};

}  // namespace

Value parse_yaml(const std::string& text, const std::string& file) {
    check(text.size() <= max_recipe_bytes, "{}: {} bytes: a recipe has at most {}", file, text.size(),
          max_recipe_bytes);
    std::istringstream stream(text);
    try {
        YAML::Parser parser(stream);
        Builder builder(file);
        check(parser.HandleNextDocument(builder), "{}:1: the recipe is empty", file);
        Builder second(file);
        check(!parser.HandleNextDocument(second), "{}: several documents in one file: make each a recipe of its own",
              file);
        return std::move(builder).result();
    } catch (const YAML::Exception& error) {
        fail("{}:{}: not valid YAML: {}", file, error.mark.line + 1, error.msg);
    }
}

}  // namespace amalgam
