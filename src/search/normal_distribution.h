// The standard normal distribution.
#pragma once

namespace amalgam {

/// Probability of a number below x.
double normal_below(double x);

/// x that a normal number exceeds with this probability; within (0, 1), exact to a few units in the last place.
double normal_exceeded_with(double probability);

}  // namespace amalgam
