// Constants of CMA-ES.
#pragma once
#include <cstdint>
#include <vector>

namespace amalgam {

struct CmaVariant {
    bool active = true;     ///< the worst have negative weights
    bool diagonal = false;  ///< sep-CMA: rates of the covariance times (genes + 2) / 3
};

struct CmaConstants {
    int64_t genes = 0, population = 0, parents = 0;
    double mu_effective = 0, mu_effective_negative = 0;
    double sigma_rate = 0, sigma_damping = 0;  ///< c_sigma, d_sigma
    double path_rate = 0;                      ///< c_c
    double rank_one_rate = 0, rank_mu_rate = 0;
    double expected_length = 0;   ///< of a vector of standard normal numbers
    std::vector<double> weights;  ///< best first; the positive ones, of the parents, have the sum 1
    int64_t path_start = 1;       ///< generation g counts as g + path_start where the path's length is judged
};

/// 4 + floor(3 ln genes).
int64_t default_population(int64_t genes);

/// Population of 4 and more.
CmaConstants cma_constants(int64_t genes, int64_t population, const CmaVariant& variant);

/// Sets the weights from the rates and from the unscaled weights ln((population + 1) / 2) - ln i.
void set_weights(CmaConstants& constants, bool active);

}  // namespace amalgam
