// Bugs on purpose between ranks, each beside the right way. Prints a table.
#include "tests/emulation/include/nccl.h"

#include <cstdio>
#include <span>

#include "tests/emulation/emulation.h"
#include "tests/mpi_main.h"

namespace amalgam::emulation {
namespace {

constexpr int elements = 24;

int rank() { return test_communicator().rank(); }
int ranks() { return test_communicator().size(); }

/// Terms whose float sum depends on the order.
float term(int of, int element) {
    return (of % 2 ? -1.0F : 1.0F) * (1e7F + float(of) * 0.37F) / float(element + of + 1);
}

__global__ void add_terms(float* plane, int of) {
    if (threadIdx.x < elements) plane[threadIdx.x] += term(of, int(threadIdx.x));
}

struct Ranks {
    ncclComm_t comm = nullptr;
    cudaStream_t stream = nullptr;

    Ranks() {
        EXPECT_EQ(cudaSetDevice(rank()), cudaSuccess);
        stream = make_stream();
        ncclUniqueId id{};
        if (rank() == 0) ncclGetUniqueId(&id);
        test_communicator().broadcast(std::as_writable_bytes(std::span(&id, 1)), 0);
        EXPECT_EQ(ncclCommInitRank(&comm, ranks(), id, rank()), ncclSuccess);
    }
    Ranks(const Ranks&) = delete;
    Ranks& operator=(const Ranks&) = delete;
    ~Ranks() {
        if (comm) ncclCommDestroy(comm);
        cudaStreamDestroy(stream);
        cudaSetDevice(0);
    }
};

void say(const char* bug, bool right, const char* seen) {
    if (rank() == 0) std::printf("%-48s %-10s %s\n", bug, right ? "passes" : "FAILS", seen);
}

TEST(SeededNccl, FloatAllReduceInPlaceOfTheOrderedPass) {
    const Ranks here;
    std::vector<float> one_rank(elements);
    for (int of = 0; of < ranks(); ++of)
        for (int i = 0; i < elements; ++i) one_rank[size_t(i)] += term(of, i);

    const DeviceArray<float> plane(std::vector<float>(elements), here.stream);
    if (rank() > 0) ncclRecv(plane.data(), elements, ncclFloat32, rank() - 1, here.comm, here.stream);
    EXPECT_CUDA(start(false, 1, 32, here.stream, add_terms, plane.data(), rank()));
    if (rank() + 1 < ranks()) ncclSend(plane.data(), elements, ncclFloat32, rank() + 1, here.comm, here.stream);
    ncclBroadcast(plane.data(), plane.data(), elements, ncclFloat32, ranks() - 1, here.comm, here.stream);
    const bool right = plane.read(here.stream) == one_rank;
    EXPECT_TRUE(right);

    const DeviceArray<float> sum(std::vector<float>(elements), here.stream);
    EXPECT_CUDA(start(false, 1, 32, here.stream, add_terms, sum.data(), rank()));
    ncclAllReduce(sum.data(), sum.data(), elements, ncclFloat32, ncclSum, here.comm, here.stream);
    const bool same = sum.read(here.stream) == one_rank;
    EXPECT_FALSE(same);
    say("float all-reduce in place of the ordered pass", right, same ? "NOT SEEN" : "wrong value");
}

TEST(SeededNccl, KernelThatDoesNotWaitForWhatIsReceived) {
    const Ranks here;
    cudaStream_t kernels = make_stream();
    cudaEvent_t received = make_event();
    bool results[2];
    for (bool bug : {false, true}) {
        const DeviceArray<float> plane(std::vector<float>(elements), here.stream);
        EXPECT_CUDA(cudaStreamSynchronize(here.stream));
        ncclGroupStart();
        const DeviceArray<float> zeros(std::vector<float>(elements, 8.0F), here.stream);
        ncclSend(zeros.data(), elements, ncclFloat32, (rank() + 1) % ranks(), here.comm, here.stream);
        ncclRecv(plane.data(), elements, ncclFloat32, (rank() + ranks() - 1) % ranks(), here.comm, here.stream);
        ncclGroupEnd();
        EXPECT_CUDA(cudaEventRecord(received, here.stream));
        if (!bug) cudaStreamWaitEvent(kernels, received);
        EXPECT_CUDA(start(false, 1, 32, kernels, add_terms, plane.data(), 1));
        results[bug] = plane.read(kernels)[0] == 8.0F + term(1, 0);
        EXPECT_CUDA(cudaStreamSynchronize(here.stream));
    }
    EXPECT_TRUE(results[0]);
    EXPECT_FALSE(results[1]);
    say("kernel does not wait for what is received", results[0], results[1] ? "NOT SEEN" : "wrong value");
    EXPECT_CUDA(cudaStreamDestroy(kernels));
    EXPECT_CUDA(cudaEventDestroy(received));
}

TEST(SeededNccl, CommunicatorNotReleased) {
    { const Ranks here; }
    const bool right = leaks().empty();
    EXPECT_TRUE(right) << leaks();
    Ranks here;
    EXPECT_CUDA(cudaStreamDestroy(here.stream));
    const std::string seen = leaks();
    EXPECT_NE(seen.find("NCCL communicator"), std::string::npos);
    say("communicator not released", right, ("not released:" + seen.substr(1, seen.find('\n') - 1)).c_str());
    here.stream = make_stream();
}

}  // namespace
}  // namespace amalgam::emulation
