#include "src/evaluate/token_table.h"

#include <nlohmann/json.hpp>

#include "src/base/error.h"

namespace amalgam {

std::string TokenTable::text(std::span<const int32_t> ids) const {
    std::string result;
    for (int32_t id : ids)
        if (id >= 0 && id < size()) result += pieces_[size_t(id)];
    return result;
}

TokenTable parse_token_table(std::string_view text) {
    const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
    check(json.is_array(), "a token table is a JSON list with one entry a token");
    std::vector<std::string> pieces;
    for (const nlohmann::json& entry : json) {
        if (entry.is_string()) {
            pieces.push_back(entry.get<std::string>());
            continue;
        }
        check(entry.is_array(), "entry {} of the token table is neither a string nor a list of bytes", pieces.size());
        std::string piece;
        for (const nlohmann::json& byte : entry) {
            check(byte.is_number_unsigned() && byte < 256,
                  "entry {} of the token table holds something that is no byte", pieces.size());
            piece += char(byte.get<uint8_t>());
        }
        pieces.push_back(std::move(piece));
    }
    return TokenTable(std::move(pieces));
}

}  // namespace amalgam
