#include "src/run/replaced.h"

#include <fmt/core.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <memory>
#include <optional>

#include "src/base/error.h"
#include "src/base/files.h"
#include "src/base/log.h"
#include "src/checkpoint/output_folder.h"
#include "src/run/key_file.h"
#include "src/run/output_path.h"

namespace amalgam {
namespace {

/// The inode of a folder, 0 if it is none.
uint64_t folder_inode(const std::string& path) {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode) ? uint64_t(status.st_ino) : 0;
}

/// The path of a replaced folder by the note in `folder`, if what lies there is what was moved there.
std::optional<std::string> replaced_folder(const std::string& folder, const std::string& out) {
    const std::unique_ptr<Files> files = disk_files();
    const std::string note = folder + "/" + replaced_name;
    if (files->status(note).kind != FileKind::file) return std::nullopt;
    const std::string text = files->read_all(note, 1 << 16);
    const size_t blank = text.find(' ');
    if (blank == std::string::npos || text.back() != '\n') return std::nullopt;
    uint64_t inode = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + blank, inode);
    if (error != std::errc() || stop != text.data() + blank || inode == 0) return std::nullopt;
    // A name beside the output, and of the form we make: never a path that a file tells us.
    const std::string name = text.substr(blank + 1, text.size() - blank - 2);
    if (name.find('/') != std::string::npos || !name.starts_with(last_part_of(out) + ".replaced")) return std::nullopt;
    const std::string path = parent_of(out) + "/" + name;
    if (folder_inode(path) != inode) return std::nullopt;
    return path;
}

/// Stays on its file system and follows no links. False with errno if something is left.
bool remove_tree(const std::string& path) {
    const auto remove = [](const char* entry, const struct stat*, int, struct FTW*) { return ::remove(entry); };
    return ::nftw(path.c_str(), remove, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0;
}

void warn(const std::string& path) {
    const int error = errno;
    log_warning("{}: cannot be removed ({}); it is not needed any more", printable(path), errno_text(error));
}

void remove_file(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) warn(path);
}

}  // namespace

std::string plan_replacement(const std::string& building, const std::string& out) {
    const std::string name = last_part_of(out) + ".replaced";
    std::string chosen = name;
    for (int number = 2; look_at(parent_of(out) + "/" + chosen) != PathKind::missing; ++number)
        chosen = fmt::format("{}.{}", name, number);
    write_output_text(building, {replaced_name, fmt::format("{} {}\n", folder_inode(out), chosen)});
    sync_folder(building);
    return parent_of(out) + "/" + chosen;
}

void undo_replacement(const std::string& building, const std::string& out) {
    if (const auto replaced = replaced_folder(building, out)) {
        // An empty folder in its place would be replaced, which is what we want.
        if (::rename(replaced->c_str(), out.c_str()) != 0)
            log_warning("{}: an output that was there before is now {} ({})", printable(out), printable(*replaced),
                        errno_text(errno));
    }
    remove_file(building + "/" + replaced_name);
}

void tidy_published(const std::string& out, const std::function<void(const char*)>& step) {
    try {
        const auto building = read_key_file(out, building_key_name), published = read_key_file(out, published_key_name);
        if (!building || !published || building->key.empty() || building->key != published->key) return;
        step("remove the replaced folder");
        const auto replaced = replaced_folder(out, out);
        if (replaced && !remove_tree(*replaced)) warn(*replaced);
        step("remove its note");
        remove_file(out + "/" + replaced_name);
        for (const std::string& name : disk_files()->list(out)) {
            if (!is_working_name(name) || name == published_key_name || name == building_key_name) continue;
            step("remove a working file");
            remove_file(out + "/" + name);
        }
        step("remove the key");
        remove_file(out + "/" + building_key_name);
    } catch (const Error& error) {
        log_warning("{}: cannot be tidied up ({})", printable(out), error.what());
    }
}

}  // namespace amalgam
