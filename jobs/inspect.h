// The views of `amalgam inspect`, as text or JSON on standard output; each returns the exit code.
#pragma once
#include <string>
#include <vector>

#include "src/base/files.h"

namespace amalgam {

struct InspectOptions {
    bool tensors = false;  ///< list every tensor
    bool json = false;
    int threads = 1;
    std::vector<std::string> set;  ///< overrides of a recipe
    bool allow_unknown = false;
};

/// Where a path or hub name points.
std::string find_model(Files& files, const std::string& reference);

int show_checkpoint(Files& files, const std::string& reference, const InspectOptions& options);
int show_recipe(Files& files, const std::string& path, const InspectOptions& options);
int show_fit(Files& files, const std::vector<std::string>& references, const InspectOptions& options);
int show_vectors(Files& files, const std::string& base, const std::vector<std::string>& references,
                 const InspectOptions& options);

}  // namespace amalgam
