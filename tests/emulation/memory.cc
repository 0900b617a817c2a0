// Memory of devices and pinned memory: allocations with guards around, poisoned before use and after.
#include <cstdlib>
#include <cstring>

#include "tests/emulation/runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(memory, bytes) (void(memory), void(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(memory, bytes) (void(memory), void(bytes))
#endif

namespace amalgam::emulation {
namespace {

constexpr size_t guard = 256;  // also the alignment that cudaMalloc promises
constexpr unsigned char poison = 0xff, guard_byte = 0xfb;
constexpr size_t quarantine_most = size_t{64} << 20;

/// Freed memory that still holds poison; guarded by Runtime::mutex.
std::deque<Allocation>& quarantine() {
    static auto& instance = *std::make_unique<std::deque<Allocation>>().release();
    return instance;
}
size_t quarantine_bytes = 0;

size_t rounded(size_t bytes) { return (bytes + guard - 1) / guard * guard; }

bool all(const unsigned char* bytes, size_t count, unsigned char value) {
    return count == 0 || (bytes[0] == value && std::memcmp(bytes, bytes + 1, count - 1) == 0);
}

Allocation allocate(size_t bytes, Home home, int device) {
    const size_t whole = rounded(bytes) + 2 * guard;
    Allocation made;
    made.raw = static_cast<unsigned char*>(std::aligned_alloc(guard, whole));
    if (!made.raw) die("no host memory for %zu bytes", bytes);
    made.bytes = bytes;
    made.home = home;
    made.device = device;
    made.begin = reinterpret_cast<uintptr_t>(made.raw) + guard;
    std::memset(made.raw, guard_byte, guard);
    std::memset(made.raw + guard, poison, bytes);
    std::memset(made.raw + guard + bytes, guard_byte, whole - guard - bytes);
    ASAN_POISON_MEMORY_REGION(made.raw, guard);
    ASAN_POISON_MEMORY_REGION(made.raw + guard + bytes, whole - guard - bytes);
    return made;
}

void check_freed(const Allocation& freed) {
    if (!all(freed.raw + guard, freed.bytes, poison))
        die("memory of %zu bytes at %p was written after it was freed", freed.bytes,
            static_cast<void*>(freed.raw + guard));
}

/// Of the oldest in quarantine; Runtime::mutex is held.
void release_oldest() {
    const Allocation oldest = quarantine().front();
    quarantine().pop_front();
    quarantine_bytes -= oldest.bytes;
    ASAN_UNPOISON_MEMORY_REGION(oldest.raw, rounded(oldest.bytes) + 2 * guard);
    check_freed(oldest);
    std::free(oldest.raw);
}

void release(const Allocation& allocation) {
    const size_t whole = rounded(allocation.bytes) + 2 * guard;
    ASAN_UNPOISON_MEMORY_REGION(allocation.raw, whole);
    const size_t behind = guard + allocation.bytes;
    if (!all(allocation.raw, guard, guard_byte) || !all(allocation.raw + behind, whole - behind, guard_byte))
        die("something was written outside of the allocation of %zu bytes at %p", allocation.bytes,
            static_cast<void*>(allocation.raw + guard));
    std::memset(allocation.raw + guard, poison, allocation.bytes);
    ASAN_POISON_MEMORY_REGION(allocation.raw, whole);
    quarantine().push_back(allocation);
    quarantine_bytes += allocation.bytes;
    while (quarantine_bytes > quarantine_most && !quarantine().empty()) release_oldest();
}

cudaError_t take_back(void* memory, Home home, const char* call) {
    const cudaError_t error = enter(call);
    if (!memory) return leave(error);
    Runtime& state = runtime();
    const std::lock_guard lock(state.mutex);
    const auto found = state.allocations.find(reinterpret_cast<uintptr_t>(memory));
    if (found == state.allocations.end() || found->second.home != home) {
        complain("%s(%p): not what an allocation returned, or freed before", call, memory);
        return leave(cudaErrorInvalidValue);
    }
    if (home == Home::device) state.used[size_t(found->second.device)] -= rounded(found->second.bytes);
    release(found->second);
    state.allocations.erase(found);
    return leave(error);
}

/// Where a range lies; complains about one that leaves its allocation.
enum class Place { device, pinned, pageable, wrong };
Place place_of(const void* memory, size_t bytes) {
    Allocation found;
    if (!find_allocation(memory, found)) return Place::pageable;
    if (!found.contains(memory, bytes)) {
        complain("%zu bytes at %p leave their allocation of %zu bytes at %p", bytes, memory, found.bytes,
                 reinterpret_cast<void*>(found.begin));  // NOLINT(performance-no-int-to-ptr)
        return Place::wrong;
    }
    return found.home == Home::device ? Place::device : Place::pinned;
}

void check_live(const void* memory, size_t bytes, const char* what) {
    Allocation found;
    if (!find_allocation(memory, found) || !found.contains(memory, bytes))
        die("%s: %zu bytes at %p are no longer allocated now that the stream gets to them", what, bytes, memory);
}

bool fits(cudaMemcpyKind kind, bool to_device, bool from_device) {
    switch (kind) {
        case cudaMemcpyHostToHost: return !to_device && !from_device;
        case cudaMemcpyHostToDevice: return to_device && !from_device;
        case cudaMemcpyDeviceToHost: return !to_device && from_device;
        case cudaMemcpyDeviceToDevice: return to_device && from_device;
        case cudaMemcpyDefault: return true;
    }
    return false;
}

cudaError_t queue_copy(const Stream& stream, void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    if (bytes == 0) return cudaSuccess;
    const Place target = place_of(to, bytes), source = place_of(from, bytes);
    if (target == Place::wrong || source == Place::wrong) return cudaErrorInvalidValue;
    if (!fits(kind, target == Place::device, source == Place::device)) {
        complain("copy of %zu bytes from %s to %s memory, called kind %d", bytes,
                 source == Place::device ? "device" : "host", target == Place::device ? "device" : "host", int(kind));
        return cudaErrorInvalidValue;
    }
    std::shared_ptr<std::vector<unsigned char>> staged;
    if (source == Place::pageable && target != Place::pageable) {
        auto bytes_of = static_cast<const unsigned char*>(from);
        staged = std::make_shared<std::vector<unsigned char>>(bytes_of, bytes_of + bytes);
    }
    const uint64_t number = queue(stream, [=](bool) {
        if (target != Place::pageable) check_live(to, bytes, "target of a copy");
        if (source != Place::pageable) check_live(from, bytes, "source of a copy");
        std::memmove(to, staged ? staged->data() : from, bytes);
        return true;
    });
    if (target == Place::pageable) {
        advance(stream, number, true);
        return cudaError_t(int(runtime().sticky));
    }
    return cudaSuccess;
}

}  // namespace

bool find_allocation(const void* memory, Allocation& found) {
    Runtime& state = runtime();
    const std::lock_guard lock(state.mutex);
    auto at = state.allocations.upper_bound(reinterpret_cast<uintptr_t>(memory));
    if (at == state.allocations.begin()) return false;
    --at;
    if (!at->second.contains(memory, 1)) return false;
    found = at->second;
    return true;
}

void check_device_range(const void* memory, size_t bytes, const char* what) {
    if (bytes == 0) return;
    Allocation found;
    if (!find_allocation(memory, found) || found.home != Home::device || !found.contains(memory, bytes))
        die("%s: %zu bytes at %p are not allocated on a device", what, bytes, memory);
}

void check_quarantine() {
    const std::lock_guard lock(runtime().mutex);
    while (!quarantine().empty()) release_oldest();
}

}  // namespace amalgam::emulation

