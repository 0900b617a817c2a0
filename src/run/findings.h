// What would go wrong in a job, from what its ranks found around them. No system call.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "src/run/surroundings.h"

namespace amalgam {

struct Finding {
    std::string what, remedy;
};

/// Of all ranks of a job.
std::vector<Finding> find_problems(const std::vector<RankSurroundings>& ranks, const DoctorQuestions& questions);

/// Whether the processes that a launcher started will not find each other: each would take itself for the only one. Known from
/// the environment, before MPI, which may end the process then.
std::optional<Finding> unconnected(const Launch& launch,
                                   const std::function<std::optional<std::string>(const char* name)>& environment);

}  // namespace amalgam
