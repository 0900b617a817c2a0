// Bugs on purpose, each beside the right way: the right way passes under emulation, the bug is caught. Prints a table.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "tests/emulation/emulation.h"

#if defined(__SANITIZE_THREAD__)
constexpr bool under_thread_sanitizer = true;
#else
constexpr bool under_thread_sanitizer = false;
#endif

namespace amalgam::emulation {
namespace {

constexpr int block_size = 64, count = 1007;
constexpr int blocks = (count + block_size - 1) / block_size;

// Kernels. `bug` leaves out or changes one thing.

template <bool bug>
__global__ void reverse_blocks(int* values) {
    AMALGAM_SHARED(int, part, block_size);
    part[threadIdx.x] = values[blockIdx.x * block_size + threadIdx.x];
    if (!bug) __syncthreads();
    values[blockIdx.x * block_size + threadIdx.x] = part[block_size - 1 - threadIdx.x];
}

enum class HistogramBug { none, not_zeroed, no_barrier_after_zeroing, plain_addition, one_too_far };

template <HistogramBug bug>
__global__ void histogram(const int* values, unsigned int* bins) {
    AMALGAM_SHARED(unsigned int, own, 16);
    if (bug != HistogramBug::not_zeroed && threadIdx.x >= block_size - 16) own[threadIdx.x - (block_size - 16)] = 0;
    if (bug != HistogramBug::no_barrier_after_zeroing) __syncthreads();
    for (unsigned int at = threadIdx.x; at < unsigned(count); at += block_size) {
        unsigned int* bin = &own[0] + values[at] % 16 + (bug == HistogramBug::one_too_far && at == 15 ? 1 : 0);
        if (bug == HistogramBug::plain_addition)
            *bin += 1;
        else
            atomicAdd(bin, 1U);
    }
    __syncthreads();
    if (threadIdx.x < 16) atomicAdd(&bins[threadIdx.x], own[threadIdx.x]);
}

template <bool bug>
__global__ void add_one(int* values) {
    const int at = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (at < count + (bug ? 1 : 0)) values[at] += 1;
}

template <bool bug>
__global__ void sum_block(const int* values, int* sum) {
    AMALGAM_SHARED(int, total, block_size);
    if (bug && threadIdx.x >= 40) return;
    total[threadIdx.x] = threadIdx.x < 40 ? values[threadIdx.x] : 0;
    for (unsigned int half = block_size / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) total[threadIdx.x] += total[threadIdx.x + half];
    }
    if (threadIdx.x == 0) *sum = total[0];
}

__global__ void copy_vectors(const int* from, int* to) {
    *reinterpret_cast<int4*>(to + 4 * threadIdx.x) = *reinterpret_cast<const int4*>(from + 4 * threadIdx.x);
}

__global__ void copy_one(const int* from, int* to) { *to = *from; }
__global__ void copy_through(int* const* table, int* to) { *to = *table[0]; }

// Uses. Each returns whether its result is right.

std::vector<int> numbers(int last = count) {
    std::vector<int> values(static_cast<size_t>(last));
    std::iota(values.begin(), values.end(), 1);
    return values;
}
std::vector<int> numbers_plus_one() {
    std::vector<int> values = numbers();
    for (int& value : values) ++value;
    return values;
}

bool missing_barrier(bool bug) {
    const DeviceArray<int> values(numbers(block_size), nullptr);
    EXPECT_CUDA(start(true, 1, block_size, nullptr, bug ? reverse_blocks<true> : reverse_blocks<false>, values.data()));
    const std::vector<int> expected = numbers(block_size);
    return values.read(nullptr) == std::vector<int>(expected.rbegin(), expected.rend());
}

template <HistogramBug kind>
bool wrong_histogram(bool bug) {
    const DeviceArray<int> values(numbers(), nullptr);
    const DeviceArray<unsigned int> bins(std::vector<unsigned int>(16), nullptr);
    EXPECT_CUDA(start(true, 1, block_size, nullptr, bug ? histogram<kind> : histogram<HistogramBug::none>,
                      values.data(), bins.data()));
    std::vector<unsigned int> expected(16);
    for (int value : numbers()) ++expected[size_t(value % 16)];
    return bins.read(nullptr) == expected;
}

bool missing_event_wait(bool bug) {
    cudaStream_t copies = make_stream(), kernels = make_stream();
    cudaEvent_t copied = make_event();
    const DeviceArray<int> values(numbers(), copies);
    EXPECT_CUDA(cudaEventRecord(copied, copies));
    if (!bug) {
        EXPECT_CUDA(cudaStreamWaitEvent(kernels, copied));
    }
    EXPECT_CUDA(start(false, blocks, block_size, kernels, add_one<false>, values.data()));
    return values.read(kernels) == numbers_plus_one();
}

bool event_recorded_too_early(bool bug) {
    cudaStream_t copies = make_stream(), kernels = make_stream();
    cudaEvent_t copied = make_event();
    const DeviceArray<int> values(count);
    const std::vector<int> host = numbers();
    if (bug) {
        EXPECT_CUDA(cudaEventRecord(copied, copies));
    }
    EXPECT_CUDA(cudaMemcpyAsync(values.data(), host.data(), values.bytes(), cudaMemcpyHostToDevice, copies));
    if (!bug) {
        EXPECT_CUDA(cudaEventRecord(copied, copies));
    }
    EXPECT_CUDA(cudaStreamWaitEvent(kernels, copied));
    EXPECT_CUDA(start(false, blocks, block_size, kernels, add_one<false>, values.data()));
    return values.read(kernels) == numbers_plus_one();
}

bool wrong_stream(bool bug) {
    cudaStream_t stream = make_stream();
    const DeviceArray<int> values(numbers(), stream);
    EXPECT_CUDA(start(false, blocks, block_size, bug ? nullptr : stream, add_one<false>, values.data()));
    return values.read(stream) == numbers_plus_one();
}

bool grid_one_too_small(bool bug) {
    const DeviceArray<int> values(numbers(), nullptr);
    EXPECT_CUDA(start(false, bug ? blocks - 1 : blocks, block_size, nullptr, add_one<false>, values.data()));
    return values.read(nullptr) == numbers_plus_one();
}

bool one_element_too_many(bool bug) {
    DeviceArray<int> values(numbers(), nullptr);
    EXPECT_CUDA(start(false, blocks, block_size, nullptr, bug ? add_one<true> : add_one<false>, values.data()));
    const bool right = values.read(nullptr) == numbers_plus_one();
    values.release();
    return right;
}

bool misaligned_vector_load(bool bug) {
    const DeviceArray<int> from(numbers(12), nullptr), to(4);
    EXPECT_CUDA(start(false, 1, 1, nullptr, copy_vectors, from.data() + (bug ? 3 : 4), to.data()));
    const int first = bug ? 4 : 5;
    return to.read(nullptr) == std::vector<int>({first, first + 1, first + 2, first + 3});
}

bool thread_leaves_before_a_barrier(bool bug) {
    const DeviceArray<int> values(numbers(), nullptr), sum(1);
    EXPECT_CUDA(
        start(true, 1, block_size, nullptr, bug ? sum_block<true> : sum_block<false>, values.data(), sum.data()));
    return sum.read(nullptr)[0] == 820;
}

bool pinned_slot_reused_too_early(bool bug) {
    cudaStream_t stream = make_stream();
    cudaEvent_t copied = make_event();
    const PinnedArray<int> slot(1);
    const DeviceArray<int> first(1), second(1);
    slot[0] = 1;
    EXPECT_CUDA(cudaMemcpyAsync(first.data(), slot.data(), 4, cudaMemcpyHostToDevice, stream));
    EXPECT_CUDA(cudaEventRecord(copied, stream));
    if (!bug) {
        EXPECT_CUDA(cudaEventSynchronize(copied));
    }
    slot[0] = 2;
    EXPECT_CUDA(cudaMemcpyAsync(second.data(), slot.data(), 4, cudaMemcpyHostToDevice, stream));
    return first.read(stream)[0] == 1 && second.read(stream)[0] == 2;
}

bool result_read_too_early(bool bug) {
    cudaStream_t stream = make_stream();
    const DeviceArray<int> values(numbers(), stream);
    const PinnedArray<int> result(count);
    EXPECT_CUDA(cudaMemcpyAsync(result.data(), values.data(), values.bytes(), cudaMemcpyDeviceToHost, stream));
    if (!bug) {
        EXPECT_CUDA(cudaStreamSynchronize(stream));
    }
    return std::equal(result.data(), result.data() + count, numbers().begin());
}

bool use_after_free(bool bug) {
    DeviceArray<int> table_of(numbers(), nullptr);
    const DeviceArray<int*> table(std::vector<int*>{table_of.data()}, nullptr);
    const DeviceArray<int> result(1);
    EXPECT_CUDA(cudaDeviceSynchronize());
    // Found in device memory, so that no check of parameters sees the address.
    EXPECT_CUDA(start(false, 1, 1, nullptr, copy_through, table.data(), result.data()));
    EXPECT_CUDA(bug ? cudaSuccess : cudaDeviceSynchronize());
    table_of.release();
    return result.read(nullptr)[0] == 1;
}

bool buffer_freed_before_its_copy(bool bug) {
    cudaStream_t stream = make_stream();
    DeviceArray<int> values(numbers(), stream);
    EXPECT_CUDA(bug ? cudaSuccess : cudaStreamSynchronize(stream));
    values.release();
    return cudaStreamSynchronize(stream) == cudaSuccess;
}

bool missing_memset(bool bug) {
    const DeviceArray<int> sums(count);
    if (!bug) {
        EXPECT_CUDA(cudaMemsetAsync(sums.data(), 0, sums.bytes()));
    }
    EXPECT_CUDA(start(false, blocks, block_size, nullptr, add_one<false>, sums.data()));
    return sums.read(nullptr) == std::vector<int>(count, 1);
}

bool host_address_for_a_kernel(bool bug) {
    const std::vector<int> host = {5};
    const DeviceArray<int> device(host, nullptr), result(1);
    EXPECT_CUDA(start(false, 1, 1, nullptr, copy_one, bug ? host.data() : device.data(), result.data()));
    return result.read(nullptr)[0] == 5;
}

bool block_too_large(bool bug) {
    const DeviceArray<int> values(numbers(), nullptr);
    if (start(false, bug ? 1 : blocks, bug ? 1056 : block_size, nullptr, add_one<false>, values.data()) != cudaSuccess)
        return false;
    return values.read(nullptr) == numbers_plus_one();
}

bool stream_not_destroyed(bool bug) {
    settings().leaks = Leaks::fail;
    cudaStream_t stream = make_stream();
    EXPECT_CUDA(bug ? cudaSuccess : cudaStreamDestroy(stream));
    std::exit(0);  // for what is said there
}

struct Seeded {
    const char* name;
    bool (*use)(bool bug);
    bool only_sanitizer = false;  ///< of threads: to the eye of a single thread nothing is wrong
};
const Seeded bugs[] = {
    {"barrier missing before shared memory is read", missing_barrier},
    {"barrier missing after shared memory is zeroed", wrong_histogram<HistogramBug::no_barrier_after_zeroing>},
    {"shared memory not zeroed", wrong_histogram<HistogramBug::not_zeroed>},
    {"+= on shared memory instead of atomicAdd", wrong_histogram<HistogramBug::plain_addition>, true},
    {"counter one place too far", wrong_histogram<HistogramBug::one_too_far>},
    {"thread leaves before a barrier", thread_leaves_before_a_barrier},
    {"event wait missing", missing_event_wait},
    {"event recorded too early", event_recorded_too_early},
    {"wrong stream", wrong_stream},
    {"result read before its copy", result_read_too_early},
    {"pinned slot reused too early", pinned_slot_reused_too_early},
    {"grid one block too small", grid_one_too_small},
    {"one element too many", one_element_too_many},
    {"block too large", block_too_large},
    {"misaligned vector load", misaligned_vector_load},
    {"use after free", use_after_free},
    {"buffer freed before its copy", buffer_freed_before_its_copy},
    {"device memory not initialised", missing_memset},
    {"host address given to a kernel", host_address_for_a_kernel},
    {"stream not destroyed", stream_not_destroyed},
};

/// What became of a use in a process of its own: "" if it was right, else what showed the bug.
std::string outcome(const Seeded& seeded, bool bug) {
    int ends[2];
    if (pipe(ends) != 0) return "no pipe";
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        settings().leaks = Leaks::ignore;
        const bool failed_before = testing::Test::HasFailure();
        const bool right = seeded.use(bug);
        std::fflush(nullptr);
        _exit(testing::Test::HasFailure() != failed_before ? 3 : right ? 0 : 2);
    }
    close(ends[1]);
    std::string text;
    char buffer[4096];
    for (ssize_t got = 0; (got = read(ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, size_t(got));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return "";
    for (const char* sanitizer : {"AddressSanitizer: ", "ThreadSanitizer: ", "runtime error: "})
        if (const size_t at = text.find(sanitizer); at != std::string::npos)
            return text.substr(at, std::min(text.find('\n', at) - at, size_t{70}));
    if (const std::string mark = "amalgam emulation: "; text.find(mark) != std::string::npos) {
        const size_t at = text.find(mark) + mark.size();
        return text.substr(at, std::min(text.find_first_of("(\n", at) - at, size_t{70}));
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2) return "wrong value";
    return "ended by " + std::to_string(status) + ": " + text;
}

TEST(SeededBugs, AreCaught) {
    std::printf("%-48s %-10s %s\n", "bug", "right way", "caught by");
    for (const Seeded& seeded : bugs) {
        const std::string right = outcome(seeded, false), wrong = outcome(seeded, true);
        std::printf("%-48s %-10s %s\n", seeded.name, right.empty() ? "passes" : right.c_str(),
                    wrong.empty() ? "not seen without the thread sanitizer" : wrong.c_str());
        EXPECT_EQ(right, "") << seeded.name;
        EXPECT_EQ(wrong.empty(), seeded.only_sanitizer && !under_thread_sanitizer) << seeded.name;
    }
}

}  // namespace
}  // namespace amalgam::emulation
