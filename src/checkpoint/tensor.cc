#include "src/checkpoint/tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace amalgam {

std::string shape_text(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace amalgam
