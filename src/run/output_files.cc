#include "src/run/output_files.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/statfs.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "src/base/error.h"
#include "src/run/descriptor.h"
#include "src/run/new_output_files.h"

namespace amalgam {
namespace {

constexpr uint64_t page = data_alignment;
/// Direct writes of 1 MiB reach two thirds of the disk's rate, of 2 MiB all of it; and that is a huge page.
constexpr uint64_t largest_chunk = uint64_t{2} << 20, smallest_chunk = uint64_t{64} << 10;
/// Of smaller files the page cache takes care.
constexpr uint64_t smallest_direct_file = uint64_t{1} << 20;
/// A direct write waits for the disk: not worth it for crumbs of chunks that never became full.
constexpr uint64_t smallest_direct_write = uint64_t{64} << 10;
/// One fills the disk if it always runs; the second takes over while the other waits for a core.
constexpr size_t writer_threads = 2;
/// Chunks that may wait for write-back from the page cache: beyond, write() waits for the disk.
constexpr size_t most_waiting = 64;
/// The usual limit of a process is 1,024, and small shards make many files.
constexpr size_t most_open = 64;

struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<std::byte, Free>;

Memory chunk_memory(uint64_t bytes) {
    Memory memory(static_cast<std::byte*>(std::aligned_alloc(bytes < largest_chunk ? page : largest_chunk, bytes)));
    if (!memory) throw std::bad_alloc();
    // Fewer page faults, and longer transfers: best effort.
    if (bytes == largest_chunk) ::madvise(memory.get(), bytes, MADV_HUGEPAGE);
    return memory;
}

/// Bytes of a file.
struct Range {
    uint64_t begin = 0, end = 0;
};

/// What has arrived of an aligned part of a file.
struct Chunk {
    int file = 0;
    uint64_t begin = 0;          ///< in the file, a multiple of the chunk size: where `memory` begins
    Range data;                  ///< in the file: what belongs to the chunk, without the header
    Memory memory;               ///< empty: the bytes are in the page cache
    std::vector<Range> arrived;  ///< ascending, apart from each other
    int copying = 0;             ///< threads that fill it: it must stay
    uint64_t last_use = 0;

    void add(Range range) {
        const auto first = std::lower_bound(arrived.begin(), arrived.end(), range.begin,
                                            [](const Range& one, uint64_t at) { return one.end < at; });
        auto last = first;
        for (; last != arrived.end() && last->begin <= range.end; ++last)
            range = {std::min(range.begin, last->begin), std::max(range.end, last->end)};
        arrived.insert(arrived.erase(first, last), range);
    }

    bool full() const { return arrived.size() == 1 && arrived[0].begin <= data.begin && arrived[0].end >= data.end; }
};

}  // namespace

void OutputFiles::create(const std::string& folder, const OutputLayout& layout) {
    NewOutputFiles(folder, layout).create();
}

struct OutputFiles::Implementation {
    struct Open {
        Descriptor cached, direct;
        std::atomic<bool> direct_works = false;
        size_t descriptors() const { return direct ? 2 : 1; }
    };

    struct File {
        std::string path;
        uint64_t data_begin = 0, bytes = 0;
        std::shared_ptr<Open> open;  ///< empty while it is closed
        uint64_t last_use = 0;
        bool dirty = false;  ///< written since it was synced
    };

    using Chunks = std::map<std::pair<int, uint64_t>, std::unique_ptr<Chunk>>;  ///< by file and begin

    Implementation(const std::string& in_folder, const OutputLayout& layout, uint64_t memory)
        : folder(in_folder),
          file_bytes(layout.file_bytes),
          chunk_bytes(std::clamp(std::bit_floor(memory / 8), smallest_chunk, largest_chunk)),
          most_buffers(std::max(uint64_t{2}, memory / chunk_bytes)) {
        files.reserve(layout.files.size());
        for (const OutputLayout::File& file : layout.files)
            files.push_back({folder + "/" + file.name, file.data_begin, file.bytes, nullptr, 0, false});
    }

