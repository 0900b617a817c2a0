// Learning rates that follow the ratio of signal to noise (LRA-CMA-ES).
#pragma once
#include "src/search/cma_model.h"
#include "src/search/optimiser_state.h"

namespace amalgam {

/// Takes a model from before an update and after it, and goes only part of that way: less where updates contradict
/// each other.
class LearningRates {
  public:
    LearningRates(int64_t genes, bool diagonal);
    void reset();
    void adapt(const CmaModel& before, CmaModel& after);
    double mean_rate() const { return mean_.rate; }
    double covariance_rate() const { return covariance_.rate; }
    void exchange(OptimiserState& state);

  private:
    struct Signal {
        Vector average;    ///< of the steps, in the coordinates of the distribution
        double power = 0;  ///< average of their squared lengths
        double rate = 1;
    };
    static void follow(Signal& signal, const Vector& step, double memory);

    int64_t genes_;
    bool diagonal_;
    Signal mean_, covariance_;
};

}  // namespace amalgam
