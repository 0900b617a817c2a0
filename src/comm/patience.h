// Waiting for other ranks: politely, and not for ever.
#pragma once
#include <chrono>

namespace amalgam {

/// AMALGAM_NETWORK_SECONDS of the environment, else 25 minutes: a rank may wait long for slower ones, but should say what it
/// waited for before the watchdog ends it.
double network_seconds();

/// A limit to waiting that begins anew whenever something moves.
class Patience {
  public:
    /// 0 or less: no limit.
    explicit Patience(double seconds) : seconds_(seconds), moved_(Clock::now()) {}

    void moved() { moved_ = Clock::now(); }
    /// Leaves the core to others for a moment. False once the limit has passed.
    bool wait();
    double seconds() const { return seconds_; }

  private:
    using Clock = std::chrono::steady_clock;
    double seconds_;
    Clock::time_point moved_;
};

}  // namespace amalgam
