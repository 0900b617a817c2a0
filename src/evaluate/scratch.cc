#include "src/evaluate/scratch.h"

#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "src/base/bytes.h"
#include "src/base/error.h"
#include "src/base/log.h"
#include "src/base/shell_word.h"

namespace amalgam {

namespace {

constexpr const char* memory_folder = "/dev/shm";

struct Room {
    bool usable = false;
    bool in_memory = false;
    uint64_t bytes = 0;
    int error = 0;
};

Room look_for_room(const std::string& path, uint64_t memory) {
    Room room;
    struct statfs system = {};
    if (::statfs(path.c_str(), &system) != 0 || ::access(path.c_str(), W_OK | X_OK) != 0) {
        room.error = errno;
        return room;
    }
    room.usable = std::filesystem::is_directory(path);
    room.error = room.usable ? 0 : ENOTDIR;
    room.in_memory = system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC;
    room.bytes = uint64_t(system.f_bavail) * uint64_t(system.f_frsize);
    if (system.f_type == RAMFS_MAGIC) room.bytes = memory;  // it has no size of its own
    if (room.in_memory) room.bytes = std::min(room.bytes, memory);
    return room;
}

std::string room_text(const std::string& path, const Room& room) {
    const std::string shown = printable(path);
    if (!room.usable) return fmt::format("{} cannot be used ({})", shown, errno_text(room.error));
    return fmt::format("{} has room for {}{}", shown, bytes_text(room.bytes), room.in_memory ? ", in memory" : "");
}

}  // namespace

std::string scratch_place(const std::string& wanted, uint64_t bytes, uint64_t memory) {
    if (!wanted.empty()) {
        const Room room = look_for_room(wanted, memory);
        check(room.usable && room.bytes >= bytes, "--scratch: the checkpoint of a candidate takes {}, but {}: {}",
              bytes_text(bytes), room_text(wanted, room), "make room, or give another folder");
        return wanted;
    }
    const Room in_memory = look_for_room(memory_folder, memory);
    if (in_memory.usable && in_memory.in_memory && in_memory.bytes >= bytes) return memory_folder;
    const char* variable = std::getenv("TMPDIR");
    const std::string temporary = variable && *variable ? variable : "/tmp";
    const Room room = look_for_room(temporary, memory);
    check(room.usable && room.bytes >= bytes,
          "the checkpoint of a candidate takes {}, but {}, and {}: give --scratch a folder with more room",
          bytes_text(bytes), room_text(memory_folder, in_memory), room_text(temporary, room));
    return temporary;
}

ScratchFolder::ScratchFolder(const std::string& place) {
    std::error_code error;
    path_ = std::filesystem::absolute(place, error).lexically_normal() / "amalgam-XXXXXX";
    check(!error && ::mkdtemp(path_.data()) != nullptr, "{}: no folder can be made there: {}", printable(place),
          errno_text(error ? error.value() : errno));
    try {
        at_death_ = std::make_unique<AtDeath>("exec rm -rf -- " + shell_word(path_));
    } catch (...) {
        std::filesystem::remove(path_, error);
        throw;
    }
}

ScratchFolder::~ScratchFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
    if (error) log_warning("{}: cannot be removed: {}; please remove it", printable(path_), error.message());
}

}  // namespace amalgam
