// Launches: limits, blocks one after the other, threads in a loop or as fibers, shared memory.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>

#include "tests/emulation/runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(memory, bytes) (void(memory), void(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(memory, bytes) (void(memory), void(bytes))
#endif

// Fibers of one thread of the operating system enter these one after the other, which the sanitizer is not to know.
#define UNSEEN_BY_TSAN __attribute__((no_sanitize("thread")))

namespace amalgam::emulation {
namespace {

constexpr size_t shared_most = 48 << 10, parameters_most = 4096;
constexpr unsigned int threads_most = 1024;

/// Shared memory of the block that runs in this thread of the operating system.
struct SharedMemory {
    struct Array {
        const void* declaration;
        unsigned char* memory;
    };
    static constexpr size_t gap = 32;
    static constexpr size_t room = shared_most * 2;  // with gaps

    static constexpr int arrays_most = 64;

    unsigned char* memory = static_cast<unsigned char*>(std::aligned_alloc(16, room));
    Array arrays[arrays_most] = {};
    int count = 0;
    size_t declared = 0, next = 0;
    bool open = false;

    SharedMemory() = default;
    SharedMemory(const SharedMemory&) = delete;
    SharedMemory& operator=(const SharedMemory&) = delete;
    ~SharedMemory() {
        ASAN_UNPOISON_MEMORY_REGION(memory, room);
        std::free(memory);
    }
    void begin_block(size_t bytes_before) {
        ASAN_UNPOISON_MEMORY_REGION(memory, room);
        std::memset(memory, 0xff, std::min(room, bytes_before));
        ASAN_POISON_MEMORY_REGION(memory, room);
        count = 0;
        declared = next = 0;
        open = true;
    }
    UNSEEN_BY_TSAN void* array(const void* declaration, size_t bytes) {
        for (int i = 0; i < count; ++i)
            if (arrays[i].declaration == declaration) return arrays[i].memory;
        declared += bytes;
        if (declared > shared_most) die("%zu bytes of static shared memory, at most %zu", declared, shared_most);
        unsigned char* result = memory + next;
        next += (bytes + 15) / 16 * 16 + gap;
        if (next > room || count == arrays_most) die("too many shared arrays");
        ASAN_UNPOISON_MEMORY_REGION(result, bytes);
        arrays[count++] = {declaration, result};
        return result;
    }
};

UNSEEN_BY_TSAN SharedMemory& block_memory() {
    thread_local SharedMemory memory;
    return memory;
}

std::vector<unsigned int> order_of(unsigned int count) {
    std::vector<unsigned int> order(count);
    std::iota(order.begin(), order.end(), 0U);
    if (settings().order == Order::reverse) std::reverse(order.begin(), order.end());
    if (settings().order == Order::random) {
        thread_local std::mt19937 generator(20240229);
        std::shuffle(order.begin(), order.end(), generator);
    }
    return order;
}

uint3 place(unsigned int index, const dim3& size) {
    return {index % size.x, index / size.x % size.y, index / size.x / size.y};
}

bool mapped(uintptr_t address) {
    const auto page = uintptr_t(sysconf(_SC_PAGESIZE));
    unsigned char resident = 0;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): asks about an address, reads nothing there
    return mincore(reinterpret_cast<void*>(address / page * page), 1, &resident) == 0;
}

cudaError_t check_limits(const cudaLaunchConfig_t& config, size_t parameter_bytes) {
    const dim3 &grid = config.gridDim, &block = config.blockDim;
    const auto wrong = [&](const char* what) {
        complain("launch of grid (%u, %u, %u), block (%u, %u, %u), %zu bytes of dynamic shared memory: %s", grid.x,
                 grid.y, grid.z, block.x, block.y, block.z, config.dynamicSmemBytes, what);
        return cudaErrorInvalidConfiguration;
    };
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0)
        return wrong("a size is 0");
    if (block.x > threads_most || block.y > threads_most || block.z > 64 ||
        uint64_t{block.x} * block.y * block.z > threads_most)
        return wrong("a block has at most 1024 threads, 64 deep");
    if (grid.x > 2147483647U || grid.y > 65535 || grid.z > 65535)
        return wrong("a grid is at most 2^31 - 1 x 65535 x 65535");
    if (config.dynamicSmemBytes != 0) return wrong("the stand-in has no dynamic shared memory");
    if (parameter_bytes > parameters_most) {
        complain("launch with %zu bytes of parameters, at most %zu", parameter_bytes, parameters_most);
        return cudaErrorInvalidValue;
    }
    return cudaSuccess;
}

}  // namespace

