#include "src/run/output_files.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "src/base/bytes.h"
#include "src/base/error.h"
#include "src/run/descriptor.h"

namespace amalgam {
namespace {

/// Write-back starts by aligned pieces of this size, once they are full.
constexpr uint64_t chunk_bytes = uint64_t{4} << 20;
/// Pieces that may wait for it: beyond, the writer starts it itself and is slowed down to what the disk takes.
constexpr size_t most_waiting = 64;
/// The usual limit of a process is 1,024, and small shards make many files.
constexpr size_t most_open = 64;

/// "141 GB (141000000000 bytes)"
std::string exact_bytes(uint64_t bytes) { return fmt::format("{} ({} bytes)", bytes_text(bytes), bytes); }

/// What this user may still write; nothing if the file system does not tell.
std::optional<uint64_t> free_bytes(const std::string& folder) {
    struct statvfs status {};
    if (::statvfs(folder.c_str(), &status) != 0 || status.f_blocks == 0) return std::nullopt;
    // The superuser may use what is reserved.
    return uint64_t(status.f_frsize) * (::geteuid() == 0 ? status.f_bfree : status.f_bavail);
}

/// Behind a message of a full disk, else empty.
std::string space_text(int error, const std::string& folder, uint64_t file_bytes) {
    if (error != ENOSPC && error != EDQUOT) return "";
    const std::optional<uint64_t> free = free_bytes(folder);
    return fmt::format(": the whole output needs {}, {} free in {}; make room, or choose another place for the output",
                       exact_bytes(file_bytes), free ? exact_bytes(*free) + " are" : "an unknown amount is",
                       printable(folder));
}

/// Files being created; on the way out by an error the new ones go away, with the space they hold.
class NewFiles {
  public:
    NewFiles(const std::string& folder, const OutputLayout& layout) : folder_(folder), layout_(layout) {}
    ~NewFiles() {
        if (finished_) return;
        for (const std::string& path : new_) ::unlink(path.c_str());
    }

    void create() {
        check_limit();
        check_space();
        for (const OutputLayout::File& file : layout_.files) create(file);
        // The first of these commits the metadata of all, the others cost little.
        for (const OutputLayout::File& file : layout_.files) {
            const Descriptor descriptor = open(path_of(file), O_RDWR);
            if (::fdatasync(descriptor.number()) != 0) fail_at("made to last", path_of(file));
        }
        finished_ = true;
    }

  private:
    std::string path_of(const OutputLayout::File& file) const { return folder_ + "/" + file.name; }

    [[noreturn]] void fail_at(const char* done, const std::string& path) const {
        const int error = errno;
        fail("{}: cannot be {} ({}){}", printable(path), done, errno_text(error),
             space_text(error, folder_, layout_.file_bytes));
    }

    Descriptor open(const std::string& path, int flags) const {
        Descriptor descriptor(::open(path.c_str(), flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0666));
        if (!descriptor) fail_at("opened for writing", path);
        return descriptor;
    }

    /// A file beyond the limit of the shell would end the process by a signal.
    void check_limit() const {
        struct rlimit limit {};
        if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
        for (const OutputLayout::File& file : layout_.files)
            check(file.bytes <= limit.rlim_cur,
                  "{}: needs {}, but files may have {} at most here: raise the limit (ulimit -f), or choose a smaller "
                  "shard size",
                  printable(path_of(file)), exact_bytes(file.bytes), exact_bytes(limit.rlim_cur));
    }

    /// Before anything is reserved: a disk must not run full for others while we find out.
    void check_space() const {
        uint64_t missing = 0;
        for (const OutputLayout::File& file : layout_.files) {
            struct stat status {};
            const bool there = ::stat(path_of(file).c_str(), &status) == 0;
            const uint64_t held = there ? uint64_t(status.st_blocks) * 512 : 0;
            missing += file.bytes - std::min(file.bytes, held);
        }
        const std::optional<uint64_t> free = free_bytes(folder_);
        check(!free || missing <= *free, "{}: the output does not fit ({}){}", printable(folder_), errno_text(ENOSPC),
              space_text(ENOSPC, folder_, layout_.file_bytes));
    }

    void create(const OutputLayout::File& file) {
        const std::string path = path_of(file);
        const Descriptor descriptor = open(path, O_RDWR | O_CREAT);
        struct stat status {};
        if (::fstat(descriptor.number(), &status) != 0) fail_at("examined", path);
        check(S_ISREG(status.st_mode), "{}: is in the way: it is not a file", printable(path));
        if (uint64_t(status.st_size) != file.bytes) {
            new_.push_back(path);
            if (status.st_size != 0 && ::ftruncate(descriptor.number(), 0) != 0) fail_at("emptied", path);
        }
        reserve(descriptor, path, file.bytes);
        // Also into files that are there: a kill may have come between size and header.
        write_header(descriptor, path, file.header);
    }

