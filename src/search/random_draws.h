// Random numbers of the optimisers: addressed by seed, generation, candidate and gene, never a stream.
#pragma once
#include <cmath>
#include <cstdint>

#include "kernels/elementary.h"
#include "kernels/random.h"

namespace amalgam {

/// What a draw is for: draws for different purposes are independent.
enum class Draw : uint64_t { sample = 1, restart, population, parent, crossover, mutation };

/// The draws of one generation. Candidates and genes below 2^24. Bits are the same on every processor.
class Draws {
  public:
    Draws(uint64_t seed, int64_t generation) : seed_(seed), generation_(uint64_t(generation)) {}

    /// In the open interval (0, 1), a multiple of 2^-53.
    double uniform(Draw purpose, int64_t candidate, int64_t gene) const {
        return unit(words(purpose, candidate, gene).first);
    }

    /// Normally distributed, by Box and Muller.
    double normal(Draw purpose, int64_t candidate, int64_t gene) const {
        constexpr double pi = 3.14159265358979311600;
        const Pair pair = words(purpose, candidate, gene);
        return std::sqrt(-2 * exact_log(unit(pair.first))) * exact_cos(pi * unit(pair.second));
    }

    /// One of 0 .. count - 1.
    int64_t index(Draw purpose, int64_t candidate, int64_t gene, int64_t count) const {
        const auto drawn = int64_t(uniform(purpose, candidate, gene) * double(count));
        return drawn < count ? drawn : count - 1;
    }

  private:
    struct Pair {
        uint64_t first, second;
    };

    static double unit(uint64_t bits) { return (double(bits >> 12) + 0.5) * 0x1p-52; }

    Pair words(Draw purpose, int64_t candidate, int64_t gene) const {
        uint32_t drawn[4];
        const MaskAddress address{.seed = seed_, .tensor_hash = generation_, .position = uint64_t(purpose)};
        philox<1>(address, uint64_t(candidate) << 24 | uint64_t(gene), 0, drawn);
        return {uint64_t(drawn[1]) << 32 | drawn[0], uint64_t(drawn[3]) << 32 | drawn[2]};
    }

    uint64_t seed_, generation_;
};

}  // namespace amalgam
