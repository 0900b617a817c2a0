#include "src/comm/session.h"

#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "src/base/log.h"
#include "src/comm/mpi_communicator.h"

namespace amalgam {
namespace {

/// A small non-negative number, or -1.
int number(const std::optional<std::string>& text) {
    int value = -1;
    if (!text) return -1;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    return error == std::errc() && end == text->data() + text->size() && value >= 0 ? value : -1;
}

/// Open MPI looks for fast networks when it starts, which takes 0.2 s that a single machine need not spend. What the user
/// has chosen stays. Where ranks may be on several machines nothing is set.
void choose_transports(const Launch& launch) {
    if (!launch.one_node) return;
    ::setenv("OMPI_MCA_pml", "ob1", 0);
    ::setenv("OMPI_MCA_btl", "self,vader", 0);
}

}  // namespace

Launch find_launch(const std::function<std::optional<std::string>(const char* name)>& environment) {
    const auto get = [&](const char* name) { return number(environment(name)); };
    Launch launch;
    const auto set = [&](const char* launcher, int rank, int size) {
        launch = {size != 1, rank < 0 ? 0 : rank, size < 0 ? 0 : size, size == 1, launcher};
    };
    if (const int size = get("OMPI_COMM_WORLD_SIZE"); size > 0) {
        set("mpirun", get("OMPI_COMM_WORLD_RANK"), size);
        launch.one_node = get("OMPI_COMM_WORLD_LOCAL_SIZE") == size;
    } else if (environment("SLURM_STEP_ID") && get("SLURM_PROCID") >= 0) {
        // The variables of the step: those of the job are there in its batch script too, which is no rank.
        int tasks = get("SLURM_STEP_NUM_TASKS");
        if (tasks < 0) tasks = get("SLURM_NTASKS");
        set("srun", get("SLURM_PROCID"), tasks);
        launch.one_node = tasks > 0 && get("SLURM_STEP_NUM_NODES") == 1;
    } else if (const int processes = get("PMI_SIZE"); processes > 0) {
        set("the process manager (PMI)", get("PMI_RANK"), processes);
    } else if (get("PMIX_RANK") >= 0) {
        set("the process manager (PMIx)", get("PMIX_RANK"), -1);
    }
    return launch;
}

Launch find_launch() {
    return find_launch([](const char* name) -> std::optional<std::string> {
        const char* value = std::getenv(name);
        return value ? std::optional<std::string>(value) : std::nullopt;
    });
}

Session::Session() : exceptions_(std::uncaught_exceptions()) {
    const Launch launch = find_launch();
    parallel_ = launch.parallel;
    if (!parallel_) {
        world_ = self_communicator();
        return;
    }
    choose_transports(launch);
    mpi::start();
    world_ = mpi::world();
    check(launch.size == 0 || launch.size == world_->size(),
          "{} started {} processes but MPI sees {} (it was built without support for this launcher, so that each would "
          "do "
          "the whole work): under Slurm use srun --mpi=pmix, or mpirun inside the allocation",
          launch.launcher, launch.size, world_->size());
    set_log_rank(world_->rank(), world_->size());
}

Session::~Session() {
    if (!parallel_) return;
    if (std::uncaught_exceptions() > exceptions_) {
        log_here(LogLevel::error, "leaving because of an error; all ranks end");
        mpi::abort(1);
    }
    world_.reset();
    mpi::stop();
}

std::string Session::library() { return mpi::library(); }

void Session::abort(int code) {
    std::fflush(nullptr);
    if (parallel_) mpi::abort(code);
    ::_exit(code);
}

}  // namespace amalgam
