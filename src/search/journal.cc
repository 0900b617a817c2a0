#include "src/search/journal.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <thread>
#include <utility>

#include "src/base/error.h"

namespace amalgam {
namespace {

constexpr size_t head_bytes = 17;  // digits and the blank
constexpr size_t buffer_bytes = size_t{1} << 20;
constexpr size_t piece_bytes = size_t{1} << 20;
/// A writer that was killed a moment ago may still be dying.
constexpr auto patience = std::chrono::seconds(3);

class OpenFile {
  public:
    OpenFile(const std::string& path, int flags) : path_(path), number_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {
        if (number_ < 0) fail_with("cannot be opened", errno);
    }
    OpenFile(const OpenFile&) = delete;
    OpenFile& operator=(const OpenFile&) = delete;
    ~OpenFile() { ::close(number_); }

    int number() const { return number_; }
    [[noreturn]] void fail_with(const char* what, int error) const {
        fail("{}: the journal {} ({}){}", printable(path_), what, errno_text(error), space_advice(error));
    }
    struct stat status() const {
        struct stat status {};
        if (::fstat(number_, &status) != 0) fail_with("cannot be examined", errno);
        return status;
    }

  private:
    std::string path_;
    int number_;
};

bool is_hexadecimal(char letter) { return (letter >= '0' && letter <= '9') || (letter >= 'a' && letter <= 'f'); }

/// Whether a line, without its newline, is as a journal's is.
bool is_valid(std::string_view line) {
    if (line.size() < head_bytes || line[head_bytes - 1] != ' ') return false;
    uint64_t digest = 0;
    for (size_t i = 0; i + 1 < head_bytes; ++i) {
        if (!is_hexadecimal(line[i])) return false;
        digest = digest << 4 | uint64_t(line[i] <= '9' ? line[i] - '0' : line[i] - 'a' + 10);
    }
    return XXH64(line.data() + head_bytes, line.size() - head_bytes, 0) == digest;
}

JournalEnd read_lines(const OpenFile& file, uint64_t offset, const std::function<void(std::string_view)>& line) {
    JournalEnd end{offset, false};
    std::string bytes;    // from end.offset on
    size_t searched = 0;  // no newline in front of it
    for (;;) {
        const size_t old = bytes.size();
        bytes.resize(old + piece_bytes);
        const ssize_t got = ::pread(file.number(), bytes.data() + old, piece_bytes, off_t(end.offset + old));
        if (got < 0 && errno == EINTR) {
            bytes.resize(old);
            continue;
        }
        if (got < 0) file.fail_with("cannot be read", errno);
        bytes.resize(old + size_t(got));
        end.torn = !bytes.empty();
        if (got == 0) return end;
        size_t first = 0;
        for (size_t newline; (newline = bytes.find('\n', searched)) != bytes.npos; first = searched = newline + 1) {
            const std::string_view found(bytes.data() + first, newline - first);
            if (!is_valid(found)) return {end.offset + first, true};
            line(found.substr(head_bytes));
        }
        bytes.erase(0, first);
        end.offset += first;
        searched = bytes.size();
        end.torn = !bytes.empty();
        if (bytes.size() > head_bytes + most_journal_line_bytes) return end;
    }
}

/// So that two searches never write to one journal. File systems without locks go without.
void lock(const OpenFile& file, const std::string& path) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (::flock(file.number(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK) return;
        check(std::chrono::steady_clock::now() < deadline,
              "{}: another process is writing this journal: a search may be run once at a time; wait for it, or end it",
              printable(path));
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
}

/// The name of a new file is on the disk too, where the file system knows of such things.
void sync_folder_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    const std::string folder = slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
    const int number = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (number < 0) return;
    ::fsync(number);
    ::close(number);
}

}  // namespace

struct JournalWriter::Implementation {
    explicit Implementation(const std::string& journal_path)
        : path(journal_path), file(journal_path, O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK) {
        check(S_ISREG(file.status().st_mode), "{}: is not a regular file, so no journal can be in it", printable(path));
        lock(file, path);
        const JournalEnd end = read_lines(file, 0, [](std::string_view) {});
        const auto bytes = uint64_t(file.status().st_size);
        cut = bytes > end.offset ? bytes - end.offset : 0;
        if (end.offset == 0 && cut > 0) check_torn_start();
        if (cut > 0 && has_lines_behind(end.offset)) keep_copy();
        if (cut > 0 && ::ftruncate(file.number(), off_t(end.offset)) != 0) file.fail_with("cannot be cut", errno);
        if (bytes == 0) sync_folder_of(path);
    }