void check_parameter(const void* parameter, size_t bytes, cudaStream_t stream_handle) {
    const Stream stream = find_stream(stream_handle);
    if (!stream) return;
    for (size_t at = 0; at + 8 <= bytes; at += 8) {
        uintptr_t word = 0;
        std::memcpy(&word, static_cast<const unsigned char*>(parameter) + at, 8);
        // Where this kind of process has its heap, its libraries and its stacks.
        if (word < 0x10000 || word >= uintptr_t{1} << 47) continue;
        Allocation found;
        // NOLINTNEXTLINE(performance-no-int-to-ptr)
        if (find_allocation(reinterpret_cast<void*>(word), found)) {
            if (found.home == Home::device && found.device != stream->device)
                die("a kernel for device %d is given memory of device %d", stream->device, found.device);
            continue;
        }
        // One past the end of an allocation is in its guard.
        // NOLINTNEXTLINE(performance-no-int-to-ptr)
        if (find_allocation(reinterpret_cast<void*>(word - 1), found)) continue;
        if (word >= uintptr_t{1} << 40 && mapped(word))
            die("the parameter of a kernel holds %#zx at byte %zu, which is an address of the host", size_t(word), at);
    }
}

UNSEEN_BY_TSAN void* shared_memory(const void* declaration, size_t bytes) {
    SharedMemory& memory = block_memory();
    if (!memory.open) die("shared memory in a launch that does not say that it synchronises");
    return memory.array(declaration, bytes);
}

cudaError_t queue_launch(const cudaLaunchConfig_t& config, size_t parameter_bytes, std::function<void()> thread) {
    if (const cudaError_t error = enter("cudaLaunchKernelEx")) return leave(error);
    const Stream stream = find_stream(config.stream);
    if (!stream) return leave(cudaErrorInvalidResourceHandle);
    const auto& devices = visible_devices();
    if (stream->device != devices[size_t(current_device())]) {
        complain("launch in a stream of device %d, but the calling thread has device %d", stream->device,
                 devices[size_t(current_device())]);
        return leave(cudaErrorInvalidResourceHandle);
    }
    if (const cudaError_t error = check_limits(config, parameter_bytes)) return leave(error);
    Launch launch{config.gridDim, config.blockDim, false, std::move(thread)};
    for (unsigned int i = 0; i < config.numAttrs; ++i)
        if (config.attrs[i].id == cudaLaunchAttributeIgnore && config.attrs[i].val.cooperative != 0)
            launch.synchronises = true;
    queue(stream, [launch = std::move(launch)](bool) {
        if (must_fail("kernel")) set_sticky(cudaErrorLaunchFailure);
        if (runtime().sticky == cudaSuccess) run_launch(launch);
        return true;
    });
    return cudaSuccess;
}

void run_launch(const Launch& launch) {
    ++runtime().launches;
    const unsigned int threads = launch.block.x * launch.block.y * launch.block.z;
    const std::vector<unsigned int> thread_order = order_of(threads);
    const uint64_t blocks = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
    if (blocks > 50'000'000) die("%zu blocks would take the emulation for ever", size_t(blocks));
    blockDim = launch.block;
    gridDim = launch.grid;
    SharedMemory& memory = block_memory();
    size_t poisoned = memory.room;
    for (const unsigned int block : order_of(unsigned(blocks))) {
        blockIdx = place(block, launch.grid);
        if (launch.synchronises) memory.begin_block(poisoned);
        if (launch.synchronises || settings().fibers) {
            run_fibers(thread_order, launch.thread, launch.synchronises);
        } else {
            for (const unsigned int thread : thread_order) {
                threadIdx = place(thread, launch.block);
                launch.thread();
            }
        }
        memory.open = false;
        poisoned = memory.next;
    }
    threadIdx = blockIdx = {0, 0, 0};
    gridDim = blockDim = dim3(0);
}

}  // namespace amalgam::emulation