    ~Implementation() {
        {
            const std::lock_guard lock(mutex);
            try {
                if (first_error.empty()) send_all();
            } catch (const std::exception&) {
                // Nobody is there to be told; the journal's digests find what is missing.
            }
            stop = true;
        }
        arrivals.notify_all();
        for (std::thread& writer : writers) writer.join();
    }

    [[noreturn]] void fail_at(const char* done, int file, uint64_t begin, uint64_t end) const {
        const int error = errno;
        fail("{}: bytes {} to {} cannot be {} ({}){}", printable(files[size_t(file)].path), begin, end, done,
             errno_text(error), space_text(error, folder, file_bytes));
    }

    void check_range(int file, uint64_t at, uint64_t bytes) const {
        const bool inside = file >= 0 && size_t(file) < files.size() && at >= files[size_t(file)].data_begin &&
                            at <= files[size_t(file)].bytes && bytes <= files[size_t(file)].bytes - at;
        check(inside, "bytes {} to {} are outside of the data of output file {}: this is a bug of amalgam", at,
              at + bytes, file);
    }

    /// With the lock held.
    void throw_first_error() const {
        if (!first_error.empty()) throw Error(first_error);
    }

    /// Throws the first error of all, now and in every later call.
    [[noreturn]] void fail_for_good(const char* text) {
        const std::lock_guard lock(mutex);
        if (first_error.empty()) first_error = text;
        changed.notify_all();
        throw Error(first_error);
    }

    std::shared_ptr<Open> open(int index) {
        std::unique_lock lock(mutex);
        File& file = files[size_t(index)];
        file.last_use = ++uses;
        if (file.open) return file.open;
        const auto opened = std::make_shared<Open>();
        constexpr int flags = O_NOFOLLOW | O_CLOEXEC;
        opened->cached = Descriptor(::open(file.path.c_str(), flags | O_RDWR));
        if (!opened->cached) fail("{}: cannot be opened ({})", printable(file.path), errno_text(errno));
        struct statfs system {};
        // A file system in memory has nothing to go past.
        const bool in_memory = ::fstatfs(opened->cached.number(), &system) == 0 &&
                               (system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC);
        // Where this cannot be opened, the page cache does as well.
        if (file.bytes >= smallest_direct_file && !in_memory)
            opened->direct = Descriptor(::open(file.path.c_str(), flags | O_WRONLY | O_DIRECT));
        opened->direct_works = bool(opened->direct);
        file.open = opened;
        open_descriptors += opened->descriptors();
        while (open_descriptors > most_open) close_oldest(lock);
        return opened;
    }

    /// Lets go of the lock for a while. The file is synced first: its errors would be lost with the descriptor.
    void close_oldest(std::unique_lock<std::mutex>& lock) {
        size_t oldest = files.size();
        for (size_t i = 0; i < files.size(); ++i)
            if (files[i].open && (oldest == files.size() || files[i].last_use < files[oldest].last_use)) oldest = i;
        const std::shared_ptr<Open> closing = std::move(files[oldest].open);
        files[oldest].open = nullptr;
        const bool dirty = std::exchange(files[oldest].dirty, false);
        open_descriptors -= closing->descriptors();
        lock.unlock();
        if (dirty && ::fdatasync(closing->cached.number()) != 0)
            fail_at("made to last", int(oldest), 0, files[oldest].bytes);
        lock.lock();
    }

    /// A chunk that `at` belongs to, new if there is none; with the lock held.
    Chunk& chunk_at(int file, uint64_t at) {
        const uint64_t begin = at / chunk_bytes * chunk_bytes;
        std::unique_ptr<Chunk>& chunk = chunks[{file, begin}];
        if (!chunk) {
            const File& whole = files[size_t(file)];
            chunk = std::make_unique<Chunk>();
            chunk->file = file;
            chunk->begin = begin;
            chunk->data = {std::max(begin, whole.data_begin), std::min(begin + chunk_bytes, whole.bytes)};
        }
        chunk->last_use = ++uses;
        return *chunk;
    }

