// What `amalgam evaluate` does by itself and what it leaves to programs of the user's have in common.
#pragma once
#include <string>
#include <vector>

#include "jobs/command_line.h"
#include "src/base/files.h"

namespace amalgam {

/// A line of a list of candidates.
struct CandidateLine {
    std::string recipe;
    std::vector<std::string> set;
};

/// Throws Error with path and line.
std::vector<CandidateLine> read_list(Files& files, const std::string& path);

/// Throws Error if the file cannot be written.
void write_json(const std::string& path, const std::string& text);

/// Whether --command or --worker is given. Throws UsageError if it is with options that it has no use for, or options that
/// belong to it are given without it.
bool is_external(const Arguments& arguments);

/// Scores by that program; the exit code.
int evaluate_externally(const Arguments& arguments, Files& files);

}  // namespace amalgam
