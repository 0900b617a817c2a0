// What would go wrong in a job, from what its ranks found around them. No system call.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "src/run/surroundings.h"

namespace amalgam {

struct Finding {
    std::string name;                ///< for programs: "no-pmi", ...
    std::vector<std::string> hosts;  ///< where, in the order of ranks; empty: the whole job
    std::string what;                ///< of the first host, where there are several
    std::string why;                 ///< it is a problem
    std::string remedy;
};

/// Of all ranks of a job. What is the same problem on several hosts is one finding.
std::vector<Finding> find_problems(const std::vector<RankSurroundings>& ranks, const DoctorQuestions& questions);

using Environment = std::function<std::optional<std::string>(const char* name)>;

/// Whether the processes that a launcher started will not find each other. Known from the environment, before MPI, which may
/// end the process then.
std::optional<Finding> unconnected(const Launch& launch, const Environment& environment);

/// Whether MPI may refuse to start here, for a reason that its messages do not tell; it is tried all the same. "" or a warning.
std::string doubtful_launch(const Launch& launch, const Environment& environment);

/// Of what MPI needs before it says a word: where it keeps its files.
std::optional<Finding> no_place_for_mpi(const std::string& host, const DiskSurroundings& temporary);

/// MPI started and does not do, for the reason in this text.
Finding unusable_mpi(const std::string& text);

}  // namespace amalgam
