// A smooth function through scored points, with what the scores leave open taken for noise.
#pragma once
#include <vector>

namespace amalgam {

/// Gaussian process with a squared-exponential kernel, one length scale, and noise (Rasmussen and Williams, Gaussian Processes
/// for Machine Learning, 2006: equations 2.25 and 5.8). Its prior mean is that of the values; its scale follows from them.
/// Length scale and noise are those of a small grid with the largest evidence. The same bits on every processor.
class GaussianProcess {
  public:
    /// `values[k]` was found at `points[k]`; all points have as many coordinates. Values must be finite.
    GaussianProcess(std::vector<std::vector<double>> points, const std::vector<double>& values);

    /// False if there is nothing to learn: fewer than two points, or equal values, or equal points.
    bool is_fitted() const { return !weights_.empty(); }
    /// The expected value at a place, and its gradient there if that is asked for.
    double expect(const std::vector<double>& at, std::vector<double>* gradient = nullptr) const;
    /// The middle one of the distances between two points.
    double typical_distance() const { return typical_; }
    double length() const { return length_; }
    /// Variance of the noise, as a share of the function's.
    double noise() const { return noise_; }
    /// Logarithm of the marginal likelihood, but for a constant.
    double evidence() const { return evidence_; }

  private:
    void fit(const std::vector<double>& squared, const std::vector<double>& centred, double length, double noise);

    std::vector<std::vector<double>> points_;
    std::vector<double> weights_;  ///< of the kernel at each point
    double prior_ = 0, typical_ = 0, length_ = 0, noise_ = 0, evidence_ = 0;
};

}  // namespace amalgam
