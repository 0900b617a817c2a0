// The stand-in for NCCL on several ranks: against what the ranks' formulas give.
#include "tests/emulation/include/nccl.h"

#include <chrono>
#include <cstdlib>
#include <numeric>
#include <thread>

#include "tests/emulation/emulation.h"
#include "tests/mpi_main.h"

namespace amalgam::emulation {
namespace {

#define EXPECT_NCCL(call) EXPECT_EQ(call, ncclSuccess) << ncclGetLastError(nullptr)

int rank() { return test_communicator().rank(); }
int ranks() { return test_communicator().size(); }

ncclUniqueId shared_id(int creator = 0) {
    ncclUniqueId id{};
    if (rank() == creator) {
        EXPECT_NCCL(ncclGetUniqueId(&id));
    }
    test_communicator().broadcast(std::as_writable_bytes(std::span(&id, 1)), creator);
    return id;
}

/// All ranks, each with its device, and a stream.
struct Ranks {
    ncclComm_t comm = nullptr;
    cudaStream_t stream = nullptr;

    Ranks() {
        EXPECT_CUDA(cudaSetDevice(rank()));
        stream = make_stream();
        EXPECT_NCCL(ncclCommInitRank(&comm, ranks(), shared_id(), rank()));
    }
    Ranks(const Ranks&) = delete;
    Ranks& operator=(const Ranks&) = delete;
    ~Ranks() {
        if (comm) {
            EXPECT_NCCL(ncclCommDestroy(comm));
        }
        EXPECT_CUDA(cudaStreamDestroy(stream));
        EXPECT_CUDA(cudaSetDevice(0));
    }
};

template <class T>
std::vector<T> mine(size_t count, int of) {
    std::vector<T> values(count);
    for (size_t i = 0; i < count; ++i) values[i] = T(T(i * 7 + 1) * T(of + 3));
    return values;
}

template <class T>
void expect_reductions(ncclDataType_t type) {
    const Ranks here;
    for (const ncclRedOp_t operation : {ncclSum, ncclMax, ncclMin})
        for (size_t count : {0, 1, 1000}) {
            const size_t n = size_t(ranks());
            std::vector<T> expected = mine<T>(count * n, 0);
            for (int other = 1; other < ranks(); ++other)
                for (size_t i = 0; i < expected.size(); ++i) {
                    const T value = mine<T>(count * n, other)[i];
                    expected[i] = operation == ncclSum   ? T(expected[i] + value)
                                  : operation == ncclMax ? std::max(expected[i], value)
                                                         : std::min(expected[i], value);
                    if (count == 1000) i += 99;
                }
            const DeviceArray<T> from(mine<T>(count * n, rank()), here.stream), all(count * n), part(count);
            EXPECT_NCCL(ncclAllReduce(from.data(), all.data(), count * n, type, operation, here.comm, here.stream));
            EXPECT_NCCL(ncclReduceScatter(from.data(), part.data(), count, type, operation, here.comm, here.stream));
            EXPECT_NCCL(ncclReduce(from.data(), from.data(), count * n, type, operation, 0, here.comm, here.stream));
            const auto total = all.read(here.stream), share = part.read(here.stream), root = from.read(here.stream);
            for (size_t i = 0; i < expected.size(); i += count == 1000 ? 100 : 1) {
                EXPECT_EQ(total[i], expected[i]) << i;
                if (rank() == 0) {
                    EXPECT_EQ(root[i], expected[i]) << i;
                }
            }
            const size_t first = count * size_t(rank());
            EXPECT_EQ(share, std::vector<T>(total.begin() + int64_t(first), total.begin() + int64_t(first + count)));
        }
}

TEST(Nccl, ReducesWholeNumbers) {
    expect_reductions<int32_t>(ncclInt32);
    expect_reductions<uint32_t>(ncclUint32);
    expect_reductions<int64_t>(ncclInt64);
    expect_reductions<uint64_t>(ncclUint64);
}

TEST(Nccl, AddsFloatsInAnOrderThatDependsOnTheRanks) {
    const Ranks here;
    // In the order of ranks, 1e8 + 1 + ... - 1e8 loses the ones; which are lost here depends on the element.
    const float value = rank() == 0 ? 1e8F : rank() == ranks() - 1 && ranks() > 1 ? -1e8F : 1.0F;
    const DeviceArray<float> values(std::vector<float>(12, value), here.stream);
    EXPECT_NCCL(ncclAllReduce(values.data(), values.data(), 12, ncclFloat32, ncclSum, here.comm, here.stream));
    const auto sums = values.read(here.stream);
    const bool same = std::equal(sums.begin() + 1, sums.end(), sums.begin());
    EXPECT_EQ(same, ranks() < 3);
}

TEST(Nccl, BroadcastsAndGathers) {
    const Ranks here;
    for (int root = 0; root < ranks(); ++root) {
        const DeviceArray<int> values(mine<int>(100, rank()), here.stream);
        EXPECT_NCCL(ncclBroadcast(values.data(), values.data(), 100, ncclInt32, root, here.comm, here.stream));
        EXPECT_EQ(values.read(here.stream), mine<int>(100, root));
    }
    const DeviceArray<int> part(mine<int>(50, rank()), here.stream), all(50 * size_t(ranks()));
    EXPECT_NCCL(ncclAllGather(part.data(), all.data(), 50, ncclInt32, here.comm, here.stream));
    std::vector<int> expected;
    for (int other = 0; other < ranks(); ++other)
        for (int value : mine<int>(50, other)) expected.push_back(value);
    EXPECT_EQ(all.read(here.stream), expected);
    int count = 0, self = -1, device = -1;
    EXPECT_NCCL(ncclCommCount(here.comm, &count));
    EXPECT_NCCL(ncclCommUserRank(here.comm, &self));
    EXPECT_NCCL(ncclCommCuDevice(here.comm, &device));
    EXPECT_EQ(count, ranks());
    EXPECT_EQ(self, rank());
    EXPECT_EQ(device, rank());
}

TEST(Nccl, MessagesOfAGroupAdvanceTogether) {
    const Ranks here;
    constexpr size_t count = 300000;
    const DeviceArray<int> own(mine<int>(count, rank()), here.stream);
    std::vector<std::unique_ptr<DeviceArray<int>>> received;
    EXPECT_NCCL(ncclGroupStart());
    // Everybody sends first, also to itself: one after the other this would block.
    for (int other = 0; other < ranks(); ++other)
        EXPECT_NCCL(ncclSend(own.data(), count, ncclInt32, other, here.comm, here.stream));
    for (int other = 0; other < ranks(); ++other) {
        received.push_back(std::make_unique<DeviceArray<int>>(count));
        EXPECT_NCCL(ncclRecv(received.back()->data(), count, ncclInt32, other, here.comm, here.stream));
    }
    EXPECT_NCCL(ncclGroupEnd());
    for (int other = 0; other < ranks(); ++other)
        EXPECT_EQ(received[size_t(other)]->read(here.stream), mine<int>(count, other));
}

TEST(Nccl, IsQueuedBehindTheStream) {
    const Ranks here;
    const PinnedArray<int> host(1);
    const DeviceArray<int> sum(1);
    host[0] = 100;
    EXPECT_CUDA(cudaMemcpyAsync(sum.data(), host.data(), 4, cudaMemcpyHostToDevice, here.stream));
    EXPECT_NCCL(ncclAllReduce(sum.data(), sum.data(), 1, ncclInt32, ncclSum, here.comm, here.stream));
    host[0] = 1;
    EXPECT_EQ(sum.read(here.stream)[0], ranks());
}

TEST(Nccl, GoesOnByItselfForOthers) {
    const Ranks here;
    const DeviceArray<int> value(std::vector<int>{rank()}, here.stream);
    const int next = (rank() + 1) % ranks(), before = (rank() + ranks() - 1) % ranks();
    EXPECT_NCCL(ncclGroupStart());
    EXPECT_NCCL(ncclSend(value.data(), 1, ncclInt32, next, here.comm, here.stream));
    EXPECT_NCCL(ncclRecv(value.data(), 1, ncclInt32, before, here.comm, here.stream));
    EXPECT_NCCL(ncclGroupEnd());
    // Rank 0 waits for its stream, and the others for rank 0 on another way.
    if (rank() == 0) {
        EXPECT_EQ(value.read(here.stream)[0], before);
    }
    test_communicator().barrier();
    EXPECT_EQ(value.read(here.stream)[0], before);
}

TEST(Nccl, NonblockingCallsAreUnderWayUntilPolled) {
    EXPECT_CUDA(cudaSetDevice(rank()));
    cudaStream_t stream = make_stream();
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t comm = nullptr;
    const int creator = ranks() - 1;
    EXPECT_EQ(ncclCommInitRankConfig(&comm, ranks(), shared_id(creator), rank(), &config), ncclInProgress);
    const auto settle = [&] {
        ncclResult_t state = ncclInProgress;
        int polls = 0;
        for (; state == ncclInProgress; ++polls) EXPECT_NCCL(ncclCommGetAsyncError(comm, &state));
        EXPECT_NCCL(state);
        return polls;
    };
    EXPECT_GT(settle(), 1);
    const DeviceArray<int> value(std::vector<int>{1}, stream);
    EXPECT_EQ(ncclAllReduce(value.data(), value.data(), 1, ncclInt32, ncclSum, comm, stream), ncclInProgress);
    EXPECT_EQ(ncclAllReduce(value.data(), value.data(), 1, ncclInt32, ncclSum, comm, stream), ncclInvalidUsage);
    EXPECT_EQ(value.read(stream)[0], 1);  // not in the stream yet
    EXPECT_GT(settle(), 1);
    EXPECT_EQ(value.read(stream)[0], ranks());
    EXPECT_EQ(ncclCommFinalize(comm), ncclInProgress);
    settle();
    EXPECT_NCCL(ncclCommDestroy(comm));
    EXPECT_EQ(ncclCommDestroy(comm), ncclInvalidArgument);
    EXPECT_CUDA(cudaStreamDestroy(stream));
    EXPECT_CUDA(cudaSetDevice(0));
}

TEST(Nccl, BuffersAreDeviceMemory) {
    const Ranks here;
    std::vector<int> host(10);
    const PinnedArray<int> pinned(10);
    const DeviceArray<int> device(10);
    for (int* wrong : {host.data(), pinned.data(), device.data() + 1})
        EXPECT_EQ(ncclAllReduce(wrong, wrong, 10, ncclInt32, ncclSum, here.comm, here.stream), ncclInvalidArgument);
    EXPECT_EQ(ncclSend(device.data(), 10, ncclInt32, ranks(), here.comm, here.stream), ncclInvalidArgument);
    EXPECT_EQ(ncclGroupEnd(), ncclInvalidUsage);
}

TEST(Nccl, OneGpuIsOneRank) {
    if (ranks() == 1) GTEST_SKIP() << "needs two ranks";
    EXPECT_CUDA(cudaSetDevice(0));
    ncclComm_t comm = nullptr;
    EXPECT_EQ(ncclCommInitRank(&comm, ranks(), shared_id(), rank()), ncclInvalidUsage);
    EXPECT_EQ(comm, nullptr);
}

TEST(Nccl, AbortEndsWhatNeverComes) {
    Ranks here;
    const DeviceArray<int> value(1);
    // Nobody sends; on rank 0 of one rank, itself does not either.
    EXPECT_NCCL(ncclRecv(value.data(), 1, ncclInt32, (rank() + 1) % ranks(), here.comm, here.stream));
    for (int i = 0; i < 5; ++i) EXPECT_EQ(cudaStreamQuery(here.stream), cudaErrorNotReady);
    EXPECT_NCCL(ncclCommAbort(std::exchange(here.comm, nullptr)));
    EXPECT_CUDA(cudaStreamSynchronize(here.stream));
    EXPECT_EQ(value.read(here.stream)[0], -1);
    test_communicator().barrier();
}

TEST(Nccl, AsynchronousErrorsShowWhenPolled) {
    const KeptSettings kept;
    Ranks here;
    const DeviceArray<int> value(std::vector<int>{1}, here.stream);
    set_failures("nccl:2");
    EXPECT_NCCL(ncclAllReduce(value.data(), value.data(), 1, ncclInt32, ncclSum, here.comm, here.stream));
    EXPECT_CUDA(cudaStreamSynchronize(here.stream));
    EXPECT_NCCL(ncclAllReduce(value.data(), value.data(), 1, ncclInt32, ncclSum, here.comm, here.stream));
    EXPECT_EQ(cudaStreamQuery(here.stream), cudaErrorNotReady);
    ncclResult_t state = ncclSuccess;
    EXPECT_NCCL(ncclCommGetAsyncError(here.comm, &state));
    EXPECT_EQ(state, ncclRemoteError);
    EXPECT_NCCL(ncclCommAbort(std::exchange(here.comm, nullptr)));
    EXPECT_CUDA(cudaStreamSynchronize(here.stream));
}

TEST(Nccl, WhatIsNotReleasedIsNamed) {
    EXPECT_EQ(leaks(), "");
    const Ranks here;
    EXPECT_NE(leaks().find("NCCL communicator, rank " + std::to_string(rank())), std::string::npos);
}

TEST(Nccl, FailsWhenAsked) {
    const KeptSettings kept;
    const Ranks here;
    const DeviceArray<int> value(std::vector<int>{1}, here.stream);
    set_failures("ncclAllReduce:1");
    EXPECT_EQ(ncclAllReduce(value.data(), value.data(), 1, ncclInt32, ncclSum, here.comm, here.stream),
              ncclSystemError);
    EXPECT_STRNE(ncclGetLastError(here.comm), "");
    EXPECT_NCCL(ncclAllReduce(value.data(), value.data(), 1, ncclInt32, ncclSum, here.comm, here.stream));
    EXPECT_EQ(value.read(here.stream)[0], ranks());
}

}  // namespace
}  // namespace amalgam::emulation
