// JSON that is written to standard output.
#pragma once
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

namespace amalgam {

using Json = nlohmann::ordered_json;

/// Paths need not be UTF-8.
inline std::string json_text(const Json& json) {
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

/// What is not finite has no place in JSON.
inline Json json_number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

}  // namespace amalgam