    /// Cutting all of a file that is none of ours would lose it.
    void check_torn_start() const {
        char head[head_bytes];
        const ssize_t got = ::pread(file.number(), head, sizeof head, 0);
        if (got < 0) file.fail_with("cannot be read", errno);
        for (ssize_t i = 0; i < got; ++i)
            check(head[i] == '\0' || (size_t(i) + 1 < head_bytes ? is_hexadecimal(head[i]) : head[i] == ' '),
                  "{}: is no journal of a search; nothing is written to it: give another folder", printable(path));
    }

    /// A kill tears the last line; valid ones behind it say that something else happened.
    bool has_lines_behind(uint64_t offset) const {
        std::string rest(cut, '\0');
        const ssize_t got = ::pread(file.number(), rest.data(), rest.size(), off_t(offset));
        if (got < 0) file.fail_with("cannot be read", errno);
        rest.resize(size_t(got));
        for (size_t first = 0, newline; (newline = rest.find('\n', first)) != rest.npos; first = newline + 1)
            if (is_valid(std::string_view(rest).substr(first, newline - first))) return true;
        return false;
    }

    void keep_copy() {
        for (int number = 1; copy.empty() || std::filesystem::exists(copy); ++number)
            copy = fmt::format("{}.damaged-{}", path, number);
        std::error_code error;
        std::filesystem::copy_file(path, copy, error);
        check(!error, "{}: the journal is damaged, and no copy can be made of it before it is cut: {}: {}",
              printable(path), printable(copy), error.message());
    }

    void write() {
        check(!broken, "{}: the journal could not be written before", printable(path));
        // Until all is there: a line behind a torn one would never be read.
        broken = true;
        std::string_view bytes = buffer;
        while (!bytes.empty()) {
            const ssize_t written = ::write(file.number(), bytes.data(), bytes.size());
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) file.fail_with("cannot be written", errno);
            bytes.remove_prefix(size_t(written));
        }
        buffer.clear();
        broken = false;
    }

    void sync() {
        write();
        synced = std::chrono::steady_clock::now();
        broken = true;
        while (::fdatasync(file.number()) != 0)
            if (errno != EINTR) file.fail_with("cannot be written", errno);
        broken = false;
    }

    std::string path;
    OpenFile file;
    std::string buffer;
    uint64_t cut = 0;
    std::string copy;
    std::chrono::steady_clock::time_point synced = std::chrono::steady_clock::now();
    bool broken = false;
};

JournalWriter::JournalWriter(const std::string& path) : implementation_(std::make_unique<Implementation>(path)) {}
JournalWriter::JournalWriter(JournalWriter&& other) noexcept = default;

JournalWriter& JournalWriter::operator=(JournalWriter&& other) noexcept {
    std::swap(implementation_, other.implementation_);
    return *this;
}

JournalWriter::~JournalWriter() {
    try {
        if (implementation_ && !implementation_->broken) implementation_->write();
    } catch (const std::exception&) {
        // What is not in the journal is done again.
    }
}

void JournalWriter::append(std::string_view text) {
    check(text.size() <= most_journal_line_bytes && text.find('\n') == text.npos,
          "a line of a journal would have {} bytes or a newline in it: this is a bug of amalgam", text.size());
    std::string& buffer = implementation_->buffer;
    fmt::format_to(std::back_inserter(buffer), "{:016x} ", XXH64(text.data(), text.size(), 0));
    buffer += text;
    buffer += '\n';
    if (buffer.size() >= buffer_bytes || implementation_->broken) implementation_->write();
}

void JournalWriter::flush(double seconds) {
    const std::chrono::duration<double> since = std::chrono::steady_clock::now() - implementation_->synced;
    if (since.count() >= seconds)
        implementation_->sync();
    else
        implementation_->write();
}

void JournalWriter::sync() { implementation_->sync(); }

uint64_t JournalWriter::cut_bytes() const { return implementation_->cut; }

const std::string& JournalWriter::damaged_copy() const { return implementation_->copy; }

JournalEnd read_journal(const std::string& path, uint64_t offset, const std::function<void(std::string_view)>& line) {
    // A pipe in its place would wait for ever.
    const OpenFile file(path, O_RDONLY | O_NONBLOCK);
    check(S_ISREG(file.status().st_mode), "{}: is not a regular file, so it is no journal", printable(path));
    return read_lines(file, offset, line);
}

JournalLines read_journal(const std::string& path, uint64_t offset) {
    JournalLines result;
    result.end = read_journal(path, offset, [&](std::string_view line) { result.lines.emplace_back(line); });
    return result;
}

}  // namespace amalgam
