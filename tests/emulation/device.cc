// Devices, errors, settings, and what is said at exit.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/emulation/runtime.h"

namespace amalgam::emulation {
namespace {

thread_local int device_of_thread = 0;
thread_local cudaError_t last_error = cudaSuccess;

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

Settings read_settings() {
    Settings result;
    if (const auto text = variable("AMALGAM_EMULATION_DEVICES"); !text.empty())
        result.devices = std::atoi(text.c_str());
    if (const auto text = variable("AMALGAM_EMULATION_MEMORY"); !text.empty())
        result.memory = std::strtoull(text.c_str(), nullptr, 10);
    const auto order = variable("AMALGAM_EMULATION_ORDER");
    if (order == "reverse")
        result.order = Order::reverse;
    else if (order == "random")
        result.order = Order::random;
    else if (!order.empty() && order != "forward")
        die("AMALGAM_EMULATION_ORDER=%s: forward, reverse or random", order.c_str());
    result.fibers = variable("AMALGAM_EMULATION_FIBERS") == "1";
    const auto leaks = variable("AMALGAM_EMULATION_LEAKS");
    if (leaks == "fail")
        result.leaks = Leaks::fail;
    else if (leaks == "ignore")
        result.leaks = Leaks::ignore;
    else if (!leaks.empty() && leaks != "report")
        die("AMALGAM_EMULATION_LEAKS=%s: report, fail or ignore", leaks.c_str());
    return result;
}

/// Calls until each call fails; that of tests, guarded by a mutex of its own.
struct Failures {
    std::mutex mutex;
    std::multimap<std::string, uint64_t> left;
    std::atomic<bool> any{false};

    Failures() { set(variable("AMALGAM_EMULATION_FAIL")); }
    void set(const std::string& text) {
        const std::lock_guard lock(mutex);
        left.clear();
        for (size_t at = 0; at < text.size();) {
            const size_t comma = std::min(text.find(',', at), text.size());
            const std::string item = text.substr(at, comma - at);
            const size_t colon = item.find(':');
            const uint64_t number =
                colon == std::string::npos ? 0 : std::strtoull(item.c_str() + colon + 1, nullptr, 10);
            if (number == 0) die("AMALGAM_EMULATION_FAIL=%s: expected call:n,...", text.c_str());
            left.emplace(item.substr(0, colon), number);
            at = comma + 1;
        }
        any = !left.empty();
    }
};
Failures& failures() {
    static Failures& instance = *std::make_unique<Failures>().release();
    return instance;
}

cudaError_t error_of(const std::string& call) {
    if (call == "cudaMalloc" || call == "cudaHostAlloc" || call == "cudaStreamCreateWithFlags" ||
        call == "cudaEventCreateWithFlags")
        return cudaErrorMemoryAllocation;
    if (call == "cudaGetDeviceCount") return cudaErrorNoDevice;
    if (call == "cudaSetDevice" || call == "cudaGetDeviceProperties") return cudaErrorInvalidDevice;
    if (call == "cudaLaunchKernelEx") return cudaErrorLaunchOutOfResources;
    set_sticky(cudaErrorLaunchFailure);  // of earlier work, as such calls return
    return cudaErrorLaunchFailure;
}

void report_leaks() {
    if (settings().leaks == Leaks::ignore) return;
    check_quarantine();
    const std::string text = leaks();
    if (text.empty()) return;
    std::fprintf(stderr, "amalgam emulation: not released at exit:\n%s", text.c_str());
    std::fflush(nullptr);
    if (settings().leaks == Leaks::fail) std::_Exit(87);
}

/// Registered before main(), so that it runs after the destructors of whatever holds device memory.
const bool registered = std::atexit(+[] {
                            stop_hurrying();
                            report_leaks();
                        }) == 0;

}  // namespace

Runtime& runtime() {
    static Runtime& instance = *std::make_unique<Runtime>().release();
    return instance;
}

Settings& settings() {
    static Settings instance = read_settings();
    return instance;
}

void set_failures(const std::string& text) { failures().set(text); }

void forget_errors() {
    runtime().sticky = cudaSuccess;
    last_error = cudaSuccess;
}

uint64_t launches_run() { return runtime().launches; }
uint64_t transfers_run() { return runtime().transfers; }

std::string leaks() {
    Runtime& state = runtime();
    const std::lock_guard lock(state.mutex);
    std::string text;
    for (const auto& [begin, allocation] : state.allocations)
        text += "  " + std::to_string(allocation.bytes) +
                (allocation.home == Home::device ? " bytes of device " + std::to_string(allocation.device)
                                                 : std::string(" bytes of pinned memory")) +
                "\n";
    if (!state.streams.empty()) text += "  " + std::to_string(state.streams.size()) + " streams\n";
    if (!state.events.empty()) text += "  " + std::to_string(state.events.size()) + " events\n";
    for (const auto& [handle, name] : state.others) text += "  " + name + "\n";
    return text;
}

void die(const char* format, ...) {
    char text[1000];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    std::fprintf(stderr, "amalgam emulation: %s (block %u, thread %u)\n", text, blockIdx.x, threadIdx.x);
    std::fflush(nullptr);
    std::_Exit(86);
}

void complain(const char* format, ...) {
    char text[1000];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    std::fprintf(stderr, "amalgam emulation: %s\n", text);
}

void set_sticky(cudaError_t error) {
    int none = cudaSuccess;
    runtime().sticky.compare_exchange_strong(none, error);
}

bool must_fail(const char* call) {
    Failures& asked = failures();
    if (!asked.any) return false;
    const std::lock_guard lock(asked.mutex);
    bool result = false;
    auto [at, end] = asked.left.equal_range(call);
    for (; at != end; ++at)
        if (at->second != 0 && --at->second == 0) result = true;
    return result;
}

cudaError_t enter(const char* call) {
    if (const int sticky = runtime().sticky; sticky != cudaSuccess) return cudaError_t(sticky);
    return must_fail(call) ? error_of(call) : cudaSuccess;
}

cudaError_t leave(cudaError_t error) {
    if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
    return error;
}

const std::vector<int>& visible_devices() {
    // Again at every call, since tests change the number.
    thread_local std::vector<int> result;
    result.clear();
    const char* list = std::getenv("CUDA_VISIBLE_DEVICES");
    if (!list) {
        for (int i = 0; i < settings().devices; ++i) result.push_back(i);
        return result;
    }
    // As CUDA: up to the first number that names no device.
    for (const char* at = list; *at;) {
        char* end = nullptr;
        const long number = std::strtol(at, &end, 10);
        if (end == at || number < 0 || number >= settings().devices) break;
        result.push_back(int(number));
        if (*end != ',') break;
        at = end + 1;
    }
    return result;
}

int current_device() { return device_of_thread; }

}  // namespace amalgam::emulation

