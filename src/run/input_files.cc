#include "src/run/input_files.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace amalgam {

/// Mappings are told to the handler through a fixed table: it runs at any moment, so it may not lock or allocate.
struct InputFile::Guard {
    std::atomic<uintptr_t> begin{0}, end{0};
    std::atomic<bool> used{false}, damaged{false};
};

namespace {

constexpr int max_guards = 65536;
InputFile::Guard* guards() {
    static auto* table = new InputFile::Guard[max_guards];  // lives as long as the handler may run: for ever
    return table;
}
std::atomic<int> guard_count{0};
struct sigaction former_action;

/// A mapped file became shorter: give the reader zeros, note it, and let the pass find out at its end.
void on_bus_error(int number, siginfo_t* what, void* context) {
    auto address = reinterpret_cast<uintptr_t>(what->si_addr);
    InputFile::Guard* table = guards();
    for (int i = 0, count = guard_count.load(); i < count; ++i) {
        if (address < table[i].begin.load() || address >= table[i].end.load()) continue;
        const uintptr_t page = 4096;
        void* place = reinterpret_cast<void*>(address / page * page);
        if (mmap(place, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == place) {
            table[i].damaged = true;
            return;
        }
    }
    if (former_action.sa_flags & SA_SIGINFO && former_action.sa_sigaction) {
        former_action.sa_sigaction(number, what, context);
        return;
    }
    signal(SIGBUS, SIG_DFL);
    raise(SIGBUS);
}

InputFile::Guard* register_mapping(const std::byte* begin, uint64_t bytes) {
    static const bool installed = [] {
        guards();
        struct sigaction action {};
        action.sa_sigaction = on_bus_error;
        action.sa_flags = SA_SIGINFO;
        sigemptyset(&action.sa_mask);
        return sigaction(SIGBUS, &action, &former_action) == 0;
    }();
    check(installed, "cannot install the handler of bus errors ({})", errno_text(errno));
    for (int i = 0; i < max_guards; ++i) {
        bool free = false;
        if (!guards()[i].used.compare_exchange_strong(free, true)) continue;
        guards()[i].damaged = false;
        guards()[i].begin = reinterpret_cast<uintptr_t>(begin);
        guards()[i].end = reinterpret_cast<uintptr_t>(begin) + bytes;
        int count = guard_count.load();
        while (count < i + 1 && !guard_count.compare_exchange_weak(count, i + 1)) {
        }
        return &guards()[i];
    }
    fail("more than {} tensor files are open at once; merge fewer models or use fewer shards", max_guards);
}

/// Pages of the file that are in the page cache, or -1 if the kernel cannot tell (before Linux 6.5).
int64_t cached_pages(int file, uint64_t bytes) {
    struct {
        uint64_t offset, length;
    } range{0, bytes};
    struct {
        uint64_t cache, dirty, writeback, evicted, recently_evicted;
    } counts{};
#ifndef SYS_cachestat
    constexpr long SYS_cachestat = 451;
#endif
    if (syscall(SYS_cachestat, file, &range, &counts, 0u) != 0) return -1;
    return int64_t(counts.cache);
}

[[noreturn]] void became_shorter(const std::string& path) {
    throw InputChanged(path + ": became shorter while it was read: give the command again when it is whole");
}

[[noreturn]] void changed_size(const std::string& path, uint64_t now, uint64_t before) {
    throw InputChanged(fmt::format(
        "{}: has {} bytes, its header was read when it had {}: give the command again when the file is whole", path,
        now, before));
}

}  // namespace

InputFile::InputFile(const std::string& path, uint64_t bytes, ReadMode mode) : path_(path), bytes_(bytes) {
    file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    check(file_ >= 0, "{}: cannot open ({})", path, errno_text(errno));
    struct stat status {};
    bool known = fstat(file_, &status) == 0;
    if (!known || uint64_t(status.st_size) != bytes) {
        const int error = errno;
        close(file_);
        if (known) changed_size(path, uint64_t(status.st_size), bytes);
        fail("{}: cannot be examined ({})", path, errno_text(error));
    }
    device_ = status.st_dev;
    number_ = status.st_ino;
    void* memory = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file_, 0);
    if (memory == MAP_FAILED) {
        int error = errno;
        close(file_);
        fail("{}: cannot map ({}); is there a limit on address space (ulimit -v)?", path, errno_text(error));
    }
    mapping_ = static_cast<const std::byte*>(memory);
    guard_ = register_mapping(mapping_, bytes);
    if (mode == ReadMode::direct) {
        direct_ = true;
    } else if (mode == ReadMode::automatic) {
        int64_t cached = cached_pages(file_, bytes);
        direct_ = cached >= 0 && uint64_t(cached) * 4096 * 2 < bytes && bytes > (uint64_t(64) << 20);
    }
    // Where the file system has no direct reads (tmpfs of old kernels), plain ones do.
    if (direct_) {
        direct_file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
    } else {
        close(file_);  // the mapping holds the file; hundreds of models would use up the descriptors
        file_ = -1;
    }
}

