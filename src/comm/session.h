// The life of a program among its ranks: MPI from start to end, if there is more than one.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "src/comm/communicator.h"

namespace amalgam {

/// How this process was started, as its environment tells (Open MPI's mpirun, PMI, PMIx, srun); no MPI call.
struct Launch {
    bool parallel = false;  ///< by a launcher, with other ranks or an unknown number of them
    int rank = 0;           ///< 0 if unknown
    int size = 1;           ///< 0 if unknown
    bool one_node = false;  ///< known to be all on this machine
    std::string launcher;   ///< "mpirun", "srun", ...; "" if alone
};

/// `environment(name)` gives a variable or nothing.
Launch find_launch(const std::function<std::optional<std::string>(const char* name)>& environment);
/// Of this process.
Launch find_launch();

/// Starts MPI if the process is one of several ranks, else nothing (which saves a fifth of a second). One at a time,
/// made by the main thread, outside of what handles its errors: an exception that leaves while others wait for this
/// rank ends all ranks, as abort(1) does.
class Session {
  public:
    /// Throws Error if MPI does not start, or does not see the ranks that the launcher started.
    Session();
    /// Waits for the other ranks. Communicators made by world().range() must be gone.
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    Communicator& world() { return *world_; }
    /// Name and version of the MPI library, started or not.
    static std::string library();

    /// Ends all ranks at once, without waiting for them, with this exit code; for errors that only this rank knows of. From
    /// any thread.
    [[noreturn]] void abort(int code);

  private:
    bool parallel_ = false;
    int exceptions_ = 0;
    std::unique_ptr<Communicator> world_;
};

}  // namespace amalgam