    /// Gives a chunk to the writers; with the lock held.
    Chunks::iterator send(Chunks::iterator chunk) {
        while (writers.size() < writer_threads) writers.emplace_back([this] { write_out(); });
        const bool in_memory = bool(chunk->second->memory);
        queue.push_back(std::move(chunk->second));
        if (in_memory) ++under_way;
        arrivals.notify_one();
        return chunks.erase(chunk);
    }

    /// The chunk in memory that has waited longest for the rest of its bytes; with the lock held. False: there is none.
    bool send_oldest() {
        auto oldest = chunks.end();
        for (auto chunk = chunks.begin(); chunk != chunks.end(); ++chunk)
            if (chunk->second->memory && chunk->second->copying == 0 &&
                (oldest == chunks.end() || chunk->second->last_use < oldest->second->last_use))
                oldest = chunk;
        if (oldest == chunks.end()) return false;
        send(oldest);
        return true;
    }

    /// All chunks in memory; with the lock held. False: some are still being filled.
    bool send_all() {
        bool all = true;
        for (auto chunk = chunks.begin(); chunk != chunks.end();) {
            if (!chunk->second->memory || chunk->second->copying != 0) {
                all = all && !chunk->second->memory;
                ++chunk;
            } else {
                chunk = send(chunk);
            }
        }
        return all;
    }

    /// The chunk in memory that `at` belongs to. Waits for memory.
    Chunk& chunk_in_memory(std::unique_lock<std::mutex>& lock, int file, uint64_t at) {
        const std::pair<int, uint64_t> key{file, at / chunk_bytes * chunk_bytes};
        // More on their way than the writers keep busy with would only make more chunks go out with holes.
        const size_t enough = std::min(writer_threads, most_buffers / 2);
        while (true) {
            throw_first_error();
            const auto found = chunks.find(key);
            if (found != chunks.end() && found->second->memory) return chunk_at(file, at);
            if (!free_buffers.empty() || buffers < most_buffers) break;
            while (under_way < enough && send_oldest()) continue;
            changed.wait(lock);
        }
        Chunk& chunk = chunk_at(file, at);
        // What came by way of the page cache counts no longer: it is there.
        chunk.arrived.clear();
        if (free_buffers.empty()) {
            free_buffers.reserve(buffers + 1);  // giving it back must not fail
            chunk.memory = chunk_memory(chunk_bytes);
            ++buffers;
        } else {
            chunk.memory = std::move(free_buffers.back());
            free_buffers.pop_back();
        }
        return chunk;
    }

    /// Bytes of one chunk, to go to the disk directly.
    void keep(int file, uint64_t at, std::span<const std::byte> bytes) {
        std::unique_lock lock(mutex);
        Chunk& chunk = chunk_in_memory(lock, file, at);
        ++chunk.copying;
        lock.unlock();
        std::memcpy(chunk.memory.get() + (at - chunk.begin), bytes.data(), bytes.size());
        lock.lock();
        --chunk.copying;
        chunk.add({at, at + bytes.size()});
        if (chunk.copying != 0) return;
        if (chunk.full()) send(chunks.find({file, chunk.begin}));
        changed.notify_all();
    }

    /// Bytes of one chunk that are in the page cache; starts write-back of full chunks.
    void note_cached(int file, uint64_t at, uint64_t bytes) {
        std::unique_lock lock(mutex);
        files[size_t(file)].dirty = true;
        Chunk& chunk = chunk_at(file, at);
        // Else it has bytes from before direct writes were given up, and goes out with them.
        if (chunk.memory) return;
        chunk.add({at, at + bytes});
        if (!chunk.full()) return;
        send(chunks.find({file, chunk.begin}));
        changed.wait(lock, [this] { return queue.size() <= most_waiting || !first_error.empty(); });
    }

