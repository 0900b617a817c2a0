// The folds there are (folds.h), as a value.
#pragma once
#include <cstdint>

namespace amalgam {

/// Sparsifiers other than none go with sum and elect only.
enum class FoldKind : uint8_t { average, sum, elect, nearswap, ram, ramplus };

/// Numbers per element that a fold adds its models into.
constexpr int fold_planes(FoldKind kind) {
    return kind == FoldKind::elect ? 4 : kind == FoldKind::ramplus ? 3 : kind == FoldKind::ram ? 2 : 1;
}

}  // namespace amalgam
