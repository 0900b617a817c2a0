// The tensor files of an output while they are being written, by many ranks and threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "src/checkpoint/layout.h"

namespace amalgam {

/// Open files of a `.partial` folder. Any thread may call any member. Errors name file, byte range and reason
/// ("no space left on device": how much is needed and free, and where).
class OutputFiles {
  public:
    /// Rank 0, before all others: creates the files at their full size with their headers, and makes those last. The data of
    /// existing files of the right size is kept, for a resume. Space is reserved where the file system can, so that a full
    /// disk shows now; nothing that was reserved in vain stays behind.
    static void create(const std::string& folder, const OutputLayout& layout);

    /// Opens the files of a folder made by create(), each when it is first used; a limited number is open at a time.
    OutputFiles(const std::string& folder, const OutputLayout& layout);
    ~OutputFiles();
    OutputFiles(const OutputFiles&) = delete;
    OutputFiles& operator=(const OutputFiles&) = delete;

    /// Writes at byte `at` of file `file`, never into its header; starts write-back in the background, so that disk and
    /// computation overlap. What failed in the background is thrown by the next call.
    void write(int file, uint64_t at, std::span<const std::byte> bytes);
    /// Reads back what is there, for checking a resumed file. Throws Error if it is short.
    void read(int file, uint64_t at, std::span<std::byte> bytes);
    /// Makes everything this object wrote last.
    void sync();

  private:
    struct Implementation;
    std::unique_ptr<Implementation> implementation_;
};

}  // namespace amalgam
