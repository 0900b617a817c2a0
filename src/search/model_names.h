// What the models of a search are called, and which names mean the same one.
#pragma once
#include <string>
#include <vector>

namespace amalgam {

/// The components of a path, of which "." and empty ones say nothing; "/" is the first one of an absolute path.
std::vector<std::string> path_components(const std::string& reference);

/// For each model the shortest ending of its path that no other one has: "models/math-en/" -> "math-en", but
/// "one/final" and "two/final" beside each other. Mentions of the same path are numbered: "math-en", "math-en#2".
std::vector<std::string> model_names(const std::vector<std::string>& references);

}  // namespace amalgam