using namespace amalgam::emulation;

cudaError_t cudaGetDeviceCount(int* count) {
    *count = 0;
    if (const cudaError_t error = enter("cudaGetDeviceCount")) return leave(error);
    *count = int(visible_devices().size());
    return leave(*count == 0 ? cudaErrorNoDevice : cudaSuccess);
}

cudaError_t cudaGetDevice(int* device) {
    if (const cudaError_t error = enter("cudaGetDevice")) return leave(error);
    *device = current_device();
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (const cudaError_t error = enter("cudaSetDevice")) return leave(error);
    if (device < 0 || device >= int(visible_devices().size())) return leave(cudaErrorInvalidDevice);
    device_of_thread = device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    if (const cudaError_t error = enter("cudaGetDeviceProperties")) return leave(error);
    if (device < 0 || device >= int(visible_devices().size())) return leave(cudaErrorInvalidDevice);
    *properties = {};
    const int physical = visible_devices()[size_t(device)];
    std::snprintf(properties->name, sizeof properties->name, "Emulated GPU %d", physical);
    properties->totalGlobalMem = settings().memory;
    properties->sharedMemPerBlock = 48 << 10;
    properties->regsPerBlock = 65536;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
    properties->maxThreadsDim[2] = 64;
    properties->maxGridSize[0] = 2147483647;
    properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
    properties->major = 8;
    // Few, since a grid is as large as its device, and threads here run one after the other.
    properties->multiProcessorCount = 2;
    properties->concurrentKernels = 1;
    properties->pciBusID = physical + 1;
    properties->asyncEngineCount = 2;
    properties->unifiedAddressing = 1;
    properties->memoryBusWidth = 128;
    properties->l2CacheSize = 4 << 20;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->sharedMemPerMultiprocessor = 64 << 10;
    properties->regsPerMultiprocessor = 65536;
    properties->maxBlocksPerMultiProcessor = 32;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    if (const cudaError_t error = enter("cudaMemGetInfo")) return leave(error);
    if (visible_devices().empty()) return leave(cudaErrorNoDevice);
    const auto physical = size_t(visible_devices()[size_t(current_device())]);
    const std::lock_guard lock(runtime().mutex);
    const uint64_t used = physical < runtime().used.size() ? runtime().used[physical] : 0;
    *total = settings().memory;
    *free = *total > used ? *total - used : 0;
    return cudaSuccess;
}

cudaError_t cudaGetLastError() {
    const cudaError_t error = cudaPeekAtLastError();
    last_error = cudaSuccess;
    return error;
}
cudaError_t cudaPeekAtLastError() {
    const int sticky = runtime().sticky;
    return sticky != cudaSuccess ? cudaError_t(sticky) : last_error;
}

const char* cudaGetErrorName(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "cudaSuccess";
        case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
        case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
        case cudaErrorInitializationError: return "cudaErrorInitializationError";
        case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
        case cudaErrorInvalidMemcpyDirection: return "cudaErrorInvalidMemcpyDirection";
        case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
        case cudaErrorInvalidDeviceFunction: return "cudaErrorInvalidDeviceFunction";
        case cudaErrorNoDevice: return "cudaErrorNoDevice";
        case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
        case cudaErrorInvalidResourceHandle: return "cudaErrorInvalidResourceHandle";
        case cudaErrorNotReady: return "cudaErrorNotReady";
        case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
        case cudaErrorLaunchOutOfResources: return "cudaErrorLaunchOutOfResources";
        case cudaErrorMisalignedAddress: return "cudaErrorMisalignedAddress";
        case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
        case cudaErrorUnknown: return "cudaErrorUnknown";
    }
    return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "no error";
        case cudaErrorMemoryAllocation: return "out of memory";
        case cudaErrorNoDevice: return "no CUDA-capable device is detected";
        case cudaErrorInvalidDevice: return "invalid device ordinal";
        case cudaErrorLaunchFailure: return "unspecified launch failure";
        default: return cudaGetErrorName(error);
    }
}
