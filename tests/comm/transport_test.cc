#include "src/comm/transport.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "src/base/error.h"
#include "src/comm/staged_transport.h"
#include "tests/comm/exchange.h"
#include "tests/mpi_main.h"

namespace amalgam {
namespace {

constexpr int64_t chunk = 64;
const std::vector<uint64_t> lengths = {0, 1, 7, 64, 65, 127, 128, 129, 1000, 5 * 64 + 3};

/// Memory that only copies reach: it is stored with every bit inverted.
void invert(void* to, const void* from, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes; ++i)
        static_cast<unsigned char*>(to)[i] = static_cast<unsigned char>(~static_cast<const unsigned char*>(from)[i]);
}

enum class Kind { host, staged, staged_small };

class Transports : public testing::TestWithParam<Kind> {
  protected:
    Transports() : world_(test_communicator()), rank_(world_.rank()), size_(world_.size()) {
        world_.set_chunk_bytes(chunk);
        transport_ = make(world_);
    }
    ~Transports() override {
        transport_.reset();
        world_.set_chunk_bytes(int64_t{1} << 30);
    }

    std::unique_ptr<Transport> make(Communicator& ranks) {
        if (GetParam() == Kind::host) return ranks.transport();
        return staged_transport(ranks.transport(), {invert, invert}, GetParam() == Kind::staged ? 1 << 20 : 50);
    }
    /// As it lies in the transport's memory.
    std::string stored(std::string text) const {
        if (GetParam() != Kind::host) invert(text.data(), text.data(), text.size());
        return text;
    }

    void exchange(Transport& transport, const std::vector<uint64_t>& sizes, unsigned seed, int rank, int size) {
        TestMemory memory = host_test_memory();
        const TestMemory host = memory;
        memory.put = [this, host](const std::string& text) { return host.put(stored(text)); };
        memory.get = [this, host](const void* data, uint64_t bytes) { return stored(host.get(data, bytes)); };
        test_exchange(transport, memory, rank, size, sizes, seed);
    }

    Communicator& world_;
    const int rank_, size_;
    std::unique_ptr<Transport> transport_;
};

TEST_P(Transports, GroupsOfAllLengthsInAnyOrder) {
    for (unsigned seed = 0; seed < 20; ++seed) exchange(*transport_, lengths, seed, rank_, size_);
}

TEST_P(Transports, ManyMessages) {
    exchange(*transport_, std::vector<uint64_t>(300, 9), 1, rank_, size_);
    exchange(*transport_, {(1 << 16) + 5}, 2, rank_, size_);
}

TEST_P(Transports, EmptyGroups) {
    transport_->start({});
    transport_->wait();
    exchange(*transport_, {}, 1, rank_, size_);
    exchange(*transport_, {0}, 2, rank_, size_);
}

/// The chain of the model axis: each rank adds its part to what comes from the one before it.
TEST_P(Transports, Chain) {
    std::string text = stored(std::string(333, '\0'));
    if (rank_ > 0) {
        const Transfer transfer = {Transfer::Direction::receive, rank_ - 1, text.data(), text.size()};
        transport_->start({&transfer, 1});
        transport_->wait();
    }
    text = stored(text);
    for (char& c : text) c = char(c + rank_ + 1);
    const std::string expected(333, char((rank_ + 1) * (rank_ + 2) / 2));
    EXPECT_EQ(text, expected);
    text = stored(text);
    if (rank_ + 1 < size_) {
        const Transfer transfer = {Transfer::Direction::send, rank_ + 1, text.data(), text.size()};
        transport_->start({&transfer, 1});
        transport_->wait();
    }
}

TEST_P(Transports, DoNotMeetOtherMessages) {
    const std::unique_ptr<Transport> other = make(world_);
    const int to = (rank_ + 1) % size_, from = (rank_ + size_ - 1) % size_;
    std::string first = stored("first"), second = stored("other"), received_first(5, '?'), received_second(5, '?');
    const auto group = [&](std::string& sent, std::string& received) {
        return std::vector<Transfer>{{Transfer::Direction::send, to, sent.data(), sent.size()},
                                     {Transfer::Direction::receive, from, received.data(), received.size()}};
    };
    transport_->start(group(first, received_first));
    other->start(group(second, received_second));
    EXPECT_EQ(world_.all_reduce_sum(uint64_t{1}), uint64_t(size_));
    if (size_ > 1 && rank_ == 0) world_.send(std::string("hello"), 1, 0);
    if (rank_ == 1) {
        EXPECT_EQ(world_.receive(0, 0), "hello");
    }
    other->wait();
    transport_->wait();
    EXPECT_EQ(received_first, first);
    EXPECT_EQ(received_second, second);
}

TEST_P(Transports, OfARange) {
    const int middle = (size_ + 1) / 2;
    const bool low = rank_ < middle;
    const std::unique_ptr<Communicator> half = world_.range(low ? 0 : middle, low ? middle : size_);
    const std::unique_ptr<Transport> transport = make(*half);
    exchange(*transport, {3, 200, 64}, low ? 5 : 6, half->rank(), half->size());
}

TEST_P(Transports, Misuse) {
    char bytes[2] = {};
    const Transfer beyond = {Transfer::Direction::send, size_, bytes, 1};
    const std::unique_ptr<Transport> broken = make(world_);
    EXPECT_THROW(broken->start({&beyond, 1}), Error);
    const std::unique_ptr<Transport> twice = make(world_);
    twice->start({});
    EXPECT_THROW(twice->start({}), Error);
    twice->wait();
    EXPECT_THROW(twice->wait(), Error);
    for (const uint64_t sent : {0, 2}) {
        SCOPED_TRACE(sent);
        const std::unique_ptr<Transport> uneven = make(world_);
        const Transfer pair[2] = {{Transfer::Direction::send, rank_, bytes, sent},
                                  {Transfer::Direction::receive, rank_, bytes, 1}};
        EXPECT_THROW(uneven->start(pair); uneven->wait(), Error);
    }
}

TEST_P(Transports, ANeighbourThatNeverComes) {
    ::setenv("AMALGAM_NETWORK_SECONDS", "0.3", 1);
    const std::unique_ptr<Transport> transport = make(world_);
    ::unsetenv("AMALGAM_NETWORK_SECONDS");
    std::string text(10, '?');
    if (rank_ == 0) {
        const Transfer transfer = {Transfer::Direction::receive, size_ - 1, text.data(), text.size()};
        try {
            transport->start({&transfer, 1});
            transport->wait();
            ADD_FAILURE() << "a message from nobody";
        } catch (const Error& error) {
            EXPECT_THAT(error.what(), testing::HasSubstr(size_ == 1 ? "0 messages" : "rank 0 waited 0.3 seconds"));
        }
    }
    world_.barrier();
}

INSTANTIATE_TEST_SUITE_P(Kinds, Transports, testing::Values(Kind::host, Kind::staged, Kind::staged_small));

}  // namespace
}  // namespace amalgam
