// Ends in the way its argument says, for session_ranks_test.py.
#include <cstdio>
#include <string>

#include "src/comm/session.h"

namespace {

void leave_by_exception() {
    amalgam::Session session;
    if (session.world().rank() == 1) throw amalgam::Error("unheard");
    session.world().barrier();
}

}  // namespace

int main(int count, char** arguments) {
    const std::string mode = count > 1 ? arguments[1] : "";
    if (mode == "exception") {
        try {
            leave_by_exception();
        } catch (const amalgam::Error&) {
            return 0;
        }
        return 0;
    }
    amalgam::Session session;
    amalgam::Communicator& world = session.world();
    if (mode == "abort") {
        if (world.rank() == 1) session.abort(7);
        world.barrier();
    } else if (mode == "agree") {
        try {
            world.agree(world.rank() == 1 ? "no such thing" : "");
        } catch (const amalgam::AgreedError& error) {
            if (world.rank() == 0) std::fprintf(stderr, "%s\n", error.what());
            return 3;
        }
    } else if (mode == "where") {
        if (world.rank() == 0) std::printf("%d ranks, %d on this machine\n", world.size(), world.node_size());
    }
    return 0;
}