using namespace amalgam::emulation;

cudaError_t cudaMalloc(void** memory, size_t bytes) {
    *memory = nullptr;
    if (const cudaError_t error = enter("cudaMalloc")) return leave(error);
    const auto& devices = visible_devices();
    if (devices.empty()) return leave(cudaErrorNoDevice);
    if (bytes == 0) return cudaSuccess;
    const int device = devices[size_t(current_device())];
    Runtime& state = runtime();
    const std::lock_guard lock(state.mutex);
    if (state.used.size() <= size_t(device)) state.used.resize(size_t(device) + 1);
    uint64_t& used = state.used[size_t(device)];
    if (bytes > settings().memory || used + rounded(bytes) > settings().memory) return leave(cudaErrorMemoryAllocation);
    const Allocation made = allocate(bytes, Home::device, device);
    used += rounded(bytes);
    state.allocations.emplace(made.begin, made);
    *memory = made.raw + guard;
    return cudaSuccess;
}

cudaError_t cudaFree(void* memory) { return take_back(memory, Home::device, "cudaFree"); }

cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned int) {
    *memory = nullptr;
    if (const cudaError_t error = enter("cudaHostAlloc")) return leave(error);
    if (bytes == 0) return cudaSuccess;
    Runtime& state = runtime();
    const std::lock_guard lock(state.mutex);
    const Allocation made = allocate(bytes, Home::pinned, 0);
    state.allocations.emplace(made.begin, made);
    *memory = made.raw + guard;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void* memory) { return take_back(memory, Home::pinned, "cudaFreeHost"); }

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t handle) {
    if (const cudaError_t error = enter("cudaMemcpyAsync")) return leave(error);
    const Stream stream = find_stream(handle);
    if (!stream) return leave(cudaErrorInvalidResourceHandle);
    return leave(queue_copy(stream, to, from, bytes, kind));
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    if (const cudaError_t error = enter("cudaMemcpy")) return leave(error);
    const Stream stream = find_stream(nullptr);
    if (const cudaError_t error = queue_copy(stream, to, from, bytes, kind)) return leave(error);
    advance(stream, tail(stream), true);
    return leave(cudaError_t(int(runtime().sticky)));
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t handle) {
    if (const cudaError_t error = enter("cudaMemsetAsync")) return leave(error);
    const Stream stream = find_stream(handle);
    if (!stream) return leave(cudaErrorInvalidResourceHandle);
    if (bytes == 0) return cudaSuccess;
    if (place_of(memory, bytes) != Place::device) return leave(cudaErrorInvalidValue);
    queue(stream, [=](bool) {
        check_live(memory, bytes, "cudaMemsetAsync");
        std::memset(memory, value, bytes);
        return true;
    });
    return cudaSuccess;
}
