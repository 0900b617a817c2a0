#include "src/run/journal.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <mutex>
#include <tuple>

#include "src/base/error.h"
#include "src/base/files.h"
#include "src/base/log.h"
#include "src/run/descriptor.h"

namespace amalgam {
namespace {

using Clock = std::chrono::steady_clock;

// A file is the magic, then records: length of the payload, kind, hash, payload. Journals are read where they were written
// or on machines of the same cluster: numbers are in the machine's byte order, and another order does not match the magic.
constexpr uint64_t magic = 0x31304c4e524a4d41;  // "AMJRNL01"
constexpr uint32_t blocks_record = 1;           // payload: FinishedBlock, one or more
constexpr uint32_t statistics_record = 2;       // payload: task, bytes

struct RecordHeader {
    uint32_t bytes = 0;
    uint32_t kind = 0;
    uint64_t hash = 0;
};
static_assert(sizeof(RecordHeader) == 16 && sizeof(FinishedBlock) == 24);

constexpr size_t blocks_of_group = 8;
constexpr auto age_of_group = std::chrono::milliseconds(250);
/// Far beyond any journal of ours: 10^8 blocks.
constexpr uint64_t most_bytes = uint64_t{1} << 32;

uint64_t record_hash(const RecordHeader& header, const void* payload) {
    return XXH64(payload, header.bytes, uint64_t{header.kind} << 32 | header.bytes);
}

void append_record(std::string& bytes, uint32_t kind, std::string_view payload) {
    check(payload.size() <= UINT32_MAX, "a record of the journal would have {} bytes: this is a bug of amalgam",
          payload.size());
    RecordHeader header{uint32_t(payload.size()), kind, 0};
    header.hash = record_hash(header, payload.data());
    bytes.append(reinterpret_cast<const char*>(&header), sizeof header);
    bytes.append(payload);
}

/// The number of a start, 0 if the name is no journal's.
uint64_t start_of(std::string_view name) {
    constexpr std::string_view prefix = "journal-";
    if (!name.starts_with(prefix)) return 0;
    name.remove_prefix(prefix.size());
    const size_t dash = name.find('-');
    if (dash == std::string_view::npos || dash == 0 || dash > 18 || dash + 1 == name.size()) return 0;
    uint64_t start = 0;
    for (size_t i = 0; i < name.size(); ++i) {
        if (i == dash) continue;
        if (name[i] < '0' || name[i] > '9') return 0;
        if (i < dash) start = 10 * start + uint64_t(name[i] - '0');
    }
    return start;
}

/// Journals by start, so that later ones win.
std::vector<std::pair<uint64_t, std::string>> list_journals(Files& files, const std::string& folder) {
    std::vector<std::pair<uint64_t, std::string>> journals;
    for (const std::string& name : files.list(folder))
        if (const uint64_t start = start_of(name)) journals.emplace_back(start, name);
    std::sort(journals.begin(), journals.end());
    return journals;
}

void add_record(JournalContents& contents, uint32_t kind, std::string_view payload) {
    if (kind == blocks_record && payload.size() % sizeof(FinishedBlock) == 0) {
        const size_t old = contents.blocks.size();
        contents.blocks.resize(old + payload.size() / sizeof(FinishedBlock));
        if (!payload.empty()) std::memcpy(contents.blocks.data() + old, payload.data(), payload.size());
    } else if (kind == statistics_record && payload.size() >= sizeof(int64_t)) {
        int64_t task = 0;
        std::memcpy(&task, payload.data(), sizeof task);
        contents.statistics[task] = payload.substr(sizeof task);
    }
}

void add_journal(JournalContents& contents, std::string_view bytes) {
    uint64_t found = 0;
    if (bytes.size() < sizeof found) return;
    std::memcpy(&found, bytes.data(), sizeof found);
    if (found != magic) return;
    bytes.remove_prefix(sizeof found);
    RecordHeader header;
    while (bytes.size() >= sizeof header) {
        std::memcpy(&header, bytes.data(), sizeof header);
        bytes.remove_prefix(sizeof header);
        if (header.bytes > bytes.size() || record_hash(header, bytes.data()) != header.hash) return;
        add_record(contents, header.kind, bytes.substr(0, header.bytes));
        bytes.remove_prefix(header.bytes);
    }
}

/// Sorts, and keeps the last of equal places.
void keep_last(std::vector<FinishedBlock>& blocks) {
    const auto place = [](const FinishedBlock& one) { return std::tie(one.task, one.block); };
    const auto before = [&](const FinishedBlock& a, const FinishedBlock& b) { return place(a) < place(b); };
    const auto same = [&](const FinishedBlock& a, const FinishedBlock& b) { return place(a) == place(b); };
    std::stable_sort(blocks.begin(), blocks.end(), before);
    const auto kept = std::unique(blocks.rbegin(), blocks.rend(), same);
    blocks.erase(blocks.begin(), kept.base());
}

}  // namespace

struct Journal::Implementation {
    std::mutex mutex;
    std::string path;
    Descriptor file;
    std::vector<FinishedBlock> group;
    Clock::time_point group_began;
    bool broken = false;

