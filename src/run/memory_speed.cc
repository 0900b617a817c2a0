#include "src/run/memory_speed.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "src/base/thread_pool.h"

namespace amalgam {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t least_bytes = uint64_t(16) << 20;
constexpr uint64_t most_bytes = uint64_t(512) << 20;  ///< more than caches hold

uint64_t sum_of(const uint64_t* words, size_t count) {
    uint64_t sums[8] = {};
    for (size_t i = 0; i < count; i += 8)
        for (size_t lane = 0; lane < 8; ++lane) sums[lane] += words[i + lane];
    uint64_t sum = 0;
    for (uint64_t each : sums) sum += each;
    return sum;
}

}  // namespace

double memory_read_speed(Communicator& world, int threads, uint64_t memory, uint64_t moved) {
    const uint64_t of_node = moved / uint64_t(world.size()) * uint64_t(std::max(1, world.node_size()));
    const uint64_t wanted = std::clamp(of_node, least_bytes, most_bytes) / uint64_t(std::max(1, world.node_size()));
    if (world.all_reduce_min(uint64_t(memory >= wanted ? 1 : 0)) == 0) return 0;
    ThreadPool pool(threads);
    const size_t words = size_t(wanted / uint64_t(pool.threads()) / 64 * 8);
    std::vector<std::unique_ptr<uint64_t[]>> pieces(size_t(pool.threads()));
    // Each thread reads what it wrote: memory of its own socket.
    pool.parallel_for(pool.threads(), [&](int64_t piece, int) {
        pieces[size_t(piece)].reset(new uint64_t[words]);
        std::memset(pieces[size_t(piece)].get(), 1, words * sizeof(uint64_t));
    });
    const uint64_t bytes = world.all_reduce_sum(uint64_t(words * sizeof(uint64_t) * pieces.size()));
    std::vector<uint64_t> sums(pieces.size());
    double best = 0;
    for (int pass = 0; pass < 3; ++pass) {
        world.barrier();
        const auto start = Clock::now();
        pool.parallel_for(pool.threads(), [&](int64_t piece, int) {
            sums[size_t(piece)] += sum_of(pieces[size_t(piece)].get(), words);
        });
        // Where ranks take turns on a core, each alone would seem to have all of the memory's speed.
        const auto own = uint64_t(std::chrono::nanoseconds(Clock::now() - start).count());
        best = std::max(best, double(bytes) / (double(std::max<uint64_t>(world.all_reduce_max(own), 1)) / 1e9));
    }
    // A sum that nobody looks at would not be computed.
    uint64_t all = 0;
    for (uint64_t sum : sums) all |= sum;
    return world.all_reduce_max(all) != 0 ? best : 0;
}

}  // namespace amalgam