    void put_cached(const Open& open, int file, Range range, const std::byte* bytes) {
        while (range.begin < range.end) {
            const ssize_t step = ::pwrite(open.cached.number(), bytes, range.end - range.begin, off_t(range.begin));
            if (step < 0 && errno == EINTR) continue;
            if (step < 0) fail_at("written", file, range.begin, range.end);
            range.begin += uint64_t(step);
            bytes += step;
        }
    }

    void put_now(const Open& open, int file, uint64_t at, std::span<const std::byte> bytes) {
        try {
            put_cached(open, file, {at, at + bytes.size()}, bytes.data());
        } catch (const Error& error) {
            // As if it had failed in the background: sync() must not succeed after it.
            fail_for_good(error.what());
        }
    }

    /// Whole pages, from memory that is aligned as they are.
    void put_direct(Open& open, int file, Range range, const std::byte* bytes) {
        while (range.begin < range.end && open.direct_works) {
            const ssize_t step = ::pwrite(open.direct.number(), bytes, range.end - range.begin, off_t(range.begin));
            if (step < 0 && errno == EINTR) continue;
            // Larger sectors than pages, or a file system that changed its mind.
            if (step < 0 && errno == EINVAL)
                open.direct_works = false;
            else if (step < 0)
                fail_at("written", file, range.begin, range.end);
            else {
                range.begin += uint64_t(step);
                bytes += step;
            }
        }
        put_cached(open, file, range, bytes);
    }

    /// Exactly the bytes that arrived: the others are somebody else's. A page that arrived in pieces is written through
    /// the page cache only, all others directly and once: no page goes both ways.
    void put(const Chunk& chunk) {
        const std::shared_ptr<Open> open = this->open(chunk.file);
        for (const Range& range : chunk.arrived) {
            Range whole{std::min((range.begin + page - 1) / page * page, range.end), range.end / page * page};
            if (whole.end < whole.begin + smallest_direct_write) whole = {range.end, range.end};
            const auto bytes = [&](uint64_t at) { return chunk.memory.get() + (at - chunk.begin); };
            put_cached(*open, chunk.file, {range.begin, whole.begin}, bytes(range.begin));
            put_direct(*open, chunk.file, whole, bytes(whole.begin));
            put_cached(*open, chunk.file, {whole.end, range.end}, bytes(whole.end));
        }
    }

    void start_write_back(int file, Range range) {
        const std::shared_ptr<Open> open = this->open(file);
        if (::sync_file_range(open->cached.number(), off_t(range.begin), off_t(range.end - range.begin),
                              SYNC_FILE_RANGE_WRITE) == 0)
            return;
        // File systems that cannot: sync() does it all.
        if (errno == ENOSYS || errno == EINVAL || errno == ESPIPE || errno == EINTR) return;
        fail_at("written", file, range.begin, range.end);
    }

    /// What a writer thread does.
    void write_out() {
        std::unique_lock lock(mutex);
        while (true) {
            arrivals.wait(lock, [this] { return stop || !queue.empty(); });
            if (queue.empty()) return;
            const std::unique_ptr<Chunk> chunk = std::move(queue.front());
            queue.pop_front();
            const bool failed = !first_error.empty();
            lock.unlock();
            std::string error;
            try {
                if (!failed && chunk->memory) put(*chunk);
                if (!failed && !chunk->memory) start_write_back(chunk->file, chunk->data);
            } catch (const std::exception& caught) {
                error = caught.what();
            }
            lock.lock();
            if (first_error.empty()) first_error = error;
            if (chunk->memory) {
                // Only now: the file may have been synced and closed while the bytes were on their way.
                files[size_t(chunk->file)].dirty = true;
                free_buffers.push_back(std::move(chunk->memory));
                --under_way;
            }
            changed.notify_all();
        }
    }