    void reserve(const Descriptor& descriptor, const std::string& path, uint64_t bytes) const {
        // Not posix_fallocate: where the file system cannot, that writes zeros.
        int result = 0;
        do {
            result = ::fallocate(descriptor.number(), 0, 0, off_t(bytes));
        } while (result != 0 && errno == EINTR);
        if (result == 0) return;
        if (errno != EOPNOTSUPP && errno != ENOSYS) fail_at("given its size", path);
        if (::ftruncate(descriptor.number(), off_t(bytes)) != 0) fail_at("given its size", path);
    }

    void write_header(const Descriptor& descriptor, const std::string& path, std::string_view header) const {
        for (size_t done = 0; done < header.size();) {
            const ssize_t step = ::pwrite(descriptor.number(), header.data() + done, header.size() - done, off_t(done));
            if (step < 0 && errno == EINTR) continue;
            if (step < 0) fail_at("written", path);
            done += size_t(step);
        }
    }

    const std::string& folder_;
    const OutputLayout& layout_;
    std::vector<std::string> new_;
    bool finished_ = false;
};

/// A part of a file whose write-back may start.
struct Range {
    int file = 0;
    uint64_t begin = 0, end = 0;
};

}  // namespace

void OutputFiles::create(const std::string& folder, const OutputLayout& layout) { NewFiles(folder, layout).create(); }

struct OutputFiles::Implementation {
    struct File {
        std::string path;
        uint64_t data_begin = 0, bytes = 0;
        std::shared_ptr<const Descriptor> open;  ///< empty while it is closed
        uint64_t last_use = 0;
        bool dirty = false;  ///< written since it was synced
    };

    Implementation(const std::string& in_folder, const OutputLayout& layout)
        : folder(in_folder), file_bytes(layout.file_bytes) {
        files.reserve(layout.files.size());
        for (const OutputLayout::File& file : layout.files)
            files.push_back({folder + "/" + file.name, file.data_begin, file.bytes, nullptr, 0, false});
    }

