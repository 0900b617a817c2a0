// Bounds of a continuous gene: a number without bounds becomes one within, smoothly.
#pragma once

namespace amalgam {

/// A gene's interval; either end may be infinite. The map is the identity except near a bound, where it is a parabola
/// that touches the bound; beyond that it goes back, so that every number has its place.
class Box {
  public:
    Box(double low, double high);

    double to_box(double raw) const;

    /// Of the numbers that to_box() takes to `value` the one nearest to `near`.
    double from_box(double value, double near) const;

  private:
    double inverse(double value) const;

    double low_, high_;
    double low_margin_ = 0, high_margin_ = 0;  ///< half widths of the parabolas
};

}  // namespace amalgam
