// Makes the files of an output at their full size. A part of output_files.cc.
#pragma once
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/bytes.h"
#include "src/base/error.h"
#include "src/checkpoint/layout.h"
#include "src/run/descriptor.h"

namespace amalgam {

/// "141 GB (141000000000 bytes)"
inline std::string exact_bytes(uint64_t bytes) { return fmt::format("{} ({} bytes)", bytes_text(bytes), bytes); }

/// What this user may still write; nothing if the file system does not tell.
inline std::optional<uint64_t> free_bytes(const std::string& folder) {
    struct statvfs status {};
    if (::statvfs(folder.c_str(), &status) != 0 || status.f_blocks == 0) return std::nullopt;
    // The superuser may use what is reserved.
    return uint64_t(status.f_frsize) * (::geteuid() == 0 ? status.f_bfree : status.f_bavail);
}

/// Behind a message of a full disk, else empty.
inline std::string space_text(int error, const std::string& folder, uint64_t file_bytes) {
    if (error != ENOSPC && error != EDQUOT) return "";
    const std::optional<uint64_t> free = free_bytes(folder);
    return fmt::format(": the whole output needs {}, {} free in {}; make room, or choose another place for the output",
                       exact_bytes(file_bytes), free ? exact_bytes(*free) + " are" : "an unknown amount is",
                       printable(folder));
}

/// Files being created; on the way out by an error the new ones go away, with the space they hold.
class NewOutputFiles {
  public:
    NewOutputFiles(const std::string& folder, const OutputLayout& layout) : folder_(folder), layout_(layout) {}
    ~NewOutputFiles() {
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

}  // namespace amalgam