    /// Waits until nothing is in memory; or, after an error, not. Gives the files with something to sync.
    std::vector<int> drain() {
        std::unique_lock lock(mutex);
        while (true) {
            throw_first_error();
            if (send_all() && under_way == 0) break;
            changed.wait(lock);
        }
        chunks.clear();
        std::vector<int> dirty;
        for (size_t i = 0; i < files.size(); ++i)
            if (std::exchange(files[i].dirty, false)) dirty.push_back(int(i));
        return dirty;
    }

    const std::string folder;
    const uint64_t file_bytes, chunk_bytes, most_buffers;

    std::mutex mutex;  ///< of all that follows
    std::vector<File> files;
    size_t open_descriptors = 0;
    uint64_t uses = 0;
    Chunks chunks;                             ///< not full yet
    std::deque<std::unique_ptr<Chunk>> queue;  ///< for the writers
    size_t under_way = 0;                      ///< chunks in memory: in the queue or being written
    size_t buffers = 0;                        ///< all there are
    std::vector<Memory> free_buffers;
    std::string first_error;
    bool stop = false;
    std::condition_variable arrivals, changed;  ///< of the queue; of all that write() and sync() wait for
    std::vector<std::thread> writers;
};

OutputFiles::OutputFiles(const std::string& folder, const OutputLayout& layout, uint64_t memory)
    : implementation_(std::make_unique<Implementation>(folder, layout, memory)) {}

OutputFiles::~OutputFiles() = default;

void OutputFiles::write(int file, uint64_t at, std::span<const std::byte> bytes) {
    Implementation& self = *implementation_;
    self.check_range(file, at, bytes.size());
    {
        const std::lock_guard lock(self.mutex);
        self.throw_first_error();
    }
    if (bytes.empty()) return;
    const std::shared_ptr<Implementation::Open> open = self.open(file);
    const bool direct = open->direct_works;
    if (!direct) self.put_now(*open, file, at, bytes);
    while (!bytes.empty()) {
        const uint64_t step = std::min<uint64_t>(bytes.size(), self.chunk_bytes - at % self.chunk_bytes);
        if (direct)
            self.keep(file, at, bytes.first(step));
        else
            self.note_cached(file, at, step);
        at += step;
        bytes = bytes.subspan(step);
    }
}

void OutputFiles::read(int file, uint64_t at, std::span<std::byte> bytes) {
    Implementation& self = *implementation_;
    self.check_range(file, at, bytes.size());
    if (bytes.empty()) return;
    const std::shared_ptr<Implementation::Open> open = self.open(file);
    for (size_t done = 0; done < bytes.size();) {
        const ssize_t step = ::pread(open->cached.number(), bytes.data() + done, bytes.size() - done, off_t(at + done));
        if (step < 0 && errno == EINTR) continue;
        if (step < 0) self.fail_at("read back", file, at + done, at + bytes.size());
        check(step > 0, "{}: ends at byte {}, but was made with {} bytes: another program changes it",
              printable(self.files[size_t(file)].path), at + done, self.files[size_t(file)].bytes);
        done += size_t(step);
    }
}

void OutputFiles::sync() {
    Implementation& self = *implementation_;
    try {
        const std::vector<int> dirty = self.drain();
        // All on their way before the first is waited for.
        if (dirty.size() <= most_open / 2)
            for (int file : dirty) self.start_write_back(file, {0, self.files[size_t(file)].bytes});
        for (int file : dirty)
            if (::fdatasync(self.open(file)->cached.number()) != 0)
                self.fail_at("made to last", file, 0, self.files[size_t(file)].bytes);
    } catch (const Error& error) {
        // The system reports a lost page once: a second try must not succeed.
        self.fail_for_good(error.what());
    }
}

}  // namespace amalgam
