#include "jobs/on_ranks.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <string_view>
#include <thread>

#include "jobs/command_line.h"
#include "src/base/log.h"

namespace amalgam {
namespace {

/// An error of this rank alone: the others wait for it and must be ended.
int leave_alone(Session& session, std::string_view reason) {
    // Often several ranks meet it at the same time, and one message does: the later ones are ended before they speak.
    constexpr int most_steps = 10;
    std::this_thread::sleep_for(std::chrono::milliseconds(500) * std::min(session.world().rank(), most_steps));
    log_here(LogLevel::error, "{}", reason);
    if (session.world().size() > 1) session.abort(1);
    return 1;
}

}  // namespace

int run_on_ranks(const std::function<int(Session& session)>& body) {
    Session session;
    try {
        return body(session);
    } catch (const AgreedError& error) {
        log_error("{}", error.what());
        return 1;
    } catch (const UsageError& error) {
        if (session.world().size() == 1) throw;
        log_error("{}", error.what());
        return 2;
    } catch (const std::bad_alloc&) {
        return leave_alone(session, "out of memory: give a smaller --memory, or start fewer ranks on the machine");
    } catch (const std::exception& error) {
        return leave_alone(session, error.what());
    }
}

}  // namespace amalgam