InputFile::~InputFile() {
    if (guard_) {
        guard_->begin = 0;
        guard_->end = 0;
        guard_->used = false;
    }
    if (mapping_) munmap(const_cast<std::byte*>(mapping_), bytes_);
    if (direct_file_ >= 0) close(direct_file_);
    if (file_ >= 0) close(file_);
}

void InputFile::drop(uint64_t begin, uint64_t end) const {
    constexpr uint64_t page = 4096;
    begin = begin / page * page;
    end = std::min((end + page - 1) / page * page, bytes_);
    if (begin < end) madvise(const_cast<std::byte*>(mapping_) + begin, end - begin, MADV_DONTNEED);
}

void InputFile::check_whole() const {
    if (guard_->damaged.load()) became_shorter(path_);
}

void InputFile::check_size() const {
    check_whole();
    struct stat status {};
    // What replaced it under its name, or took it away, left the file that is mapped as it was.
    if (stat(path_.c_str(), &status) != 0 || status.st_dev != device_ || status.st_ino != number_) return;
    if (uint64_t(status.st_size) != bytes_) changed_size(path_, uint64_t(status.st_size), bytes_);
}

const std::byte* InputFile::read(uint64_t begin, uint64_t end, std::byte* buffer) const {
    constexpr uint64_t page = 4096;
    const uint64_t first = begin / page * page, last = (end + page - 1) / page * page;
    uint64_t at = first;
    int source = direct_file_ >= 0 ? direct_file_ : file_;
    while (at < end) {
        ssize_t got = pread(source, buffer + (at - first), last - at, off_t(at));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EINVAL && source != file_) {
            source = file_;  // a file system that takes the flag but not the read
            continue;
        }
        check(got >= 0, "{}: cannot read bytes {} to {} ({})", path_, at, last, errno_text(errno));
        if (got == 0) became_shorter(path_);
        at += uint64_t(got);
        if (at < end && at % page) source = file_;  // a direct read ended within a page: only the rest is left
    }
    return buffer + (begin - first);
}

InputFiles::InputFiles(const Merge& merge, ReadMode mode) : merge_(merge), mode_(mode) {
    for (const MergeModel& model : merge.models) open_.emplace_back(model.checkpoint.files.size());
}

const InputFile& InputFiles::get(int model, int file) {
    auto& slot = open_[size_t(model)][size_t(file)];
    if (InputFile* open = slot.load(std::memory_order_acquire)) return *open;
    std::lock_guard lock(mutex_);
    if (InputFile* open = slot.load(std::memory_order_acquire)) return *open;
    const CheckpointFile& what = merge_.models[size_t(model)].checkpoint.files[size_t(file)];
    owned_.push_back(std::make_unique<InputFile>(what.path, what.bytes, mode_));
    slot.store(owned_.back().get(), std::memory_order_release);
    return *owned_.back();
}

void InputFiles::drop_all() {
    std::lock_guard lock(mutex_);
    for (const auto& file : owned_) file->drop(0, ~uint64_t(0) >> 1);
}

void InputFiles::check_unchanged() {
    std::lock_guard lock(mutex_);
    for (const auto& file : owned_) file->check_size();
}

}  // namespace amalgam
