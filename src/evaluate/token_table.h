// The text behind token ids, as bytes.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace amalgam {

class TokenTable {
  public:
    TokenTable() = default;
    explicit TokenTable(std::vector<std::string> pieces) : pieces_(std::move(pieces)) {}

    int64_t size() const { return int64_t(pieces_.size()); }
    /// The pieces one behind the other; ids beyond the table are empty.
    std::string text(std::span<const int32_t> ids) const;

  private:
    std::vector<std::string> pieces_;
};

/// A JSON list with one entry a token id: a string, or a list of byte values where the piece is not UTF-8 by itself.
/// Throws Error.
TokenTable parse_token_table(std::string_view json);

}  // namespace amalgam
