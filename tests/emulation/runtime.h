// What the parts of the stand-ins share.
#pragma once
#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/emulation/control.h"
#include "tests/emulation/include/cuda_runtime.h"

namespace amalgam::emulation {

enum class Home { device, pinned };
struct Allocation {
    uintptr_t begin = 0;
    size_t bytes = 0;
    Home home = Home::device;
    int device = 0;
    unsigned char* raw = nullptr;  ///< with guards around

    bool contains(const void* memory, size_t count) const {
        const auto at = reinterpret_cast<uintptr_t>(memory);
        return at >= begin && count <= bytes && at - begin <= bytes - count;
    }
};

/// Returns whether the work is done; may be asked again and again. `block`: whoever asks waits for it.
using Work = std::function<bool(bool block)>;

}  // namespace amalgam::emulation

struct CUstream_st {
    int device = 0;
    bool blocking = false;  ///< takes turns with the stream of number 0
    std::mutex running;     ///< held by the thread that runs work
    /// Guarded by Runtime::mutex.
    std::deque<amalgam::emulation::Work> work;
    uint64_t queued = 0;
    std::atomic<uint64_t> finished{0};
    /// Work up to this number is not to be waited for by the patient, and since when.
    uint64_t hurried = 0;
    std::chrono::steady_clock::time_point hurried_since;
};
struct CUevent_st {
    int device = 0;
    std::shared_ptr<CUstream_st> stream;  ///< of the latest record
    uint64_t number = 0;
};

namespace amalgam::emulation {

using Stream = std::shared_ptr<CUstream_st>;

struct Runtime {
    std::mutex mutex;
    std::map<uintptr_t, Allocation> allocations;  ///< by begin
    std::vector<uint64_t> used;                   ///< bytes by physical device
    std::unordered_map<cudaStream_t, Stream> streams;
    std::unordered_map<cudaEvent_t, std::unique_ptr<CUevent_st>> events;
    std::vector<Stream> default_streams;        ///< by device, made when first used
    std::map<const void*, std::string> others;  ///< NCCL communicators, cuBLAS handles
    std::atomic<int> sticky{cudaSuccess};
    std::atomic<uint64_t> launches{0}, transfers{0};
};
/// Lives until the process ends.
Runtime& runtime();

/// The devices that this process sees, by their physical numbers.
const std::vector<int>& visible_devices();
int current_device();

/// Begins every call: the error that stays, or the one that tests ask for.
cudaError_t enter(const char* call);
/// Ends every call: cudaGetLastError() will know.
cudaError_t leave(cudaError_t error);
/// Whether the call of that name must fail now.
bool must_fail(const char* call);
/// A sentence on stderr, for errors whose code alone says little.
void complain(const char* format, ...) __attribute__((format(printf, 1, 2)));
void set_sticky(cudaError_t error);

/// The live allocation that holds the first byte; nothing if there is none. Takes Runtime::mutex.
bool find_allocation(const void* memory, Allocation& found);
/// Ends the program unless the range lies in one live allocation on the device.
void check_device_range(const void* memory, size_t bytes, const char* what);
void check_quarantine();

/// nullptr if the handle names no stream; 0 is the default stream of the current device.
Stream find_stream(cudaStream_t handle);
/// Returns the number of the work.
uint64_t queue(const Stream& stream, Work work);
/// The number of the latest work.
uint64_t tail(const Stream& stream);
/// Work that waits until that of another stream is done.
Work wait_for(const Stream& other, uint64_t number);
/// Runs work up to `number`; at most `most` pieces. Returns whether it is done.
bool advance(const Stream& stream, uint64_t number, bool block, uint64_t most = UINT64_MAX);
/// Streams hurried so go on by themselves a little later.
void hurry(const Stream& stream);
void stop_hurrying();

/// Runs all blocks of a launch in the calling thread.
struct Launch {
    dim3 grid, block;
    bool synchronises = false;
    std::function<void()> thread;
};
void run_launch(const Launch& launch);
/// Runs a block of threads in the order of `order`, together from barrier to barrier.
void run_fibers(const std::vector<unsigned int>& order, const std::function<void()>& thread, bool may_synchronise);

}  // namespace amalgam::emulation
