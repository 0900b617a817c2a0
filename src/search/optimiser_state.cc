#include "src/search/optimiser_state.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "src/base/error.h"

namespace amalgam {
namespace {

template <class Number>
Number parse(std::string_view name, std::string_view& line) {
    Number value{};
    const auto [end, problem] = std::from_chars(line.data(), line.data() + line.size(), value);
    const auto used = size_t(end - line.data());
    check(problem == std::errc() && (used == line.size() || line[used] == ' '),
          "state of an optimiser: {} is not a number in \"{}\": the state is damaged", name, printable(line, 60));
    line.remove_prefix(std::min(line.size(), used + 1));
    return value;
}

template <class Number>
void append(std::string& text, Number value) {
    char digits[40];
    const auto written = std::to_chars(digits, digits + sizeof digits, value);
    text += ' ';
    text.append(digits, written.ptr);
}

}  // namespace

std::string_view OptimiserState::line(std::string_view name) {
    const size_t end = text_.find('\n');
    check(end != std::string_view::npos, "state of an optimiser ends before {}: it is cut off or damaged", name);
    std::string_view found = text_.substr(0, end);
    text_.remove_prefix(end + 1);
    check(found.substr(0, name.size()) == name && found.size() > name.size() && found[name.size()] == ' ',
          "state of an optimiser has \"{}\" where {} belongs: it is of another optimiser, or damaged",
          printable(found, 60), name);
    found.remove_prefix(name.size() + 1);
    return found;
}

void OptimiserState::write(std::string_view name, const std::vector<double>& values) {
    written_ += name;
    append(written_, int64_t(values.size()));
    for (double value : values) append(written_, value);
    written_ += '\n';
}

std::vector<double> OptimiserState::read(std::string_view name, int64_t most) {
    std::string_view rest = line(name);
    const auto size = parse<int64_t>(name, rest);
    // A number takes a digit and a space at least.
    check(size >= 0 && size <= most && size <= int64_t(rest.size() + 1) / 2,
          "state of an optimiser has {} numbers of {}, at most {} can be: it is of another optimiser, or damaged", size,
          name, most);
    std::vector<double> values(static_cast<size_t>(size));
    for (double& value : values) {
        value = parse<double>(name, rest);
        check(std::isfinite(value), "state of an optimiser: {} is not finite: the state is damaged", name);
    }
    check(rest.empty(), "state of an optimiser: {} goes on behind its end: the state is damaged", name);
    return values;
}

void OptimiserState::number(std::string_view name, double& value) {
    std::vector<double> one{value};
    numbers(name, one, 1);
    value = one[0];
}

void OptimiserState::count(std::string_view name, int64_t& value, int64_t low, int64_t high) {
    std::vector<int64_t> one{value};
    counts(name, one, 1, low, high);
    check(one.size() == 1, "state of an optimiser: {} is empty: the state is damaged", name);
    value = one[0];
}

void OptimiserState::flag(std::string_view name, bool& value) {
    int64_t number = value;
    count(name, number, 0, 1);
    value = number != 0;
}

void OptimiserState::numbers(std::string_view name, std::vector<double>& values, int64_t size) {
    if (!reading_) return write(name, values);
    std::vector<double> found = read(name, size);
    check(int64_t(found.size()) == size,
          "state of an optimiser has {} numbers of {}, not {}: it is of another optimiser, or damaged", found.size(),
          name, size);
    values = std::move(found);
}

void OptimiserState::rows(std::string_view name, std::vector<std::vector<double>>& values, int64_t width,
                          int64_t most) {
    if (!reading_) {
        std::vector<double> all;
        for (const auto& row : values) all.insert(all.end(), row.begin(), row.end());
        return write(name, all);
    }
    const std::vector<double> all = read(name, most * width);
    check(width == 0 ? all.empty() : int64_t(all.size()) % width == 0,
          "state of an optimiser: {} has {} numbers, not rows of {}: the state is damaged", name, all.size(), width);
    values.clear();
    for (auto row = all.begin(); row != all.end(); row += width) values.emplace_back(row, row + width);
}

void OptimiserState::counts(std::string_view name, std::vector<int64_t>& values, int64_t most, int64_t low,
                            int64_t high) {
    if (!reading_) {
        written_ += name;
        append(written_, int64_t(values.size()));
        for (int64_t value : values) append(written_, value);
        written_ += '\n';
        return;
    }
    std::string_view rest = line(name);
    const auto size = parse<int64_t>(name, rest);
    check(size >= 0 && size <= most && size <= int64_t(rest.size() + 1) / 2,
          "state of an optimiser has {} numbers of {}, at most {} can be: it is of another optimiser, or damaged", size,
          name, most);
    std::vector<int64_t> found(static_cast<size_t>(size));
    for (int64_t& value : found) {
        value = parse<int64_t>(name, rest);
        check(value >= low && value <= high, "state of an optimiser: {} is {}, not from {} to {}: the state is damaged",
              name, value, low, high);
    }
    check(rest.empty(), "state of an optimiser: {} goes on behind its end: the state is damaged", name);
    values = std::move(found);
}

void OptimiserState::words(std::string_view name, std::string& value) {
    if (!reading_) {
        written_ += name;
        written_ += ' ';
        written_ += value;
        written_ += '\n';
        return;
    }
    value = std::string(line(name));
}

void OptimiserState::end() const {
    check(text_.empty(),
          "state of an optimiser goes on behind its end with \"{}\": it is of another optimiser, or damaged",
          printable(text_, 60));
}

}  // namespace amalgam
