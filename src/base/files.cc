#include "src/base/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "src/base/error.h"

namespace amalgam {

namespace {

class Descriptor {
  public:
    explicit Descriptor(int value) : value_(value) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() {
        if (value_ >= 0) ::close(value_);
    }
    int value() const { return value_; }

  private:
    int value_;
};

/// The system would silently stop at a NUL and look at another file.
void check_path(const std::string& path) {
    check(path.find('\0') == std::string::npos, "{}: a path cannot contain a NUL byte", printable(path));
}

class DiskFiles : public Files {
  public:
    FileStatus status(const std::string& path) override {
        check_path(path);
        struct stat status {};
        if (::stat(path.c_str(), &status) != 0) {
            const int error = errno;
            if (error == ENOENT || error == ENOTDIR) return {};
            fail("{}: cannot be examined ({})", printable(path), errno_text(error));
        }
        if (S_ISREG(status.st_mode)) return {FileKind::file, static_cast<uint64_t>(status.st_size)};
        return {S_ISDIR(status.st_mode) ? FileKind::folder : FileKind::other, 0};
    }

    std::string read(const std::string& path, uint64_t first, uint64_t count) override {
        check_path(path);
        // O_NONBLOCK: opening a named pipe that nobody writes to would wait for ever.
        const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
        if (file.value() < 0) fail("{}: cannot be opened ({})", printable(path), errno_text(errno));
        struct stat status {};
        if (::fstat(file.value(), &status) != 0)
            fail("{}: cannot be examined ({})", printable(path), errno_text(errno));
        check(S_ISREG(status.st_mode), "{}: is not a regular file", printable(path));
        // Before anything is allocated: a count from a hostile file may be any number.
        const auto size = static_cast<uint64_t>(status.st_size);
        if (first > size || count > size - first) too_short(path, first, count, size);
        std::string bytes(count, '\0');
        for (uint64_t done = 0; done < count;) {
            const ssize_t step =
                ::pread(file.value(), bytes.data() + done, count - done, static_cast<off_t>(first + done));
            if (step < 0 && errno == EINTR) continue;
            if (step < 0) fail("{}: cannot be read at byte {} ({})", printable(path), first + done, errno_text(errno));
            if (step == 0) too_short(path, first, count, first + done);
            done += static_cast<uint64_t>(step);
        }
        return bytes;
    }

    std::vector<std::string> list(const std::string& path) override {
        check_path(path);
        const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
        if (!folder) fail("{}: the folder cannot be listed ({})", printable(path), errno_text(errno));
        std::vector<std::string> names;
        while (true) {
            errno = 0;
            const dirent* entry = ::readdir(folder.get());
            if (!entry) break;
            const std::string name = entry->d_name;
            if (name != "." && name != "..") names.push_back(name);
        }
        if (errno != 0) fail("{}: the folder cannot be listed ({})", printable(path), errno_text(errno));
        std::sort(names.begin(), names.end());
        return names;
    }

    std::optional<std::string> environment(const std::string& name) override {
        const char* value = std::getenv(name.c_str());
        if (!value) return std::nullopt;
        return value;
    }

  private:
    [[noreturn]] static void too_short(const std::string& path, uint64_t first, uint64_t count, uint64_t size) {
        fail(
            "{}: the file has {} bytes, but {} bytes from byte {} on are needed: it is truncated, or another program "
            "changes it",
            printable(path), size, count, first);
    }
};

// A recording is a list of strings, each with a length of 8 bytes: question, answer, question, answer, ...
// An answer is 'e' and the text of an Error, or 'a' and the value. Only machines of one byte order talk to each other.

void append_number(std::string& bytes, uint64_t number) {
    bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
}

void append_text(std::string& bytes, const std::string& text) {
    append_number(bytes, text.size());
    bytes += text;
}

uint64_t take_number(std::string_view& bytes) {
    uint64_t number = 0;
    check(bytes.size() >= sizeof number, "a recording of files is cut off: this is a bug of amalgam");
    std::memcpy(&number, bytes.data(), sizeof number);
    bytes.remove_prefix(sizeof number);
    return number;
}

std::string take_text(std::string_view& bytes) {
    const uint64_t size = take_number(bytes);
    check(size <= bytes.size(), "a recording of files is cut off: this is a bug of amalgam");
    std::string text(bytes.substr(0, size));
    bytes.remove_prefix(size);
    return text;
}

std::string question(std::string_view kind, const std::string& path, uint64_t first = 0, uint64_t count = 0) {
    std::string bytes(kind);
    append_number(bytes, first);
    append_number(bytes, count);
    return bytes + path;
}

std::string encode(const FileStatus& status) {
    std::string bytes(1, static_cast<char>(status.kind));
    append_number(bytes, status.bytes);
    return bytes;
}

std::string encode(const std::vector<std::string>& names) {
    std::string bytes;
    for (const std::string& name : names) append_text(bytes, name);
    return bytes;
}

std::string encode(const std::optional<std::string>& value) { return value ? "=" + *value : ""; }

/// Runs `ask`, keeps what it said (also an Error) and gives it on.
template <class Ask, class Encode>
auto remember(std::map<std::string, std::string>& answers, const std::string& key, Ask ask, Encode to_bytes) {
    try {
        auto answer = ask();
        answers[key] = "a" + to_bytes(answer);
        return answer;
    } catch (const Error& error) {
        answers[key] = std::string("e") + error.what();
        throw;
    }
}

class ReplayFiles : public Files {
  public:
    explicit ReplayFiles(std::string_view recording) {
        while (!recording.empty()) {
            std::string key = take_text(recording);
            answers_[std::move(key)] = take_text(recording);
        }
    }

