#include "src/run/output_state.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <optional>

#include "src/base/error.h"
#include "src/base/files.h"
#include "src/base/log.h"
#include "src/checkpoint/output_folder.h"
#include "src/run/journal.h"
#include "src/run/key_file.h"
#include "src/run/output_path.h"
#include "src/run/replaced.h"

namespace amalgam {
namespace {

/// "process 4711 on node12, since 2025-01-31 23:59:59"
std::string holder_text() {
    std::array<char, 256> host{}, time{};
    if (::gethostname(host.data(), host.size() - 1) != 0) host[0] = '?';
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    if (::localtime_r(&now, &local)) std::strftime(time.data(), time.size(), "%F %T", &local);
    return fmt::format("process {} on {}, since {}", ::getpid(), host.data(), time.data());
}

std::string read_holder(int file) {
    std::array<char, 512> text{};
    const ssize_t size = ::pread(file, text.data(), text.size(), 0);
    std::string_view holder(text.data(), size < 0 ? 0 : size_t(size));
    holder = holder.substr(0, holder.find('\n'));
    return holder.empty() ? "unknown" : printable(holder);
}

/// The first weights of a finished output that are not as they were published; "" if all are.
std::string damage(const std::string& out, const KeyFile& published) {
    const std::unique_ptr<Files> files = disk_files();
    for (const KeyFile::File& file : published.files) {
        if (!file.name.ends_with(".safetensors") || file.name.find('/') != std::string::npos) continue;
        const FileStatus status = files->status(out + "/" + file.name);
        if (status.kind != FileKind::file) return file.name + " is missing";
        if (status.bytes != file.bytes) return file.name + " has another size";
    }
    return "";
}

/// Whether a start of a known job ended before anything of it was done.
bool is_barren(const std::string& building, const KeyFile& key) {
    if (key.key.empty()) return false;
    const JournalContents done = read_journals(building);
    return done.blocks.empty() && done.statistics.empty();
}

bool is_finished(const std::string& out, const std::string& key) {
    const auto published = read_key_file(out, published_key_name);
    return published && published->key == key && damage(out, *published).empty();
}

}  // namespace

std::unique_ptr<OutputFolder> OutputFolder::open(const std::string& out, const std::string& key,
                                                 const std::vector<std::string>& inputs, bool force) {
    check(!key.empty() && key.find('\n') == std::string::npos, "a job key must be one line: this is a bug of amalgam");
    auto folder = std::make_unique<OutputFolder>(Private{});
    const OutputTarget target = output_target(out);
    folder->out_ = target.path;
    folder->link_ = target.link;
    folder->building_ = target.path + ".partial";
    folder->key_ = key;
    folder->force_ = force;
    check_no_input(folder->out_, folder->building_, inputs);

    tidy_published(folder->out_, [](const char*) {});
    if (is_finished(folder->out_, key)) {
        folder->state_ = OutputState::finished;
        return folder;
    }
    // Now, since a refusal shall leave no trace, and again under the lock.
    folder->check_replaceable();
    folder->make_and_lock();
    try {
        undo_replacement(folder->building_, folder->out_);
        if (is_finished(folder->out_, key)) {
            folder->state_ = OutputState::finished;
            folder->leave();
        } else {
            folder->check_replaceable();
            folder->take_over();
        }
    } catch (const Error&) {
        folder->leave();
        throw;
    }
    return folder;
}

/// Gives up the lock, and a folder that was made for nothing.
void OutputFolder::leave() {
    if (made_) {
        ::unlink((building_ + "/" + lock_name).c_str());
        ::rmdir(building_.c_str());
    }
    lock_ = Descriptor();
}

void OutputFolder::check_replaceable() const {
    const PathKind kind = look_at(out_);
    if (kind == PathKind::missing || kind == PathKind::empty_folder) return;
    const std::string shown = printable(out_);
    check(kind == PathKind::filled_folder, "{}: is in the way: it is not a folder", shown);
    check(!link_,
          "{}: this folder, to which the output is a symbolic link, is not empty: give its own path, or remove the "
          "link",
          shown);
    if (force_) return;
    const auto published = read_key_file(out_, published_key_name);
    check(!published, "{}: {}; --force replaces it", shown,
          published && published->key == key_
              ? "was written by this very job, but " + damage(out_, *published)
              : "holds a finished merge of another recipe, other settings or other inputs");
    fail("{}: this folder is not empty; choose another one, or --force to replace it with all it holds", shown);
}

void OutputFolder::make_and_lock() {
    // Each time round somebody else has published, or given up, in between.
    for (int attempt = 0; attempt < 100; ++attempt)
        if (try_lock()) return;
    fail("{}: keeps changing: another job works on the same output", printable(building_));
}

bool OutputFolder::try_lock() {
    const std::string shown = printable(building_);
    made_ = ::mkdir(building_.c_str(), 0777) == 0;
    if (!made_ && errno != EEXIST)
        fail("{}: cannot be created, where the output is built ({}): choose a place where you may write", shown,
             errno_text(errno));
    if (!made_) check_own_folder();

    const std::string path = building_ + "/" + lock_name;
    Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0666));
    if (!file && errno == ENOENT) return false;
    if (!file) fail("{}: cannot be opened ({})", printable(path), errno_text(errno));
    if (::flock(file.number(), LOCK_EX | LOCK_NB) != 0) {
        check(errno != EWOULDBLOCK, "{}: another job is working on this output ({}): wait for it, or end it", shown,
              read_holder(file.number()));
        log_warning("{}: this file system has no locks ({}): make sure that no other job works on this output", shown,
                    errno_text(errno));
    }
    // The holder may have renamed or removed the folder between our open() and flock().
    struct stat own {
    }, there{};
    if (::fstat(file.number(), &own) != 0 || ::lstat(path.c_str(), &there) != 0) return false;
    if (own.st_ino != there.st_ino || own.st_dev != there.st_dev) return false;

    const std::string text = holder_text() + "\n";
    const bool noted = ::ftruncate(file.number(), 0) == 0 &&
                       ::pwrite(file.number(), text.data(), text.size(), 0) == ssize_t(text.size());
    const int error = errno;
    if (!noted) fail("{}: cannot be written ({}){}", printable(path), errno_text(error), space_advice(error));
    lock_ = std::move(file);
    return true;
}

