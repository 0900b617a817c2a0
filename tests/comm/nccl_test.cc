// NCCL's ranks against MPI's. The same file runs against the stand-ins of tests/emulation and, where there are GPUs, for real.
#include "src/comm/nccl.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>

#include "cuda_runtime_api.h"
#include "src/device/device.h"
#include "tests/comm/exchange.h"
#include "tests/device/gpu_test.h"
#include "tests/mpi_main.h"
#ifdef AMALGAM_EMULATION
// Not its old C++ interface, which needs a library of its own.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include "tests/emulation/control.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif
#endif

namespace amalgam {
namespace {

using testing::HasSubstr;

constexpr int64_t chunk = 256;
const std::vector<uint64_t> lengths = {0, 1, 2, 7, 31, 32, 33, 63, 64, 65, 300};

/// Groups that are made while it lives wait so long.
class ShortPatience {
  public:
    ShortPatience() { ::setenv("AMALGAM_NETWORK_SECONDS", "2", 1); }
    ~ShortPatience() { ::unsetenv("AMALGAM_NETWORK_SECONDS"); }
    ShortPatience(const ShortPatience&) = delete;
    ShortPatience& operator=(const ShortPatience&) = delete;
};

class Nccl : public testing::Test {
  protected:
    Nccl() : world_(test_communicator()), rank_(world_.rank()), size_(world_.size()) {}

#ifdef AMALGAM_EMULATION
    // The stand-in for NCCL works over MPI, which one rank alone does not start.
    static void SetUpTestSuite() {
        int provided = 0;
#if defined(__SANITIZE_ADDRESS__)
        // Some of what it loads to start is unloaded at once, and what that keeps has no name.
        const __lsan::ScopedDisabler none;
#endif
        if (test_communicator().size() == 1) MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided);
    }
    static void TearDownTestSuite() {
        if (test_communicator().size() != 1) return;
#if defined(__SANITIZE_ADDRESS__)
        // Later, the library's own leaks would have no names: MPI_Finalize unloads its parts.
        __lsan_do_leak_check();
#endif
        MPI_Finalize();
    }
#endif

    void SetUp() override {
        int devices = 0;
        if (cudaGetDeviceCount(&devices) != cudaSuccess) devices = 0;
        const auto fewest = int(world_.all_reduce_min(uint64_t(devices)));
        if (fewest == 0 && gpu_is_required()) FAIL() << gpu_is_missing;
        if (fewest < world_.node_size()) GTEST_SKIP() << "needs a GPU for each rank, there are " << fewest;
        ASSERT_EQ(cudaSetDevice(world_.node_rank()), cudaSuccess);
        group_ = make_nccl_group(world_);
        ASSERT_TRUE(group_);
        group_->set_chunk_bytes(chunk);
    }

    template <class Value>
    std::shared_ptr<void> put(const std::vector<Value>& values) {
        std::shared_ptr<void> memory = group_->allocate(values.size() * sizeof(Value));
        group_->copy_in(memory.get(), values.data(), values.size() * sizeof(Value));
        return memory;
    }
    template <class Value>
    std::vector<Value> get(const std::shared_ptr<void>& memory, size_t count) {
        std::vector<Value> values(count);
        group_->copy_out(values.data(), memory.get(), count * sizeof(Value));
        return values;
    }
    TestMemory gpu_memory() {
        return {[this](const std::string& text) { return put(std::vector<char>(text.begin(), text.end())); },
                [this](const void* memory, uint64_t bytes) {
                    std::string text(bytes, '\0');
                    group_->copy_out(text.data(), memory, bytes);
                    return text;
                }};
    }

    /// The numbers of all ranks reduced one after the other, from what MPI gathers.
    template <class Value>
    std::vector<Value> reduced(const std::vector<Value>& own, Reduction reduction) {
        const std::string bytes(reinterpret_cast<const char*>(own.data()), own.size() * sizeof(Value));
        std::vector<Value> result;
        for (const std::string& other : world_.all_gather(bytes)) {
            std::vector<Value> values(own.size());
            if (!own.empty()) std::memcpy(values.data(), other.data(), other.size());
            if (result.empty()) {
                result = values;
                continue;
            }
            for (size_t i = 0; i < values.size(); ++i) {
                if (reduction == Reduction::sum) result[i] = Value(result[i] + values[i]);
                if (reduction == Reduction::max) result[i] = std::max(result[i], values[i]);
                if (reduction == Reduction::min) result[i] = std::min(result[i], values[i]);
            }
        }
        return result;
    }

