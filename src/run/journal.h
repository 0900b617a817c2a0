// What of a merge is finished: append-only files in the `.partial` folder, one for each rank that ever worked on it.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace amalgam {

/// Finished work of all former starts. A record that was cut off by a kill, or whose checksum is wrong, ends its file.
struct JournalContents {
    /// (task, block) -> XXH64 of the block's bytes. Later records win.
    std::map<std::pair<int64_t, int64_t>, uint64_t> blocks;
    /// task -> serialised statistics.
    std::map<int64_t, std::string> statistics;
};

/// Appends to a journal of its own. Records reach the file in groups (after a megabyte's worth of output or a quarter of a
/// second, whichever comes first): a kill loses that much work, never more. Any thread may call.
class Journal {
  public:
    /// Creates a new file in `folder`, named by rank and a number that is not in use yet.
    Journal(const std::string& folder, int rank);
    ~Journal();
    Journal(const Journal&) = delete;
    Journal& operator=(const Journal&) = delete;

    /// The bytes of the block are in the output file.
    void block_done(int64_t task, int64_t block, uint64_t digest);
    void statistics_done(int64_t task, const std::string& bytes);
    /// Throws Error if the file cannot be written.
    void flush();

  private:
    struct Implementation;
    std::unique_ptr<Implementation> implementation_;
};

/// Reads all journal files of a folder; none: empty. Throws Error if one cannot be read.
JournalContents read_journals(const std::string& folder);

}  // namespace amalgam