    FileStatus status(const std::string& path) override {
        std::string_view bytes = answer(question("status", path), "the status of " + path);
        check(bytes.size() == 1 + sizeof(uint64_t), "a recording of files is damaged: this is a bug of amalgam");
        const auto kind = static_cast<FileKind>(bytes.front());
        bytes.remove_prefix(1);
        return {kind, take_number(bytes)};
    }

    std::string read(const std::string& path, uint64_t first, uint64_t count) override {
        return std::string(answer(question("read", path, first, count),
                                  fmt::format("bytes {} to {} of {}", first, first + count, path)));
    }

    std::vector<std::string> list(const std::string& path) override {
        std::string_view bytes = answer(question("list", path), "the names in " + path);
        std::vector<std::string> names;
        while (!bytes.empty()) names.push_back(take_text(bytes));
        return names;
    }

    std::optional<std::string> environment(const std::string& name) override {
        const std::string_view bytes = answer(question("environment", name), "the environment variable " + name);
        if (bytes.empty()) return std::nullopt;
        return std::string(bytes.substr(1));
    }

  private:
    std::string_view answer(const std::string& key, const std::string& what) const {
        const auto found = answers_.find(key);
        check(found != answers_.end() && !found->second.empty(),
              "{} was not asked for when files were recorded: this is a bug of amalgam", printable(what));
        const std::string_view bytes = found->second;
        if (bytes.front() == 'e') throw Error(std::string(bytes.substr(1)));
        return bytes.substr(1);
    }

    std::map<std::string, std::string> answers_;
};

}  // namespace

std::string Files::read_all(const std::string& path, uint64_t limit) {
    const FileStatus found = status(path);
    check(found.kind != FileKind::missing, "{}: there is no such file", printable(path));
    check(found.kind != FileKind::folder, "{}: is a folder, not a file", printable(path));
    check(found.kind == FileKind::file, "{}: is not a regular file", printable(path));
    check(found.bytes <= limit, "{}: has {} bytes; more than {} are not read of such a file", printable(path),
          found.bytes, limit);
    return read(path, 0, found.bytes);
}

std::unique_ptr<Files> disk_files() { return std::make_unique<DiskFiles>(); }

FileStatus RecordingFiles::status(const std::string& path) {
    return remember(
        answers_, question("status", path), [&] { return source_.status(path); },
        [](const FileStatus& answer) { return encode(answer); });
}

std::string RecordingFiles::read(const std::string& path, uint64_t first, uint64_t count) {
    return remember(
        answers_, question("read", path, first, count), [&] { return source_.read(path, first, count); },
        [](const std::string& answer) { return answer; });
}

std::vector<std::string> RecordingFiles::list(const std::string& path) {
    return remember(
        answers_, question("list", path), [&] { return source_.list(path); },
        [](const std::vector<std::string>& answer) { return encode(answer); });
}

std::optional<std::string> RecordingFiles::environment(const std::string& name) {
    return remember(
        answers_, question("environment", name), [&] { return source_.environment(name); },
        [](const std::optional<std::string>& answer) { return encode(answer); });
}

std::string RecordingFiles::recording() const {
    std::string bytes;
    for (const auto& [key, answer] : answers_) {
        append_text(bytes, key);
        append_text(bytes, answer);
    }
    return bytes;
}

std::unique_ptr<Files> replay_files(const std::string& recording) { return std::make_unique<ReplayFiles>(recording); }

}  // namespace amalgam
