// Ranks on two axes: groups hold different models, the ranks of a group different shards of them.
#pragma once

namespace amalgam {

/// A group is a run of consecutive ranks, so that the ranks of a node hold what lies on its disks. The ranks of a row, one of
/// each group, own neighbouring shards: shard s belongs to row s / groups.
struct Grid {
    int ranks = 1, groups = 1;  ///< groups divides ranks

    constexpr int rows() const { return ranks / groups; }
    constexpr int group_of(int rank) const { return rank / rows(); }
    constexpr int row_of(int rank) const { return rank % rows(); }
    constexpr int rank_of(int group, int row) const { return group * rows() + row; }
    constexpr int shard_of(int rank) const { return row_of(rank) * groups + group_of(rank); }
};

/// `wanted`: --model-groups, 0 if it is not given; `declared`: Recipe::groups(). As many as the recipe names, else 1, unless told.
/// Throws Error if they do not divide the ranks, naming the numbers that do.
int choose_model_groups(int wanted, int declared, int ranks);

}  // namespace amalgam