/// Before the lock file is put there. The key is written right after the lock, before anything else.
void OutputFolder::check_own_folder() const {
    const std::string shown = printable(building_);
    const PathKind kind = look_at(building_);
    if (kind == PathKind::missing || kind == PathKind::empty_folder) return;
    check(kind == PathKind::filled_folder, "{}: is in the way: it is not a folder", shown);
    check(!is_mount_point(building_), "{}: is the root of a file system and cannot be renamed", shown);
    if (read_key_file(building_, building_key_name)) return;
    for (const std::string& name : disk_files()->list(building_))
        check(is_working_name(name),
              "{}: here the output would be built, but it holds {} and is not from amalgam: move it away, or choose "
              "another "
              "name for the output",
              shown, printable(name));
}

void OutputFolder::take_over() {
    const auto found = read_key_file(building_, building_key_name);
    if (found && found->key == key_) {
        state_ = OutputState::resume;
        ::unlink((building_ + "/" + published_key_name).c_str());
        return;
    }
    check(
        !found || force_ || is_barren(building_, *found),
        "{}: holds an unfinished merge of another recipe, other settings or other inputs: finish that one, remove the "
        "folder, or start over with --force",
        printable(building_));
    empty_building();
    write_key_file(building_, building_key_name, {key_, {}}, false);
    state_ = OutputState::fresh;
}

/// The old key goes last: until then the folder is known as ours.
void OutputFolder::empty_building() const {
    const std::vector<std::string> names = disk_files()->list(building_);
    for (const std::string& name : names)
        check(is_working_name(name) || is_result_name(name),
              "{}: cannot be emptied, since it holds {}, which is not from amalgam: move it away", printable(building_),
              printable(name));
    const auto remove = [&](const std::string& name) {
        const std::string path = building_ + "/" + name;
        if (::unlink(path.c_str()) != 0 && errno != ENOENT)
            fail("{}: cannot be removed ({})", printable(path), errno_text(errno));
    };
    for (const std::string& name : names)
        if (name != lock_name && name != building_key_name) remove(name);
    remove(building_key_name);
}

void OutputFolder::publish(const std::function<void(const char* step)>& reached) {
    check(state_ != OutputState::finished && lock_, "{}: is published already: this is a bug of amalgam",
          printable(out_));
    const auto step = [&](const char* name) {
        if (reached) reached(name);
    };
    step("write the key");
    write_key_file(building_, published_key_name, {key_, list_results(building_)}, true);
    // Somebody may have put something there meanwhile.
    check_replaceable();
    std::string aside;
    if (look_at(out_) == PathKind::filled_folder) {
        step("note the replacement");
        aside = plan_replacement(building_, out_);
        step("move the old folder aside");
        if (::rename(out_.c_str(), aside.c_str()) != 0)
            fail("{}: cannot be moved aside ({}); the new output is complete in {}", printable(out_), errno_text(errno),
                 printable(building_));
    }
    step("rename");
    if (::rename(building_.c_str(), out_.c_str()) != 0) {
        const int error = errno;
        if (!aside.empty()) undo_replacement(building_, out_);
        fail("{}: cannot be renamed to {} ({}); it is complete", printable(building_), printable(out_),
             errno_text(error));
    }
    step("sync the folder above");
    sync_folder(parent_of(out_));
    state_ = OutputState::finished;
    tidy_published(out_, step);
    lock_ = Descriptor();
}

}  // namespace amalgam
