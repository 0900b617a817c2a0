// Strict JSON as a stream of events: what headers and indexes are read with.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace amalgam {

/// Receives the text in order. Members may throw; a string may be moved from.
class JsonEvents {
  public:
    virtual ~JsonEvents() = default;
    virtual void open(bool object) = 0;       ///< { or [
    virtual void close() = 0;                 ///< } or ]
    virtual void key(std::string& name) = 0;  ///< of the innermost object; escapes are resolved
    virtual void text(std::string& value) = 0;
    virtual void number(uint64_t value) = 0;  ///< digits only: neither -0, nor 2.0, nor 2e0, nor 2^64
    virtual void null() = 0;
    virtual void other(std::string_view what) = 0;  ///< any other value: "a negative number", ...
};

/// Levels of objects and arrays that read_json() accepts, as the reference reader of safetensors does.
constexpr int max_json_depth = 127;

/// Throws Error with the byte where the text stops being JSON. Beyond the grammar it refuses a byte order mark, bytes
/// that are not UTF-8, lone surrogates, anything after the value but blanks, and more than max_json_depth levels.
void read_json(std::string_view text, JsonEvents& events);

}  // namespace amalgam
