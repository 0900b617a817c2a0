// Text for people: tables, numbers.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace amalgam {

/// Rows of cells in aligned columns, two blanks between them.
class Table {
  public:
    /// One letter a column: 'l' left, 'r' right.
    explicit Table(std::string columns) : columns_(std::move(columns)) {}
    /// Missing cells at the end are empty.
    void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
    std::string text(std::string_view indent = "") const;

  private:
    std::string columns_;
    std::vector<std::vector<std::string>> rows_;
};

/// "723", "8,030", "70.6 B" (of parameters): exact below 10,000.
std::string count_text(int64_t count);

/// The shortest text that reads back as the same number: "0.7", "1e-05".
std::string number_text(double value);

/// "12.3 ms", "4.1 s", "2.3 h".
std::string seconds_text(double seconds);

/// "1 tensor", "3 tensors".
std::string plural(int64_t count, std::string_view noun);

}  // namespace amalgam
