// The tensor files of all models: mapped, or read past the page cache.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/recipe/resolve.h"
#include "src/run/merge_job.h"

namespace amalgam {

/// An input became shorter while it was read: zeros may have been taken for its content, here and in what is journaled.
class InputChanged : public Error {
  public:
    using Error::Error;
};

/// One open tensor file. Any thread may call any member.
class InputFile {
  public:
    /// Throws Error if the file cannot be opened, InputChanged if it is not `bytes` long any more.
    InputFile(const std::string& path, uint64_t bytes, ReadMode mode);
    ~InputFile();
    InputFile(const InputFile&) = delete;
    InputFile& operator=(const InputFile&) = delete;

    /// Whether reads should go past the page cache: asked for, or (automatic) most of the file is not cached.
    bool direct() const { return direct_; }
    /// The whole file in memory, read as it is touched.
    const std::byte* mapped() const { return mapping_; }
    /// Gives back the memory behind bytes [begin, end) of the mapping.
    void drop(uint64_t begin, uint64_t end) const;
    /// Throws InputChanged if the reader met the end of a mapped file that shrank. Cheap.
    void check_whole() const;
    /// The same by its size now: a file that lost a part of its last page reads as zeros there, and nobody is told.
    void check_size() const;

    /// Reads at least [begin, end) into `buffer`, which is aligned to 4 KiB and has room for a page more at both ends.
    /// Returns the place of `begin` in it. Throws Error, InputChanged if it ends before.
    const std::byte* read(uint64_t begin, uint64_t end, std::byte* buffer) const;

    struct Guard;  // what the handler of bus errors knows of a mapping

  private:
    std::string path_;
    uint64_t bytes_;
    int file_ = -1;
    int direct_file_ = -1;
    bool direct_ = false;
    uint64_t device_ = 0, number_ = 0;
    const std::byte* mapping_ = nullptr;
    Guard* guard_ = nullptr;
};

/// Files of all models of a merge, each opened when it is first used.
class InputFiles {
  public:
    InputFiles(const Merge& merge, ReadMode mode);
    const InputFile& get(int model, int file);
    /// Gives back the memory behind all mappings.
    void drop_all();
    /// Throws InputChanged if a file that was opened is no longer as long as it was.
    void check_unchanged();

  private:
    const Merge& merge_;
    ReadMode mode_;
    std::mutex mutex_;
    std::vector<std::vector<std::atomic<InputFile*>>> open_;
    std::vector<std::unique_ptr<InputFile>> owned_;
};

}  // namespace amalgam
