// What of a merge is finished: append-only files in the `.partial` folder, one for each rank that ever worked on it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace amalgam {

/// A block whose bytes are in the output file. Plain data of 24 bytes, so that rank 0 can send it to the others.
struct FinishedBlock {
    int64_t task = 0;
    int64_t block = 0;
    uint64_t digest = 0;  ///< block_digest() of the bytes
};

/// Finished work of all former starts. A record that was cut off by a kill, or whose checksum is wrong, ends its file.
struct JournalContents {
    /// Sorted by task, then block, each once: later starts win.
    std::vector<FinishedBlock> blocks;
    /// task -> serialised statistics.
    std::map<int64_t, std::string> statistics;

    /// Of a finished block; binary search.
    std::optional<uint64_t> digest(int64_t task, int64_t block) const;
};

/// XXH64, seed 0.
uint64_t block_digest(std::span<const std::byte> bytes);

/// Appends to a journal of its own. Blocks reach the file in groups of eight (about a megabyte of output), or with the
/// first that comes a quarter of a second after the group began; statistics at once. A kill loses that much work, never
/// more. A crash of the machine may lose more, and may keep records of blocks whose bytes it lost: that is what digests are
/// for. Any thread may call.
class Journal {
  public:
    /// Creates a new file in `folder`, named by a number above all that are there, and by rank. Throws Error.
    Journal(const std::string& folder, int rank);
    ~Journal();
    Journal(const Journal&) = delete;
    Journal& operator=(const Journal&) = delete;

    /// The bytes of the block were given to the output; after a kill their digest tells whether they arrived. Throws Error as
    /// flush() does.
    void block_done(int64_t task, int64_t block, uint64_t digest);
    void statistics_done(int64_t task, const std::string& bytes);
    /// Throws Error if the file cannot be written; from then on every call does.
    void flush();

  private:
    struct Implementation;
    std::unique_ptr<Implementation> implementation_;
};

/// Reads all journal files of a folder; none: empty. Throws Error if one cannot be read.
JournalContents read_journals(const std::string& folder);

/// Forgets all that is finished; what other ranks still append is lost. Never throws: what cannot be removed is logged.
void remove_journals(const std::string& folder) noexcept;

/// "journal-000001-3": written by the first start, by rank 3.
bool is_journal_name(std::string_view name);

}  // namespace amalgam
