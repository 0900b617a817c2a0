// How a command runs on several ranks, and how its errors end them.
#pragma once
#include <functional>

#include "src/comm/session.h"

namespace amalgam {

/// Runs the body on this rank and returns the exit code. An AgreedError is reported by rank 0; a UsageError,
/// which all ranks meet, by rank 0 or, where there is one rank, by the caller. Any other exception, which only this rank may
/// have met, ends all ranks with its message.
int run_on_ranks(const std::function<int(Session& session)>& body);

}  // namespace amalgam