    /// All bits, so that unsigned sums wrap; signed ones stay small enough.
    template <class Value>
    std::vector<Value> numbers(size_t count) const {
        std::mt19937_64 random(unsigned(count) * 13U + unsigned(rank_));
        std::vector<Value> values(count);
        for (Value& value : values) {
            value = Value(random());
            if (std::is_signed_v<Value>) value /= 8;
        }
        return values;
    }

    template <class Value>
    void expect_reductions(WholeNumber type) {
        for (const Reduction reduction : {Reduction::sum, Reduction::max, Reduction::min}) {
            for (const uint64_t length : lengths) {
                const auto values = numbers<Value>(length);
                const auto memory = put(values);
                group_->all_reduce(memory.get(), length, type, reduction);
                ASSERT_EQ(get<Value>(memory, length), reduced(values, reduction)) << "length " << length;

                const auto parts = numbers<Value>(length * size_t(size_));
                const auto from = put(parts), to = put(std::vector<Value>(length));
                group_->reduce_scatter(from.get(), to.get(), length, type, reduction);
                const auto all = reduced(parts, reduction);
                const auto first = all.begin() + rank_ * int64_t(length);
                ASSERT_EQ(get<Value>(to, length), std::vector<Value>(first, first + int64_t(length)));
                ASSERT_EQ(get<Value>(from, parts.size()), parts);
            }
        }
    }

    std::string caught(const std::function<void()>& work) {
        try {
            work();
        } catch (const Error& error) {
            return error.what();
        }
        return "";
    }

    Communicator& world_;
    const int rank_, size_;
    std::unique_ptr<NcclGroup> group_;
};

TEST_F(Nccl, KnowsItsRanks) {
    EXPECT_EQ(group_->rank(), rank_);
    EXPECT_EQ(group_->size(), size_);
}

TEST_F(Nccl, ReductionsOf32Bits) { expect_reductions<uint32_t>(WholeNumber::u32); }
TEST_F(Nccl, ReductionsOf64Bits) { expect_reductions<uint64_t>(WholeNumber::u64); }
TEST_F(Nccl, ReductionsWithSign) { expect_reductions<int64_t>(WholeNumber::i64); }

TEST_F(Nccl, BroadcastAndGathers) {
    for (const uint64_t length : lengths) {
        const auto own = numbers<uint8_t>(length);
        const std::string text(own.begin(), own.end());
        std::vector<uint8_t> everywhere;
        for (const std::string& part : world_.all_gather(text))
            everywhere.insert(everywhere.end(), part.begin(), part.end());
        const auto part = put(own), all = put(std::vector<uint8_t>(everywhere.size()));
        group_->all_gather(part.get(), all.get(), length);
        ASSERT_EQ(get<uint8_t>(all, everywhere.size()), everywhere);
        for (int root = 0; root < size_; ++root) {
            const auto at_root = put(std::vector<uint8_t>(everywhere.size(), 7));
            group_->gather(part.get(), at_root.get(), length, root);
            ASSERT_EQ(get<uint8_t>(at_root, everywhere.size()),
                      rank_ == root ? everywhere : std::vector<uint8_t>(everywhere.size(), 7));
            std::string expected = text;
            world_.broadcast(expected, root);
            const auto data = put(own);
            group_->broadcast(data.get(), length, root);
            ASSERT_EQ(get<uint8_t>(data, length), std::vector<uint8_t>(expected.begin(), expected.end()));
        }
    }
    EXPECT_THROW(group_->broadcast(nullptr, 0, size_), Error);
}

TEST_F(Nccl, GroupsOfMessagesInAnyOrder) {
    const std::unique_ptr<Transport> transport = group_->transport();
    for (unsigned seed = 0; seed < 5; ++seed)
        test_exchange(*transport, gpu_memory(), rank_, size_, {0, 1, 255, 256, 257, 1000}, seed);
    test_exchange(*transport, gpu_memory(), rank_, size_, {}, 9);
}

TEST_F(Nccl, SendAndReceive) {
    const auto data = put(std::vector<uint64_t>(100, uint64_t(rank_)));
    if (rank_ > 0) group_->receive(data.get(), 800, rank_ - 1);
    EXPECT_EQ(get<uint64_t>(data, 100), std::vector<uint64_t>(100, uint64_t(std::max(rank_ - 1, 0))));
    const auto own = put(std::vector<uint64_t>(100, uint64_t(rank_)));
    if (rank_ + 1 < size_) group_->send(own.get(), 800, rank_ + 1);
}

TEST_F(Nccl, TransportMisuse) {
    const std::unique_ptr<Transport> transport = group_->transport();
    const Transfer beyond = {Transfer::Direction::send, size_, nullptr, 0};
    EXPECT_THROW(transport->start({&beyond, 1}), Error);
    EXPECT_THROW(transport->wait(), Error);
    transport->start({});
    EXPECT_THROW(transport->start({}), Error);
    transport->wait();
}

class FakeGpu : public Device {
  public:
    explicit FakeGpu(NcclGroup& group) : group_(group) {}
    DeviceKind kind() const override { return DeviceKind::cuda; }
    std::string name() const override { return "fake"; }
    uint64_t memory() const override { return 0; }
    int lanes() const override { return 1; }
    std::shared_ptr<void> allocate(uint64_t bytes) override { return group_.allocate(bytes); }
    void copy_in(void* to, const void* host, uint64_t bytes) override {
        ++copies;
        group_.copy_in(to, host, bytes);
    }
    void copy_out(void* host, const void* from, uint64_t bytes) override {
        ++copies;
        group_.copy_out(host, from, bytes);
    }
    std::unique_ptr<Lane> make_lane(const LaneSettings&) override { fail("no lane"); }

