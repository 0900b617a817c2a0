// A test that fails on the last rank only: the runner of tests on several ranks must notice.
#include <gmock/gmock.h>

#include "tests/mpi_main.h"

namespace {

TEST(FailingRank, FailsOnTheLast) {
    const amalgam::Communicator& world = amalgam::test_communicator();
    EXPECT_LT(world.rank(), world.size() - 1) << "as it should";
}

}  // namespace
