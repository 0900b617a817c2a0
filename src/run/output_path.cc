#include "src/run/output_path.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

#include "src/base/error.h"

namespace amalgam {
namespace {

std::optional<std::string> real_path(const std::string& path) {
    const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), std::free);
    if (!real) return std::nullopt;
    return std::string(real.get());
}

/// Also of a path whose last part does not exist yet.
std::string real_target(const std::string& path) {
    if (const auto real = real_path(path)) return *real;
    const auto parent = real_path(parent_of(path));
    if (!parent) return path;
    return (*parent == "/" ? "" : *parent) + "/" + last_part_of(path);
}

bool holds(const std::string& outer, const std::string& inner) {
    return outer == inner || inner.starts_with(outer == "/" ? outer : outer + "/");
}

bool is_empty(const std::string& folder) {
    const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(folder.c_str()), ::closedir);
    if (!open) fail("{}: the folder cannot be listed ({})", printable(folder), errno_text(errno));
    while (const dirent* entry = ::readdir(open.get()))
        if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) return false;
    return true;
}

}  // namespace

std::string parent_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    const size_t end = path.find_last_not_of('/', slash);
    return end == std::string::npos ? "/" : path.substr(0, end + 1);
}

std::string last_part_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? path : path.substr(slash + 1);
}

PathKind look_at(const std::string& path) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) return PathKind::missing;
        fail("{}: cannot be examined ({})", printable(path), errno_text(errno));
    }
    if (!S_ISDIR(status.st_mode)) return PathKind::other;
    return is_empty(path) ? PathKind::empty_folder : PathKind::filled_folder;
}

bool is_mount_point(const std::string& path) {
    struct statx own {};
    if (::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &own) != 0) return false;
    if ((own.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0)
        return (own.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
    struct statx above {};
    if (::statx(AT_FDCWD, (path + "/..").c_str(), 0, STATX_BASIC_STATS, &above) != 0) return false;
    return own.stx_dev_major != above.stx_dev_major || own.stx_dev_minor != above.stx_dev_minor ||
           own.stx_ino == above.stx_ino;
}

OutputTarget output_target(const std::string& out) {
    const std::string shown = printable(out);
    check(out.find('\0') == std::string::npos, "{}: a path cannot contain a NUL byte", shown);
    check(!out.empty(), "the output needs the name of a folder: it is built beside it and renamed");
    OutputTarget target{out, false};
    while (target.path.size() > 1 && target.path.back() == '/') target.path.pop_back();
    const std::string last = last_part_of(target.path);
    check(!last.empty() && last != "." && last != "..",
          "{}: cannot be an output, which is built beside it and renamed: give the name of a folder, new or empty",
          shown);

    struct stat status {};
    if (::lstat(target.path.c_str(), &status) == 0 && S_ISLNK(status.st_mode)) {
        target.link = true;
        const auto real = real_path(target.path);
        check(real.has_value(), "{}: is a symbolic link that leads nowhere: remove it", shown);
        target.path = *real;
    }
    const std::string parent = parent_of(target.path);
    check(::stat(parent.c_str(), &status) == 0, "{}: the folder {} is missing ({}): create it, or correct the path",
          shown, printable(parent), errno_text(errno));
    check(S_ISDIR(status.st_mode), "{}: {} is not a folder", shown, printable(parent));
    check(!is_mount_point(target.path),
          "{}: is the root of a file system and cannot be renamed: give a folder inside of it, like {}/merged", shown,
          printable(target.path));
    const auto real = real_path(target.path), here = real_path(".");
    check(!real || !here || !holds(*real, *here),
          "{}: holds the working directory, which would be replaced: start from another folder", shown);
    return target;
}

void check_no_input(const std::string& target, const std::string& building, const std::vector<std::string>& inputs) {
    for (const std::string& output : {target, building}) {
        const std::string real = real_target(output);
        for (const std::string& input : inputs) {
            const auto source = real_path(input);
            if (!source) continue;
            const char* relation = real == *source        ? "is"
                                   : holds(*source, real) ? "is inside of"
                                   : holds(real, *source) ? "contains"
                                                          : nullptr;
            check(!relation, "{}: the output {} the input {}: choose another place", printable(output), relation,
                  printable(input));
        }
    }
}

}  // namespace amalgam
