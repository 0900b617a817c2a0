// Streams and events: queues of work that runs only for those who wait for it.
#include <condition_variable>
#include <thread>

#include "tests/emulation/runtime.h"

namespace amalgam::emulation {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto patience = std::chrono::milliseconds(200);

/// Goes on with the streams that other processes may wait for.
struct Hurrier {
    std::mutex mutex;
    std::condition_variable wake;
    std::thread thread;
    std::vector<Stream> streams;
    bool stop = false;

    void run() {
        std::unique_lock lock(mutex);
        while (!stop) {
            wake.wait_for(lock, std::chrono::milliseconds(streams.empty() ? 1000 : 20));
            const std::vector<Stream> now = streams;
            lock.unlock();
            for (const Stream& stream : now) {
                uint64_t number = 0;
                {
                    const std::lock_guard guard(runtime().mutex);
                    if (Clock::now() - stream->hurried_since >= patience) number = stream->hurried;
                }
                advance(stream, number, false);
            }
            lock.lock();
            std::erase_if(streams, [](const Stream& stream) {
                const std::lock_guard guard(runtime().mutex);
                return stream->finished >= stream->hurried;
            });
        }
    }
};
Hurrier& hurrier() {
    static Hurrier& instance = *std::make_unique<Hurrier>().release();
    return instance;
}

Stream default_stream(int device) {
    Runtime& state = runtime();
    const std::lock_guard lock(state.mutex);
    auto& streams = state.default_streams;
    if (streams.size() <= size_t(device)) streams.resize(size_t(device) + 1);
    if (!streams[size_t(device)]) {
        streams[size_t(device)] = std::make_shared<CUstream_st>();
        streams[size_t(device)]->device = device;
        streams[size_t(device)]->blocking = true;
    }
    return streams[size_t(device)];
}

uint64_t push(const Stream& stream, Work work) {
    const std::lock_guard lock(runtime().mutex);
    stream->work.push_back(std::move(work));
    return ++stream->queued;
}

/// The default stream and blocking streams take turns.
void take_turns(const Stream& stream) {
    if (!stream->blocking) return;
    std::vector<Stream> before;
    {
        Runtime& state = runtime();
        const std::lock_guard lock(state.mutex);
        const auto device = size_t(stream->device);
        const Stream standard = device < state.default_streams.size() ? state.default_streams[device] : nullptr;
        if (standard == stream) {
            for (const auto& [handle, other] : state.streams)
                if (other->blocking && other->device == stream->device) before.push_back(other);
        } else if (standard) {
            before.push_back(standard);
        }
    }
    for (const Stream& other : before)
        if (const uint64_t number = tail(other); other->finished < number) push(stream, wait_for(other, number));
}

/// Of one event, as it was recorded last.
struct Recorded {
    Stream stream;
    uint64_t number = 0;
};
bool find_event(cudaEvent_t event, Recorded& recorded) {
    Runtime& state = runtime();
    const std::lock_guard lock(state.mutex);
    const auto found = state.events.find(event);
    if (found == state.events.end()) return false;
    recorded = {found->second->stream, found->second->number};
    return true;
}

cudaError_t state_after_wait() { return cudaError_t(int(runtime().sticky)); }

cudaError_t query(const Stream& stream, uint64_t number) {
    if (stream->finished >= number) return state_after_wait();
    advance(stream, number, false, 1);
    return cudaErrorNotReady;
}

}  // namespace

Stream find_stream(cudaStream_t handle) {
    if (!handle) {
        const auto& devices = visible_devices();
        return devices.empty() ? nullptr : default_stream(devices[size_t(current_device())]);
    }
    const std::lock_guard lock(runtime().mutex);
    const auto found = runtime().streams.find(handle);
    if (found == runtime().streams.end()) return nullptr;
    return found->second;
}

uint64_t tail(const Stream& stream) {
    const std::lock_guard lock(runtime().mutex);
    return stream->queued;
}

uint64_t queue(const Stream& stream, Work work) {
    take_turns(stream);
    return push(stream, std::move(work));
}

Work wait_for(const Stream& other, uint64_t number) {
    return [other, number](bool block) { return advance(other, number, block); };
}

// Waits cannot form a circle: what a stream waits for was queued before the wait was.
bool advance(const Stream& stream, uint64_t number, bool block, uint64_t most) {
    if (stream->finished >= number) return true;
    std::unique_lock running(stream->running, std::defer_lock);
    if (block)
        running.lock();
    else if (!running.try_lock())
        return false;
    for (uint64_t done = 0; stream->finished < number && done < most; ++done) {
        Work work;
        {
            const std::lock_guard lock(runtime().mutex);
            if (stream->work.empty()) return stream->finished >= number;
            work = stream->work.front();
        }
        for (int tries = 0; !work(block); ++tries) {
            if (!block) return false;
            if (tries < 20)
                std::this_thread::yield();
            else
                std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
        const std::lock_guard lock(runtime().mutex);
        stream->work.pop_front();
        ++stream->finished;
    }
    return stream->finished >= number;
}

void hurry(const Stream& stream) {
    {
        const std::lock_guard lock(runtime().mutex);
        if (stream->finished >= stream->hurried) stream->hurried_since = Clock::now();
        stream->hurried = stream->queued;
    }
    Hurrier& other = hurrier();
    const std::lock_guard lock(other.mutex);
    if (std::find(other.streams.begin(), other.streams.end(), stream) == other.streams.end())
        other.streams.push_back(stream);
    if (!other.thread.joinable() && !other.stop) other.thread = std::thread([&other] { other.run(); });
    other.wake.notify_all();
}

void stop_hurrying() {
    Hurrier& other = hurrier();
    {
        const std::lock_guard lock(other.mutex);
        other.stop = true;
        other.wake.notify_all();
    }
    if (other.thread.joinable()) other.thread.join();
}

}  // namespace amalgam::emulation

