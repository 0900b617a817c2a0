// The normal distribution that CMA-ES samples from, and how it learns.
#pragma once
#include <cstdint>
#include <vector>

#include "src/search/cma_constants.h"
#include "src/search/optimiser_state.h"

namespace amalgam {

using Vector = std::vector<double>;

/// One generation's steps, best first: y of x = mean + sigma y.
struct CmaSteps {
    std::vector<Vector> steps;
    Vector mean_weights;        ///< of the mean: none below 0
    Vector covariance_weights;  ///< of the covariance
    /// What is taken from the mean's step: what genes without a part add to it.
    Vector idle_shift;     ///< empty: nothing
    bool foreign = false;  ///< has steps that were not drawn: sigma grows by e at most
};

class CmaModel {
  public:
    /// Covariance matrices are diagonal in a `diagonal` model and take no more memory than the mean.
    CmaModel(int64_t genes, bool diagonal) : genes_(genes), diagonal_(diagonal) {}

    void start(Vector mean, double sigma);

    /// y with the distribution's covariance, of standard normal numbers z.
    Vector step(const Vector& z) const;
    /// z of a y, turned: as long as z, so that a length says how rare a step is.
    Vector whiten(const Vector& y) const;

    void learn(const CmaSteps& generation, const CmaConstants& constants);

    const Vector& mean() const { return mean_; }
    Vector& mean() { return mean_; }
    double sigma() const { return sigma_; }
    /// Standard deviation of coordinate i without sigma.
    double deviation(int64_t i) const;
    /// Square roots of the covariance's eigenvalues.
    const Vector& lengths() const { return lengths_; }
    /// Axis j, of length 1.
    Vector axis(int64_t j) const;
    double condition() const;
    const Vector& path() const { return path_; }
    const Vector& sigma_path() const { return sigma_path_; }
    const Vector& covariance() const { return covariance_; }
    int64_t generation() const { return generation_; }
    bool diagonal() const { return diagonal_; }

    void scale_sigma(double factor);
    /// Another mean, and another sigma^2 C: sigma becomes the mean length of its axes, times `factor`. False, and
    /// nothing changed, if that matrix is not positive definite.
    bool replace_scaled(Vector mean, Vector scaled_covariance, double factor);

    void exchange(OptimiserState& state);

  private:
    void learn_covariance(const CmaSteps& generation, const CmaConstants& constants, double stalled);
    void decompose();
    double& entry(int64_t i, int64_t j) { return covariance_[size_t(i * genes_ + j)]; }

    int64_t genes_;
    bool diagonal_;
    Vector mean_, sigma_path_, path_;
    Vector covariance_;      ///< genes x genes, or the diagonal
    Vector axes_, lengths_;  ///< eigenvectors in columns (none if diagonal), square roots of the eigenvalues
    double sigma_ = 1;
    int64_t generation_ = 0, decomposed_ = 0;
};

}  // namespace amalgam
