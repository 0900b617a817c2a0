#include "src/plan/grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "src/base/error.h"

namespace amalgam {

int choose_model_groups(int wanted, int declared, int ranks) {
    const int groups = wanted > 0 ? wanted : std::max(declared, 1);
    check(declared == 0 || groups == declared || groups == 1,
          "--model-groups {}: the models of the recipe lie in {} groups: leave the option out, or give 1 if all ranks "
          "see all models",
          groups, declared);
    if (ranks % groups == 0) return groups;
    std::vector<int> divisors;
    for (int divisor = 1; divisor <= ranks; ++divisor)
        if (ranks % divisor == 0) divisors.push_back(divisor);
    if (wanted == 0)
        fail(
            "the models of the recipe lie in {} groups, which do not divide {} ranks: start a multiple of {} ranks, or "
            "give --model-groups 1 if all ranks see all models",
            groups, ranks, groups);
    fail("--model-groups {} does not divide {} rank{}: possible are {}", groups, ranks, ranks == 1 ? "" : "s",
         fmt::join(divisors, ", "));
}

}  // namespace amalgam
