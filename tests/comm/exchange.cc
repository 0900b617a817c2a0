#include "tests/comm/exchange.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace amalgam {
namespace {

/// The k-th message from a rank to another, which both can compute.
std::string message(int from, int to, size_t k, uint64_t bytes) {
    std::mt19937 random(unsigned(from * 1009 + to * 31) + unsigned(k) * 7919U);
    std::string text(bytes, '\0');
    for (char& c : text) c = char(random());
    return text;
}

}  // namespace

TestMemory host_test_memory() {
    return {[](const std::string& text) {
                std::shared_ptr<void> memory = std::make_unique<char[]>(text.size() + 1);
                std::memcpy(memory.get(), text.data(), text.size());
                return memory;
            },
            [](const void* memory, uint64_t bytes) { return std::string(static_cast<const char*>(memory), bytes); }};
}

void test_exchange(Transport& transport, const TestMemory& memory, int rank, int size,
                   const std::vector<uint64_t>& lengths, unsigned seed) {
    std::vector<std::shared_ptr<void>> kept;
    std::vector<Transfer> transfers;
    // A lane for each peer and direction, in order within, shuffled into each other.
    std::vector<size_t> next(size_t(size) * 2, 0), turns;
    for (size_t lane = 0; lane < next.size(); ++lane) turns.insert(turns.end(), lengths.size(), lane);
    std::mt19937 random(seed + unsigned(rank) * 101U);
    std::shuffle(turns.begin(), turns.end(), random);
    for (const size_t lane : turns) {
        const int peer = int(lane / 2);
        const size_t k = next[lane]++;
        const bool send = lane % 2 == 0;
        kept.push_back(memory.put(send ? message(rank, peer, k + seed, lengths[k]) : std::string(lengths[k], '?')));
        transfers.push_back(
            {send ? Transfer::Direction::send : Transfer::Direction::receive, peer, kept.back().get(), lengths[k]});
    }
    transport.start(transfers);
    transport.wait();
    std::fill(next.begin(), next.end(), size_t{0});
    for (const Transfer& transfer : transfers) {
        const bool send = transfer.direction == Transfer::Direction::send;
        const size_t k = next[size_t(transfer.peer) * 2 + size_t(!send)]++;
        ASSERT_EQ(memory.get(transfer.data, transfer.bytes), send ? message(rank, transfer.peer, k + seed, lengths[k])
                                                                  : message(transfer.peer, rank, k + seed, lengths[k]))
            << "message " << k << " of " << transfer.bytes << (send ? " bytes to rank " : " bytes from rank ")
            << transfer.peer;
    }
}

}  // namespace amalgam
