// What tests on several ranks share.
#pragma once
#include "src/comm/communicator.h"

namespace amalgam {

/// All ranks of the test program. Every rank runs every test, in the same order.
Communicator& test_communicator();

}  // namespace amalgam
