#include "src/plan/grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "src/base/error.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

std::string error_of(int wanted, int declared, int ranks) {
    try {
        choose_model_groups(wanted, declared, ranks);
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

TEST(Grid, ranks_of_a_group_are_neighbours_and_shards_of_a_row_too) {
    const Grid grid{6, 3};
    for (int rank = 0; rank < 6; ++rank) {
        EXPECT_EQ(grid.group_of(rank), rank / 2);
        EXPECT_EQ(grid.row_of(rank), rank % 2);
        EXPECT_EQ(grid.rank_of(grid.group_of(rank), grid.row_of(rank)), rank);
    }
    // Shards 0, 1, 2 are row 0: ranks 0, 2, 4.
    EXPECT_EQ(grid.shard_of(0), 0);
    EXPECT_EQ(grid.shard_of(2), 1);
    EXPECT_EQ(grid.shard_of(4), 2);
    EXPECT_EQ(grid.shard_of(1), 3);
    EXPECT_EQ(grid.shard_of(5), 5);
}

TEST(Grid, groups_are_those_of_the_recipe_or_those_wanted) {
    EXPECT_EQ(choose_model_groups(0, 0, 7), 1);
    EXPECT_EQ(choose_model_groups(0, 3, 6), 3);
    EXPECT_EQ(choose_model_groups(3, 3, 3), 3);
    EXPECT_EQ(choose_model_groups(2, 0, 6), 2);
    EXPECT_EQ(choose_model_groups(1, 3, 4), 1);  // all ranks see all disks
    EXPECT_EQ(choose_model_groups(4096, 0, 4096), 4096);
}

TEST(Grid, groups_that_do_not_divide_the_ranks) {
    EXPECT_EQ(error_of(4, 0, 6), "--model-groups 4 does not divide 6 ranks: possible are 1, 2, 3, 6");
    EXPECT_EQ(error_of(2, 0, 1), "--model-groups 2 does not divide 1 rank: possible are 1");
    EXPECT_THAT(error_of(0, 4, 6),
                HasSubstr("lie in 4 groups, which do not divide 6 ranks: start a multiple of 4 ranks"));
    EXPECT_THAT(error_of(2, 3, 6), HasSubstr("--model-groups 2: the models of the recipe lie in 3 groups"));
}

}  // namespace
}  // namespace amalgam
