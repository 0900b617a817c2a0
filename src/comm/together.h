// Steps in which one rank may fail alone.
#pragma once
#include <exception>
#include <string>

#include "src/comm/communicator.h"

namespace amalgam {

/// Runs `body` on this rank and then has all ranks go on or all throw AgreedError. Collective.
template <class Body>
void together(Communicator& world, const Body& body) {
    std::string error;
    try {
        body();
    } catch (const std::exception& caught) {
        error = caught.what();
        if (error.empty()) error = "failed without a message";
    }
    world.agree(error);
}

}  // namespace amalgam