using namespace amalgam::emulation;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* handle, unsigned int flags) {
    *handle = nullptr;
    if (const cudaError_t error = enter("cudaStreamCreateWithFlags")) return leave(error);
    if (flags > cudaStreamNonBlocking) return leave(cudaErrorInvalidValue);
    const auto& devices = visible_devices();
    if (devices.empty()) return leave(cudaErrorNoDevice);
    auto stream = std::make_shared<CUstream_st>();
    stream->device = devices[size_t(current_device())];
    stream->blocking = flags == cudaStreamDefault;
    *handle = stream.get();
    const std::lock_guard lock(runtime().mutex);
    runtime().streams.emplace(stream.get(), stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
    const cudaError_t error = enter("cudaStreamDestroy");
    const Stream stream = handle ? find_stream(handle) : nullptr;
    if (!stream) return leave(cudaErrorInvalidResourceHandle);
    // What was queued still runs, unless it waits for a peer: nobody is left to see that.
    if (!advance(stream, tail(stream), false)) {
        const std::lock_guard running(stream->running);
        const std::lock_guard lock(runtime().mutex);
        stream->work.clear();
        stream->finished = stream->queued;
    }
    const std::lock_guard lock(runtime().mutex);
    runtime().streams.erase(handle);
    return leave(error);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
    if (const cudaError_t error = enter("cudaStreamSynchronize")) return leave(error);
    const Stream stream = find_stream(handle);
    if (!stream) return leave(cudaErrorInvalidResourceHandle);
    advance(stream, tail(stream), true);
    return leave(state_after_wait());
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
    if (const cudaError_t error = enter("cudaStreamQuery")) return leave(error);
    const Stream stream = find_stream(handle);
    if (!stream) return leave(cudaErrorInvalidResourceHandle);
    return leave(query(stream, tail(stream)));
}

cudaError_t cudaDeviceSynchronize() {
    if (const cudaError_t error = enter("cudaDeviceSynchronize")) return leave(error);
    const auto& devices = visible_devices();
    if (devices.empty()) return leave(cudaErrorNoDevice);
    const int device = devices[size_t(current_device())];
    std::vector<Stream> all;
    {
        const std::lock_guard lock(runtime().mutex);
        for (const auto& [handle, stream] : runtime().streams)
            if (stream->device == device) all.push_back(stream);
        if (size_t(device) < runtime().default_streams.size() && runtime().default_streams[size_t(device)])
            all.push_back(runtime().default_streams[size_t(device)]);
    }
    for (const Stream& stream : all) advance(stream, tail(stream), true);
    return leave(state_after_wait());
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* handle, unsigned int flags) {
    *handle = nullptr;
    if (const cudaError_t error = enter("cudaEventCreateWithFlags")) return leave(error);
    if (flags > (cudaEventBlockingSync | cudaEventDisableTiming)) return leave(cudaErrorInvalidValue);
    const auto& devices = visible_devices();
    if (devices.empty()) return leave(cudaErrorNoDevice);
    auto event = std::make_unique<CUevent_st>();
    event->device = devices[size_t(current_device())];
    *handle = event.get();
    const std::lock_guard lock(runtime().mutex);
    runtime().events.emplace(event.get(), std::move(event));
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    const cudaError_t error = enter("cudaEventDestroy");
    const std::lock_guard lock(runtime().mutex);
    return leave(runtime().events.erase(event) == 1 ? error : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
    if (const cudaError_t error = enter("cudaEventRecord")) return leave(error);
    const Stream stream = find_stream(handle);
    Recorded before;
    if (!stream || !find_event(event, before)) return leave(cudaErrorInvalidResourceHandle);
    const uint64_t number = queue(stream, [](bool) { return true; });
    const std::lock_guard lock(runtime().mutex);
    if (event->device != stream->device) return leave(cudaErrorInvalidResourceHandle);
    event->stream = stream;
    event->number = number;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned int) {
    if (const cudaError_t error = enter("cudaStreamWaitEvent")) return leave(error);
    const Stream stream = find_stream(handle);
    Recorded recorded;
    if (!stream || !find_event(event, recorded)) return leave(cudaErrorInvalidResourceHandle);
    if (recorded.stream && recorded.stream != stream) queue(stream, wait_for(recorded.stream, recorded.number));
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (const cudaError_t error = enter("cudaEventSynchronize")) return leave(error);
    Recorded recorded;
    if (!find_event(event, recorded)) return leave(cudaErrorInvalidResourceHandle);
    if (recorded.stream) advance(recorded.stream, recorded.number, true);
    return leave(state_after_wait());
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    if (const cudaError_t error = enter("cudaEventQuery")) return leave(error);
    Recorded recorded;
    if (!find_event(event, recorded)) return leave(cudaErrorInvalidResourceHandle);
    return leave(recorded.stream ? query(recorded.stream, recorded.number) : cudaSuccess);
}