    int copies = 0;

  private:
    NcclGroup& group_;
};

/// Every operation of `ranks` against that of `expected`, of lengths around the smallest that goes through the GPU.
void expect_same(Communicator& ranks, Communicator& expected) {
    ASSERT_EQ(ranks.rank(), expected.rank());
    ASSERT_EQ(ranks.size(), expected.size());
    for (const size_t length : {size_t{3}, size_t{8191}, size_t{8192}, size_t{20001}}) {
        std::mt19937_64 random(unsigned(expected.rank()) * 7U + unsigned(length));
        std::vector<uint64_t> values(length);
        for (uint64_t& value : values) value = random();
        const auto same = [&](auto type, const auto& work) {
            std::vector<decltype(type)> one(length), two(length);
            for (size_t i = 0; i < length; ++i) one[i] = two[i] = decltype(type)(values[i] / 8);
            work(ranks, std::span(one));
            work(expected, std::span(two));
            ASSERT_EQ(one, two);
        };
        same(uint64_t{}, [](Communicator& all, std::span<uint64_t> v) { all.all_reduce_sum(v); });
        same(int64_t{}, [](Communicator& all, std::span<int64_t> v) { all.all_reduce_sum(v); });
        same(uint32_t{}, [](Communicator& all, std::span<uint32_t> v) { all.all_reduce_sum(v); });
        same(uint64_t{}, [](Communicator& all, std::span<uint64_t> v) { all.all_reduce_max(v); });
        same(uint64_t{}, [](Communicator& all, std::span<uint64_t> v) { all.all_reduce_min(v); });
        same(uint64_t{}, [](Communicator& all, std::span<uint64_t> v) { all.exclusive_sum(v); });
        const int root = expected.size() - 1;
        same(uint64_t{},
             [&](Communicator& all, std::span<uint64_t> v) { all.broadcast(std::as_writable_bytes(v), root); });
    }
    std::string text = expected.rank() == 0 ? std::string(100000, 'x') : "";
    ranks.broadcast(text, 0);
    EXPECT_EQ(text, std::string(100000, 'x'));
    EXPECT_EQ(ranks.gather("a", 0), expected.gather("a", 0));
    EXPECT_EQ(ranks.all_gather("b"), expected.all_gather("b"));
}

TEST_F(Nccl, AsACommunicator) {
    const std::unique_ptr<Communicator> ranks = nccl_communicator(world_);
    expect_same(*ranks, world_);
    const int middle = (size_ + 1) / 2;
    const int first = rank_ < middle ? 0 : middle, last = rank_ < middle ? middle : size_;
    expect_same(*ranks->range(first, last), *world_.range(first, last));

    FakeGpu gpu(*group_);
    test_exchange(*ranks->device_transport(gpu), gpu_memory(), rank_, size_, {0, 5, 100000}, 3);
    EXPECT_EQ(gpu.copies == 0, size_ > 1);  // alone, nothing is gained by NCCL
    test_exchange(*ranks->transport(), host_test_memory(), rank_, size_, {0, 5, 100000}, 4);
}

TEST_F(Nccl, RanksThatShareAGpu) {
    EXPECT_EQ(make_nccl_group(world_, 0) == nullptr, size_ > 1);
    EXPECT_EQ(make_nccl_group(world_, rank_ == size_ - 1 ? -1 : rank_), nullptr);
    ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
    const std::unique_ptr<Communicator> ranks = nccl_communicator(world_);
    expect_same(*ranks, world_);
    FakeGpu gpu(*group_);
    test_exchange(*ranks->device_transport(gpu), gpu_memory(), rank_, size_, {0, 5, 100000}, 3);
    EXPECT_GT(gpu.copies, 0);
}

TEST_F(Nccl, NotWanted) {
    ::setenv("AMALGAM_NCCL", "0", 1);
    EXPECT_FALSE(nccl_available());
    EXPECT_EQ(make_nccl_group(world_), nullptr);
    ::unsetenv("AMALGAM_NCCL");
    EXPECT_TRUE(nccl_available());
}

TEST_F(Nccl, ARankThatNeverComes) {
    if (size_ == 1) return;
    const ShortPatience patience;
    const std::unique_ptr<NcclGroup> group = make_nccl_group(world_);
    const auto data = put(std::vector<uint64_t>(10));
    if (rank_ == 0) {
        const auto reduce = [&] { group->all_reduce(data.get(), 10, WholeNumber::u64, Reduction::sum); };
        EXPECT_THAT(caught(reduce), HasSubstr("waited 2 seconds in NCCL (all-reduce)"));
        EXPECT_THAT(caught(reduce), HasSubstr("after NCCL was stopped by an error"));
    }
    world_.barrier();
}

TEST_F(Nccl, AMessageThatNeverComes) {
    if (size_ == 1) return;
    const ShortPatience patience;
    const std::unique_ptr<NcclGroup> group = make_nccl_group(world_);
    const auto data = put(std::vector<uint64_t>(10));
    if (rank_ == 0) {
        EXPECT_THAT(caught([&] { group->receive(data.get(), 80, 1); }),
                    HasSubstr("waited 2 seconds in NCCL (a group of messages)"));
    }
    world_.barrier();
}

#ifdef AMALGAM_EMULATION

TEST_F(Nccl, LargeDataGoesThroughIt) {
    const std::unique_ptr<Communicator> ranks = nccl_communicator(world_);
    std::vector<uint64_t> values(8191);
    uint64_t before = emulation::transfers_run();
    ranks->all_reduce_sum(std::span(values));
    EXPECT_EQ(emulation::transfers_run(), before);
    values.resize(8192);
    ranks->all_reduce_sum(std::span(values));
    EXPECT_EQ(emulation::transfers_run() > before, size_ > 1);
    before = emulation::transfers_run();
    ranks->broadcast(std::as_writable_bytes(std::span(values)), 0);
    EXPECT_EQ(emulation::transfers_run() > before, size_ > 1);
}

TEST_F(Nccl, ACallThatFails) {
    const ShortPatience patience;
    struct Case {
        const char *failure, *said;
        bool everywhere;
    };
    const Case cases[] = {{"ncclAllReduce:1", "ncclAllReduce", true},
                          {"ncclGroupEnd:1", "ncclGroupEnd", true},
                          {"nccl:1", "all-reduce failed", true},
                          {"cudaEventRecord:1", "cudaEventRecord", false},
                          {"cudaEventQuery:1", "work of NCCL failed", false}};
    for (const Case& one : cases) {
        const std::unique_ptr<NcclGroup> group = make_nccl_group(world_);
        const auto data = put(std::vector<uint64_t>(10));
        // On one rank; the others hear of it, or their patience ends.
        if (rank_ == 0) emulation::set_failures(one.failure);
        const auto reduce = [&] { group->all_reduce(data.get(), 10, WholeNumber::u64, Reduction::sum); };
        const std::string error = caught(reduce);
        emulation::set_failures("");
        emulation::forget_errors();
        if (rank_ == 0) {
            EXPECT_THAT(error, HasSubstr(one.said)) << one.failure;
            EXPECT_THAT(caught(reduce), HasSubstr("after NCCL was stopped by an error: ")) << one.failure;
        } else if (one.everywhere) {
            EXPECT_NE(error, "") << one.failure;
        }
        world_.barrier();
    }
}

TEST_F(Nccl, AStartThatFails) {
    const ShortPatience patience;
    for (const char* call : {"ncclGetUniqueId:1", "ncclCommInitRankConfig:1"}) {
        if (rank_ == 0) emulation::set_failures(call);
        EXPECT_THROW(make_nccl_group(world_), AgreedError) << call;
        emulation::set_failures("");
    }
    EXPECT_NE(make_nccl_group(world_), nullptr);
}

TEST_F(Nccl, LeavesNothing) {
    group_.reset();
    EXPECT_EQ(emulation::leaks(), "");
}

#endif

}  // namespace
}  // namespace amalgam
