// Waiting for other ranks: politely, and not for ever.
#pragma once
#include "src/base/awake_clock.h"

namespace amalgam {

/// AMALGAM_NETWORK_SECONDS of the environment, else 25 minutes: a rank may wait long for slower ones, but should say what it
/// waited for before the watchdog ends it.
double network_seconds();

/// A limit to waiting that begins anew whenever something moves. Time in which the process is stopped does not count.
class Patience {
  public:
    /// 0 or less: no limit.
    explicit Patience(double seconds) : seconds_(seconds), moved_(clock_.now()) {}

    void moved() { moved_ = clock_.now(); }
    /// Leaves the core to others for a moment. False once the limit has passed.
    bool wait();
    double seconds() const { return seconds_; }

  private:
    AwakeClock clock_;
    double seconds_, moved_;
};

}  // namespace amalgam
