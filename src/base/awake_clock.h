// Time that does not pass while the process is stopped.
#pragma once
#include <chrono>

namespace amalgam {

/// Seconds since the first question, without those in which the process did not run (SIGSTOP, a job that Slurm suspends, a
/// laptop that sleeps): other ranks were stopped too, and could not answer. It knows by being asked often: more than
/// `longest_gap` seconds between two questions are taken for a stop. Not for several threads.
class AwakeClock {
  public:
    static constexpr double longest_gap = 5;

    double now() {
        return at(std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count());
    }
    /// The same at a time of some other clock, in seconds.
    double at(double seconds) {
        const double gap = asked_ ? seconds - last_ : 0;
        if (gap <= longest_gap) awake_ += gap;
        asked_ = true;
        last_ = seconds;
        return awake_;
    }

  private:
    bool asked_ = false;
    double last_ = 0, awake_ = 0;
};

}  // namespace amalgam
