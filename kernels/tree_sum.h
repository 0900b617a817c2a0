// Sums over blocks in the aligned binary tree of block index: one shape for every number of ranks and threads.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace amalgam {

/// Adds vectors of `width` doubles, one for each block [0, blocks) of a tensor, given in any order, by any rank. At most
/// logarithmically many partial sums per contiguous run of blocks are kept.
class TreeSum {
  public:
    TreeSum(int64_t blocks, int64_t width) : blocks_(blocks), width_(width) {}

    /// Each block once.
    void add(int64_t block, std::vector<double> terms);
    /// Partial sums held here, as bytes for merge() on another rank.
    std::string partials() const;
    /// Takes over partial sums of other blocks.
    void merge(const std::string& partials);
    /// The whole sum, once every block is in; throws std::logic_error before.
    const std::vector<double>& total() const;

  private:
    void insert(int level, int64_t index, std::vector<double> sums);

    int64_t blocks_, width_;
    std::map<std::pair<int, int64_t>, std::vector<double>> held_;  ///< (level, index): blocks [index << level, ...)
};

}  // namespace amalgam
