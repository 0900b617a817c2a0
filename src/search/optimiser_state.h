// Text of an optimiser's state, read and written by the same lines of code.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace amalgam {

/// One line a value: its name, how many numbers, the numbers in their shortest decimal form, which gives the same bits
/// again. Reading throws Error where the text is not what the optimiser would write; numbers are finite.
class OptimiserState {
  public:
    /// To be written.
    OptimiserState() = default;
    /// To be read.
    explicit OptimiserState(std::string_view text) : text_(text), reading_(true) {}

    bool reading() const { return reading_; }

    void number(std::string_view name, double& value);
    /// `low` and `high` belong to the range.
    void count(std::string_view name, int64_t& value, int64_t low, int64_t high);
    void flag(std::string_view name, bool& value);
    /// Exactly `size` numbers.
    void numbers(std::string_view name, std::vector<double>& values, int64_t size);
    /// Rows of `width` numbers, at most `most` rows.
    void rows(std::string_view name, std::vector<std::vector<double>>& values, int64_t width, int64_t most);
    void counts(std::string_view name, std::vector<int64_t>& values, int64_t most, int64_t low, int64_t high);
    void words(std::string_view name, std::string& value);

    /// Nothing comes after what was read.
    void end() const;
    std::string text() const { return written_; }

  private:
    std::string_view line(std::string_view name);
    void write(std::string_view name, const std::vector<double>& values);
    std::vector<double> read(std::string_view name, int64_t most);

    std::string_view text_;
    bool reading_ = false;
    std::string written_;
};

}  // namespace amalgam
