// The description of a machine that `amalgam plan` counts with.
#pragma once
#include <string>

#include "src/base/files.h"
#include "src/plan/price.h"

namespace amalgam {

/// Reads a TOML file of numbers (configs/machine-example.toml lists them all): GB/s, GFLOP/s, microseconds.
/// Throws Error "file:line: reason" for unknown keys and for what is no positive number.
Machine read_machine(Files& files, const std::string& path);

}  // namespace amalgam
