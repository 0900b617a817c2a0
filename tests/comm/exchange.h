// Messages between all ranks in groups of random order, for tests of transports.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/comm/transport.h"

namespace amalgam {

/// A transport's memory: put() copies text into it, get() the other way.
struct TestMemory {
    std::function<std::shared_ptr<void>(const std::string& text)> put;
    std::function<std::string(const void* memory, uint64_t bytes)> get;
};

TestMemory host_test_memory();

/// Every rank sends messages of these lengths to every rank, itself too, in one group whose order is its own. Collective.
void test_exchange(Transport& transport, const TestMemory& memory, int rank, int size,
                   const std::vector<uint64_t>& lengths, unsigned seed);

}  // namespace amalgam
