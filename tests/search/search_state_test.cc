#include "src/search/search_state.h"

#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "src/base/error.h"
#include "tests/base/temporary_folder.h"

namespace amalgam {
namespace {

SearchState some_state() {
    SearchState state;
    state.key = "0123456789abcdef";
    state.phase = "ps";
    state.generation = 17;
    state.evaluations = int64_t(1) << 40;
    state.optimiser = std::string("line\nwith\0zero ä", 17);
    state.cut = "fedc";
    state.genes = {"a.weight[0]", "ä \" weight"};
    state.mean = {0.1, -std::numeric_limits<double>::denorm_min()};
    state.genomes = {{1, 2}, {3, 1e300}, {-0.0, 5}};
    state.objectives = {0.5, 0.25, 1. / 3};
    return state;
}

void expect_equal(const SearchState& a, const SearchState& b) {
    EXPECT_EQ(a.key, b.key);
    EXPECT_EQ(a.phase, b.phase);
    EXPECT_EQ(a.generation, b.generation);
    EXPECT_EQ(a.evaluations, b.evaluations);
    EXPECT_EQ(a.optimiser, b.optimiser);
    EXPECT_EQ(a.cut, b.cut);
    EXPECT_EQ(a.genes, b.genes);
    EXPECT_EQ(a.mean, b.mean);
    EXPECT_EQ(a.genomes, b.genomes);
    EXPECT_EQ(a.objectives, b.objectives);
}

TEST(SearchState, ComesBackAsItWas) {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/state.h5";
    EXPECT_FALSE(read_search_state(path));
    write_search_state(path, some_state());
    expect_equal(*read_search_state(path), some_state());
    EXPECT_FALSE(std::filesystem::exists(path + ".new"));
    // Over the old one; of optimisers without a mean, and searches of no cut.
    SearchState bare;
    bare.genes = {"g"};
    write_search_state(path, bare);
    expect_equal(*read_search_state(path), bare);
}

TEST(SearchState, AFileThatIsNoneIsSaid) {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/state.h5";
    std::ofstream(path) << "not HDF5 at all";
    EXPECT_THROW(read_search_state(path), Error);
    EXPECT_THROW(write_search_state(folder.path() + "/none/state.h5", some_state()), Error);
}

TEST(SearchState, DamageIsFoundOrDoesNoHarm) {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/state.h5";
    write_search_state(path, some_state());
    std::ifstream file(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    const auto put = [&](const std::string& text) { std::ofstream(path, std::ios::binary) << text; };
    for (size_t at = 0; at < bytes.size(); at += 7) {
        std::string damaged = bytes;
        damaged[at] = char(damaged[at] ^ 0x41);
        put(damaged);
        // Between the digest and HDF5's part there is nothing.
        if (at >= 40 && at < 512)
            EXPECT_EQ(read_search_state(path)->optimiser, some_state().optimiser) << at;
        else
            EXPECT_THROW(read_search_state(path), Error) << at;
    }
    for (size_t size = 0; size < bytes.size(); size += bytes.size() / 13) {
        put(bytes.substr(0, size));
        EXPECT_THROW(read_search_state(path), Error) << size;
    }
}

}  // namespace
}  // namespace amalgam