    ~Implementation() {
        {
            const std::lock_guard lock(mutex);
            stop = true;
        }
        wake.notify_all();
        if (background.joinable()) background.join();
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

    void throw_background_error() {
        const std::lock_guard lock(mutex);
        if (!background_error.empty()) throw Error(background_error);
    }

    std::shared_ptr<const Descriptor> open(int index) {
        std::unique_lock lock(mutex);
        File& file = files[size_t(index)];
        file.last_use = ++uses;
        if (file.open) return file.open;
        auto descriptor =
            std::make_shared<const Descriptor>(::open(file.path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
        if (!*descriptor) fail("{}: cannot be opened ({})", printable(file.path), errno_text(errno));
        file.open = descriptor;
        if (++open_files > most_open) close_oldest(lock);
        return descriptor;
    }

    /// Gives the lock back. The file is synced first: its errors would be lost with the descriptor.
    void close_oldest(std::unique_lock<std::mutex>& lock) {
        size_t oldest = files.size();
        for (size_t i = 0; i < files.size(); ++i)
            if (files[i].open && (oldest == files.size() || files[i].last_use < files[oldest].last_use)) oldest = i;
        const std::shared_ptr<const Descriptor> closing = std::move(files[oldest].open);
        files[oldest].open = nullptr;
        const bool dirty = files[oldest].dirty;
        files[oldest].dirty = false;
        --open_files;
        lock.unlock();
        if (dirty && ::fdatasync(closing->number()) != 0) fail_at("made to last", int(oldest), 0, files[oldest].bytes);
    }

    /// Counts what is written; full chunks go to the background, those that do not fit there are given back.
    std::vector<Range> note_written(int index, uint64_t at, uint64_t bytes) {
        std::vector<Range> beyond;
        const std::lock_guard lock(mutex);
        File& file = files[size_t(index)];
        file.dirty = true;
        bool any = false;
        for (uint64_t chunk = at / chunk_bytes; chunk * chunk_bytes < at + bytes; ++chunk) {
            const uint64_t chunk_begin = chunk * chunk_bytes,
                           chunk_end = std::min(chunk_begin + chunk_bytes, file.bytes);
            const uint64_t part = std::min(at + bytes, chunk_end) - std::max(at, chunk_begin);
            uint64_t& written = partial[{index, chunk}];
            written += part;
            if (written < chunk_end - std::min(chunk_end, std::max(chunk_begin, file.data_begin))) continue;
            partial.erase({index, chunk});
            const Range range{index, chunk_begin, chunk_end};
            if (waiting.size() < most_waiting) {
                waiting.push_back(range);
                any = true;
            } else {
                beyond.push_back(range);
            }
        }
        if (any && !background.joinable()) background = std::thread([this] { write_back(); });
        if (any) wake.notify_one();
        return beyond;
    }

    void start_write_back(const Descriptor& descriptor, const Range& range) {
        if (::sync_file_range(descriptor.number(), off_t(range.begin), off_t(range.end - range.begin),
                              SYNC_FILE_RANGE_WRITE) == 0)
            return;
        // File systems that cannot: sync() does it all.
        if (errno == ENOSYS || errno == EINVAL || errno == ESPIPE || errno == EINTR) return;
        fail_at("written", range.file, range.begin, range.end);
    }

    void write_back() {
        std::unique_lock lock(mutex);
        while (true) {
            wake.wait(lock, [this] { return stop || !waiting.empty(); });
            if (stop) return;
            Range range = waiting.front();
            waiting.pop_front();
            while (!waiting.empty() && waiting.front().file == range.file && waiting.front().begin == range.end) {
                range.end = waiting.front().end;
                waiting.pop_front();
            }
            const std::shared_ptr<const Descriptor> descriptor = files[size_t(range.file)].open;
            if (!descriptor) continue;  // closed, and so synced
            lock.unlock();
            std::string error;
            try {
                start_write_back(*descriptor, range);
            } catch (const Error& thrown) {
                error = thrown.what();
            }
            lock.lock();
            if (background_error.empty()) background_error = error;
        }
    }

    /// Files with something to sync; nothing waits for write-back any more.
    std::vector<int> take_dirty() {
        const std::lock_guard lock(mutex);
        partial.clear();
        waiting.clear();
        std::vector<int> dirty;
        for (size_t i = 0; i < files.size(); ++i)
            if (std::exchange(files[i].dirty, false)) dirty.push_back(int(i));
        return dirty;
    }

    const std::string folder;
    const uint64_t file_bytes;

    std::mutex mutex;  ///< of all that follows
    std::vector<File> files;
    size_t open_files = 0;
    uint64_t uses = 0;
    std::map<std::pair<int, uint64_t>, uint64_t> partial;  ///< (file, chunk) -> bytes written
    std::deque<Range> waiting;
    std::condition_variable wake;
    std::string background_error;
    bool stop = false;
    std::thread background;
};

OutputFiles::OutputFiles(const std::string& folder, const OutputLayout& layout)
    : implementation_(std::make_unique<Implementation>(folder, layout)) {}

OutputFiles::~OutputFiles() = default;

void OutputFiles::write(int file, uint64_t at, std::span<const std::byte> bytes) {
    Implementation& self = *implementation_;
    self.check_range(file, at, bytes.size());
    self.throw_background_error();
    if (bytes.empty()) return;
    const std::shared_ptr<const Descriptor> descriptor = self.open(file);
    for (size_t done = 0; done < bytes.size();) {
        const ssize_t step = ::pwrite(descriptor->number(), bytes.data() + done, bytes.size() - done, off_t(at + done));
        if (step < 0 && errno == EINTR) continue;
        if (step < 0) self.fail_at("written", file, at + done, at + bytes.size());
        done += size_t(step);
    }
    for (const Range& range : self.note_written(file, at, bytes.size())) self.start_write_back(*descriptor, range);
}

void OutputFiles::read(int file, uint64_t at, std::span<std::byte> bytes) {
    Implementation& self = *implementation_;
    self.check_range(file, at, bytes.size());
    if (bytes.empty()) return;
    const std::shared_ptr<const Descriptor> descriptor = self.open(file);
    for (size_t done = 0; done < bytes.size();) {
        const ssize_t step = ::pread(descriptor->number(), bytes.data() + done, bytes.size() - done, off_t(at + done));
        if (step < 0 && errno == EINTR) continue;
        if (step < 0) self.fail_at("read back", file, at + done, at + bytes.size());
        check(step > 0, "{}: ends at byte {}, but was made with {} bytes: another program changes it",
              printable(self.files[size_t(file)].path), at + done, self.files[size_t(file)].bytes);
        done += size_t(step);
    }
}

void OutputFiles::sync() {
    Implementation& self = *implementation_;
    const std::vector<int> dirty = self.take_dirty();
    try {
        // All on their way before the first is waited for.
        if (dirty.size() <= most_open)
            for (int file : dirty) self.start_write_back(*self.open(file), {file, 0, self.files[size_t(file)].bytes});
        for (int file : dirty)
            if (::fdatasync(self.open(file)->number()) != 0)
                self.fail_at("made to last", file, 0, self.files[size_t(file)].bytes);
    } catch (const Error& error) {
        // The system reports a lost page once: a second try must not succeed.
        const std::lock_guard lock(self.mutex);
        if (self.background_error.empty()) self.background_error = error.what();
    }
    self.throw_background_error();
}

}  // namespace amalgam
