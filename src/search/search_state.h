// Where a search stands between two generations, as a file of HDF5: a restart goes on from there, and numpy reads it.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace amalgam {

struct SearchState {
    std::string key;          ///< of the search: what its trajectory depends on
    std::string phase;        ///< ps or dfs
    int64_t generation = 0;   ///< the next one
    int64_t evaluations = 0;  ///< so far
    std::string optimiser;    ///< Optimiser::save()
    std::string cut;          ///< hash of the recipe that the next generation races against; "": none
    std::vector<std::string> genes;
    std::vector<double> mean;                  ///< of the distribution; empty if the optimiser has none
    std::vector<std::vector<double>> genomes;  ///< of the last generation
    std::vector<double> objectives;            ///< likewise; NaN: no score
};

/// The file is whole at any moment: a new one is written, synced and renamed. Throws Error with the place and the reason.
void write_search_state(const std::string& path, const SearchState& state);

/// Nothing if there is no file. Throws Error for one that is no such state.
std::optional<SearchState> read_search_state(const std::string& path);

}  // namespace amalgam
