// What a search has done: an append-only file of lines, each with a checksum, so that a kill costs its end only.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace amalgam {

/// A line of a journal is 16 hexadecimal digits of XXH64 (seed 0) of a text, a blank, the text, and a newline. The first
/// line that is not so ends the journal, whatever follows.
inline constexpr uint64_t most_journal_line_bytes = uint64_t{16} << 20;

/// Appends to a journal. Not for several threads.
class JournalWriter {
  public:
    /// Goes on behind the last valid line; what follows it was torn by a kill and is cut off. If valid lines follow, it was
    /// damaged: a copy is left beside it. A missing file is made.
    /// Throws Error if the path cannot be written, if another process is writing there, or if its first line shows that
    /// it is no journal.
    explicit JournalWriter(const std::string& path);
    /// Hands what is buffered to the system; failures are silent: sync() first where that matters.
    ~JournalWriter();
    JournalWriter(JournalWriter&& other) noexcept;
    JournalWriter& operator=(JournalWriter&& other) noexcept;

    /// A text without newlines, at most most_journal_line_bytes long. It is buffered; the file may be written when the
    /// buffer is full. Throws Error as sync() does.
    void append(std::string_view text);
    /// What was appended is on the disk afterwards. Throws Error if the file cannot be written; from then on every call
    /// does.
    void sync();
    /// What was appended outlives the end of this process; it is on the disk, too, if the last sync was `seconds` ago or more.
    /// Throws Error as sync() does.
    void flush(double seconds);
    /// Bytes that were cut off when the journal was opened.
    uint64_t cut_bytes() const;
    /// Place of the copy of a journal that was damaged; "" if it was not.
    const std::string& damaged_copy() const;

  private:
    struct Implementation;
    std::unique_ptr<Implementation> implementation_;
};

/// Where reading ended.
struct JournalEnd {
    uint64_t offset = 0;  ///< behind the last valid line: from where to read on
    bool torn = false;    ///< something follows: a line that is being written, or a torn one
};

/// Gives `line` the text of each valid line from `offset` on, which is 0 or came from a JournalEnd. A journal may be read
/// while it is written. The texts are as they were appended: a checksum is no promise that they are JSON. Throws Error if
/// the file is missing or cannot be read.
JournalEnd read_journal(const std::string& path, uint64_t offset, const std::function<void(std::string_view)>& line);

struct JournalLines {
    std::vector<std::string> lines;
    JournalEnd end;
};

/// The same, with the texts in memory.
JournalLines read_journal(const std::string& path, uint64_t offset = 0);

}  // namespace amalgam
