// The tensor files of an output while they are being written, by many ranks and threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "src/checkpoint/layout.h"
#include "src/run/output_sink.h"

namespace amalgam {

/// Open files of a `.partial` folder. Any thread may call any member. Errors name file, byte range and reason
/// ("no space left on device": how much is needed and free, and where).
class OutputFiles final : public OutputSink {
  public:
    /// Rank 0, before all others: creates the files at their full size with their headers, and makes those last. The data of
    /// existing files of the right size is kept, for a resume. Space is reserved where the file system can, so that a full
    /// disk shows now; nothing that was reserved in vain stays behind.
    static void create(const std::string& folder, const OutputLayout& layout);

    /// Opens the files of a folder made by create(), each when it is first used; a limited number is open at a time.
    /// At most `memory` bytes wait to be written, or two chunks of 64 KiB if that is more.
    OutputFiles(const std::string& folder, const OutputLayout& layout, uint64_t memory = uint64_t{16} << 20);
    /// Still writes what waits, without making it last and without a word about errors; after an error it drops it.
    ~OutputFiles() override;
    OutputFiles(const OutputFiles&) = delete;
    OutputFiles& operator=(const OutputFiles&) = delete;

    /// Writes at byte `at` of file `file`, never into its header; each byte once. The bytes are copied, and go to the disk
    /// in the background, past the page cache where the file system can: chunks of up to 2 MiB when they are full, others
    /// when memory runs out, or by sync(). So a kill loses up to `memory` bytes of what was written. Waits while memory is
    /// full. What failed is thrown by the next write() or sync() at the latest, and by all that follow.
    /// Other objects may write the same files at the same time, but not the same pages of data_alignment bytes.
    void write(int file, uint64_t at, std::span<const std::byte> bytes) override;
    /// Reads back what is there, for checking a resumed file: of this object's bytes, only those before sync() for sure.
    /// Throws Error if it is short.
    void read(int file, uint64_t at, std::span<std::byte> bytes) override;
    /// Makes everything last that was written before this call.
    void sync();

  private:
    struct Implementation;
    std::unique_ptr<Implementation> implementation_;
};

}  // namespace amalgam