    /// All under the mutex.
    void write_group() {
        if (group.empty()) return;
        std::string record;
        append_record(record, blocks_record,
                      {reinterpret_cast<const char*>(group.data()), group.size() * sizeof(FinishedBlock)});
        group.clear();
        write(record);
    }

    void write(std::string_view bytes) {
        check(!broken, "{}: the journal could not be written before", printable(path));
        // Until all is there: a record behind a torn one would never be read.
        broken = true;
        while (!bytes.empty()) {
            const ssize_t written = ::write(file.number(), bytes.data(), bytes.size());
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) {
                const int error = errno;
                fail("{}: the journal cannot be written ({}){}", printable(path), errno_text(error),
                     space_advice(error));
            }
            bytes.remove_prefix(size_t(written));
        }
        broken = false;
    }
};

Journal::Journal(const std::string& folder, int rank) : implementation_(std::make_unique<Implementation>()) {
    Implementation& self = *implementation_;
    const std::unique_ptr<Files> files = disk_files();
    const auto journals = list_journals(*files, folder);
    uint64_t start = journals.empty() ? 1 : journals.back().first + 1;
    for (int attempt = 0; attempt < 1000 && !self.file; ++attempt, ++start) {
        self.path = fmt::format("{}/journal-{:06}-{}", folder, start, rank);
        self.file = Descriptor(::open(self.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
        if (!self.file && errno != EEXIST) break;
    }
    if (!self.file) fail("{}: the journal cannot be created ({})", printable(self.path), errno_text(errno));
    self.write({reinterpret_cast<const char*>(&magic), sizeof magic});
}

Journal::~Journal() {
    try {
        flush();
    } catch (const Error&) {
        // What is not in the journal is done again.
    }
}

void Journal::block_done(int64_t task, int64_t block, uint64_t digest) {
    Implementation& self = *implementation_;
    const std::lock_guard lock(self.mutex);
    const Clock::time_point now = Clock::now();
    if (self.group.empty()) self.group_began = now;
    self.group.push_back({task, block, digest});
    if (self.group.size() >= blocks_of_group || now - self.group_began >= age_of_group) self.write_group();
}

void Journal::statistics_done(int64_t task, const std::string& bytes) {
    Implementation& self = *implementation_;
    std::string payload(reinterpret_cast<const char*>(&task), sizeof task);
    payload += bytes;
    std::string record;
    append_record(record, statistics_record, payload);
    const std::lock_guard lock(self.mutex);
    self.write_group();
    self.write(record);
}

void Journal::flush() {
    Implementation& self = *implementation_;
    const std::lock_guard lock(self.mutex);
    self.write_group();
    check(!self.broken, "{}: the journal could not be written before", printable(self.path));
}

std::optional<uint64_t> JournalContents::digest(int64_t task, int64_t block) const {
    const auto before = [](const FinishedBlock& one, const std::pair<int64_t, int64_t>& place) {
        return std::pair(one.task, one.block) < place;
    };
    const auto found = std::lower_bound(blocks.begin(), blocks.end(), std::pair(task, block), before);
    if (found == blocks.end() || found->task != task || found->block != block) return std::nullopt;
    return found->digest;
}

uint64_t block_digest(std::span<const std::byte> bytes) { return XXH64(bytes.data(), bytes.size(), 0); }

JournalContents read_journals(const std::string& folder) {
    JournalContents contents;
    const std::unique_ptr<Files> files = disk_files();
    for (const auto& [start, name] : list_journals(*files, folder))
        add_journal(contents, files->read_all(folder + "/" + name, most_bytes));
    keep_last(contents.blocks);
    return contents;
}

void remove_journals(const std::string& folder) noexcept {
    try {
        const std::unique_ptr<Files> files = disk_files();
        for (const auto& [start, name] : list_journals(*files, folder)) {
            const std::string path = folder + "/" + name;
            if (::unlink(path.c_str()) != 0 && errno != ENOENT)
                fail("{}: cannot be removed ({})", printable(path), errno_text(errno));
        }
    } catch (const std::exception& error) {
        log_here(LogLevel::warning, "remove {} before the next start: {}", printable(folder), error.what());
    }
}

bool is_journal_name(std::string_view name) { return start_of(name) != 0; }

}  // namespace amalgam
