#include "src/comm/communicator.h"

#include <gmock/gmock.h>

#include <map>
#include <numeric>

#include "tests/mpi_main.h"

namespace amalgam {
namespace {

using testing::ElementsAre;

constexpr int64_t chunk = 64;

/// With messages of 64 bytes, lengths around them cross every border.
class Ranks : public testing::Test {
  protected:
    Ranks() : world_(test_communicator()), rank_(world_.rank()), size_(world_.size()) { world_.set_chunk_bytes(chunk); }
    ~Ranks() override { world_.set_chunk_bytes(int64_t{1} << 30); }

    Communicator& world_;
    const int rank_, size_;
};

const std::vector<int64_t> lengths = {
    0, 1, 2, 7, 8, 9, chunk / 8 - 1, chunk / 8 + 1, chunk - 1, chunk, chunk + 1, 5 * chunk + 3};

/// Text that differs by rank, and all along.
std::string text_of(int rank, int64_t length) {
    std::string text;
    for (int64_t i = 0; i < length; ++i) text += char(rank * 37 + i * 11 + i / 64);
    return text;
}

TEST_F(Ranks, SumsOfEveryType) {
    for (const int64_t length : lengths) {
        const auto count = static_cast<size_t>(length);
        std::vector<uint64_t> wide(count);
        std::vector<int64_t> with_sign(count);
        std::vector<uint32_t> narrow(count);
        for (size_t i = 0; i < count; ++i) {
            wide[i] = (uint64_t{1} << 40) * i + uint64_t(rank_) + 1;
            with_sign[i] = (rank_ % 2 ? 1 : -1) * (int64_t(i) + (int64_t{1} << 40));
            narrow[i] = uint32_t(i * 1000 + size_t(rank_));
        }
        world_.all_reduce_sum(std::span(wide));
        world_.all_reduce_sum(std::span(with_sign));
        world_.all_reduce_sum(std::span(narrow));
        const uint64_t ranks = uint64_t(size_);
        for (size_t i = 0; i < count; ++i) {
            ASSERT_EQ(wide[i], (uint64_t{1} << 40) * i * ranks + ranks * (ranks + 1) / 2);
            ASSERT_EQ(with_sign[i], ranks % 2 ? -(int64_t(i) + (int64_t{1} << 40)) : 0);
            ASSERT_EQ(narrow[i], uint32_t(i * 1000 * ranks + ranks * (ranks - 1) / 2));
        }
    }
}

TEST_F(Ranks, EveryNthAndNewNumbers) {
    for (int step = 1; step <= size_; ++step) {
        const std::unique_ptr<Communicator> part = world_.every(rank_ % step, size_, step);
        EXPECT_EQ(part->rank(), rank_ / step);
        EXPECT_EQ(part->size(), (size_ - rank_ % step + step - 1) / step);
        uint64_t sum = 0;
        for (int rank = rank_ % step; rank < size_; rank += step) sum += uint64_t(1) << rank;
        EXPECT_EQ(part->all_reduce_sum(uint64_t(1) << rank_), sum);
    }
    const std::unique_ptr<Communicator> backwards = world_.renumber(size_ - 1 - rank_);
    EXPECT_EQ(backwards->rank(), size_ - 1 - rank_);
    const std::vector<std::string> texts = backwards->all_gather(text_of(rank_, 10 + rank_));
    for (int rank = 0; rank < size_; ++rank)
        EXPECT_EQ(texts[size_t(rank)], text_of(size_ - 1 - rank, 10 + size_ - 1 - rank));
}

TEST_F(Ranks, UnsignedSumsWrap) {
    EXPECT_EQ(world_.all_reduce_sum(rank_ == 0 ? ~uint64_t{0} : uint64_t{1}), uint64_t(size_) - 2);
}

TEST_F(Ranks, Extremes) {
    std::vector<uint64_t> high(100), low(100);
    for (size_t i = 0; i < 100; ++i) high[i] = low[i] = i * 10 + uint64_t(rank_);
    world_.all_reduce_max(std::span(high));
    world_.all_reduce_min(std::span(low));
    for (size_t i = 0; i < 100; ++i) {
        ASSERT_EQ(high[i], i * 10 + uint64_t(size_) - 1);
        ASSERT_EQ(low[i], i * 10);
    }
    // Above 2^63: unsigned order.
    EXPECT_EQ(world_.all_reduce_max(~uint64_t{0} - uint64_t(rank_)), ~uint64_t{0});
    EXPECT_EQ(world_.all_reduce_min(~uint64_t{0} - uint64_t(rank_)), ~uint64_t{0} - uint64_t(size_ - 1));
}

TEST_F(Ranks, SumsOverTheRanksBefore) {
    for (const int64_t length : lengths) {
        std::vector<uint64_t> values(static_cast<size_t>(length), uint64_t(rank_) + 1);
        std::iota(values.begin(), values.end(), uint64_t(rank_) * 1000);
        world_.exclusive_sum(std::span(values));
        const uint64_t before = uint64_t(rank_);
        for (size_t i = 0; i < values.size(); ++i)
            ASSERT_EQ(values[i], before * i + 1000 * (before * (before - 1) / 2));
    }
}

TEST_F(Ranks, BroadcastOfAnyLength) {
    for (int root = 0; root < size_; ++root) {
        for (const int64_t length : lengths) {
            std::string text = text_of(rank_, rank_ == root ? length : 3);
            world_.broadcast(text, root);
            ASSERT_EQ(text, text_of(root, length));

            std::string bytes = text_of(rank_, length);
            world_.broadcast(std::as_writable_bytes(std::span<char>(bytes)), root);
            ASSERT_EQ(bytes, text_of(root, length));
        }
    }
    std::string text;
    EXPECT_THROW(world_.broadcast(text, size_), Error);
    EXPECT_THROW(world_.broadcast(text, -1), Error);
}

TEST_F(Ranks, GatherOfUnequalLengths) {
    for (const int64_t length : lengths) {
        // Rank 1 has much, rank 2 nothing.
        const auto own = [&](int rank) { return text_of(rank, rank == 2 ? 0 : rank == 1 ? length * 3 : length); };
        const std::vector<std::string> everywhere = world_.all_gather(own(rank_));
        ASSERT_EQ(everywhere.size(), size_t(size_));
        for (int rank = 0; rank < size_; ++rank) ASSERT_EQ(everywhere[size_t(rank)], own(rank));
        for (int root = 0; root < size_; ++root) {
            const std::vector<std::string> there = world_.gather(own(rank_), root);
            if (rank_ == root)
                ASSERT_EQ(there, everywhere);
            else
                ASSERT_TRUE(there.empty());
        }
    }
}

TEST_F(Ranks, MessagesInARing) {
    if (size_ == 1) {
        EXPECT_THROW(world_.send(std::string("x"), 0, 0), Error);
        EXPECT_THROW(world_.receive(0, 0), Error);
        return;
    }
    const int next = (rank_ + 1) % size_, previous = (rank_ + size_ - 1) % size_;
    for (const int64_t length : lengths) {
        const std::string mine = text_of(rank_, length);
        std::string into(static_cast<size_t>(length), '\0');
        // Even ranks speak first; for an odd number of ranks the chain unwinds from the last.
        if (rank_ % 2 == 0) world_.send(mine, next, 17);
        const std::string got = world_.receive(previous, 17);
        if (rank_ % 2 == 1) world_.send(mine, next, 17);
        ASSERT_EQ(got, text_of(previous, length));
        if (rank_ % 2 == 0) world_.send(mine, next, 30000);
        world_.receive(std::as_writable_bytes(std::span<char>(into)), previous, 30000);
        if (rank_ % 2 == 1) world_.send(mine, next, 30000);
        ASSERT_EQ(into, text_of(previous, length));
    }
    EXPECT_THROW(world_.send(std::string("x"), rank_, 0), Error);
    EXPECT_THROW(world_.send(std::string("x"), next, 30001), Error);
    EXPECT_THROW(world_.send(std::string("x"), next, -1), Error);
    EXPECT_THROW(world_.receive(size_, 0), Error);
}

TEST_F(Ranks, TagsKeepMessagesApart) {
    if (size_ == 1) GTEST_SKIP() << "needs two ranks";
    if (rank_ == 0) {
        world_.send(std::string("first"), 1, 1);
        world_.send(std::string("second"), 1, 2);
    } else if (rank_ == 1) {
        EXPECT_EQ(world_.receive(0, 2), "second");
        EXPECT_EQ(world_.receive(0, 1), "first");
    }
}

TEST_F(Ranks, WrongLengthIsAnError) {
    if (size_ == 1) GTEST_SKIP() << "needs two ranks";
    if (rank_ == 0) world_.send(std::string(), 1, 1);
    if (rank_ == 1) {
        std::byte four[4];
        EXPECT_THROW(world_.receive(std::span<std::byte>(four), 0, 1), Error);
    }
}

TEST_F(Ranks, LettersOfAnyLengthComeInOrder) {
    if (size_ == 1) return;
    EXPECT_THROW(world_.mailbox(30001), Error);
    const auto mail = world_.mailbox(40);
    EXPECT_FALSE(mail->receive());
    world_.barrier();
    for (const int64_t length : lengths)
        for (int to = 0; to < size_; ++to)
            if (to != rank_) mail->send(text_of(rank_, length), to);
    std::map<int, size_t> come;
    for (size_t left = lengths.size() * size_t(size_ - 1); left > 0;) {
        const auto letter = mail->receive();
        if (!letter) continue;
        EXPECT_EQ(letter->bytes, text_of(letter->from, lengths.at(come[letter->from]++)));
        --left;
    }
    EXPECT_TRUE(mail->flush(60));
    world_.barrier();
}

TEST_F(Ranks, NobodyWaitsForAMailboxThatNobodyEmpties) {
    if (size_ == 1) return;
    world_.set_chunk_bytes(int64_t{1} << 30);
    const std::string text = text_of(rank_, 3'000'001);
    const auto mail = world_.mailbox(41);
    if (rank_ == 0) {
        // Too long to be on its way without the other end.
        mail->send(text, 1);
        EXPECT_FALSE(mail->flush(0.2));
        EXPECT_FALSE(mail->receive());
    }
    world_.barrier();
    EXPECT_TRUE(mail->flush(60));
    if (rank_ != 1) return;
    auto letter = mail->receive();
    while (!letter) letter = mail->receive();
    EXPECT_EQ(letter->from, 0);
    EXPECT_EQ(letter->bytes, text_of(0, 3'000'001));
}

TEST_F(Ranks, RangesOfRanks) {
    for (int first = 0; first < size_; ++first) {
        for (int last = first + 1; last <= size_; ++last) {
            if (rank_ < first || rank_ >= last) continue;  // the others go on to the next group
            const std::unique_ptr<Communicator> part = world_.range(first, last);
            ASSERT_EQ(part->size(), last - first);
            ASSERT_EQ(part->rank(), rank_ - first);
            ASSERT_EQ(part->node_size(), last - first);
            ASSERT_EQ(part->node_rank(), rank_ - first);
            ASSERT_EQ(part->all_reduce_sum(uint64_t(rank_)), uint64_t((first + last - 1) * (last - first) / 2));
            const std::vector<std::string> texts = part->all_gather(text_of(rank_, 3 * chunk));
            for (int rank = first; rank < last; ++rank)
                ASSERT_EQ(texts[size_t(rank - first)], text_of(rank, 3 * chunk));
            const std::unique_ptr<Communicator> self = part->range(part->rank(), part->rank() + 1);
            ASSERT_EQ(self->size(), 1);
            ASSERT_EQ(self->all_reduce_sum(uint64_t{7}), 7u);
        }
    }
    EXPECT_THROW(world_.range(0, size_ + 1), Error);
    EXPECT_THROW(world_.range(rank_ + 1, size_), Error);
    EXPECT_THROW(world_.range(rank_, rank_), Error);
}

TEST_F(Ranks, EveryNthRank) {
    for (int step = 1; step <= size_; ++step) {
        const int first = rank_ % step;
        const std::unique_ptr<Communicator> part = world_.every(first, size_, step);
        ASSERT_EQ(part->rank(), rank_ / step);
        const std::vector<std::string> ranks = part->all_gather(std::to_string(rank_));
        ASSERT_EQ(int(ranks.size()), (size_ - first + step - 1) / step);
        ASSERT_EQ(part->node_size(), part->size());
        for (int i = 0; i < part->size(); ++i) ASSERT_EQ(ranks[size_t(i)], std::to_string(first + i * step));
    }
    EXPECT_THROW(world_.every(0, size_, 0), Error);
}

TEST_F(Ranks, AllOnThisMachine) {
    EXPECT_EQ(world_.node_size(), size_);
    EXPECT_EQ(world_.node_rank(), rank_);
}

TEST_F(Ranks, AgreeOnTheFirstError) {
    EXPECT_NO_THROW(world_.agree(""));
    for (int failing = 0; failing < size_; ++failing) {
        const auto own = [&](int rank) {
            return rank >= failing ? "broken on " + std::to_string(rank) : std::string();
        };
        const std::string expected = (failing ? "rank " + std::to_string(failing) + ": " : "") + own(failing);
        EXPECT_THAT([&] { world_.agree(own(rank_)); }, testing::ThrowsMessage<AgreedError>(expected));
    }
    const std::string longer(5 * chunk, 'x');
    EXPECT_THAT([&] { world_.agree(rank_ == 0 ? longer : ""); }, testing::ThrowsMessage<AgreedError>(longer));
    world_.barrier();
}

TEST_F(Ranks, ChunksHaveLimits) {
    if (size_ == 1) GTEST_SKIP() << "one rank has no messages";
    EXPECT_THROW(world_.set_chunk_bytes(7), Error);
    EXPECT_THROW(world_.set_chunk_bytes(int64_t{1} << 31), Error);
}

}  // namespace
}  // namespace amalgam
