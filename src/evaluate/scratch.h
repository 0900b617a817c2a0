// Folders for checkpoints that live for one candidate.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "src/evaluate/process.h"

namespace amalgam {

/// Where `bytes` fit: `wanted` if it is not empty, else /dev/shm if that is in memory, else TMPDIR or /tmp. `memory`: bytes
/// that are free; of a file system in memory no more can be had. Throws Error with what is there and what is needed.
std::string scratch_place(const std::string& wanted, uint64_t bytes, uint64_t memory);

/// A new folder, readable by its owner only, that no other process has; it is removed with all that is in it when the object is
/// gone, and if this process dies.
class ScratchFolder {
  public:
    /// Throws Error if it cannot be made in the folder `place`.
    explicit ScratchFolder(const std::string& place);
    ~ScratchFolder();
    ScratchFolder(const ScratchFolder&) = delete;
    ScratchFolder& operator=(const ScratchFolder&) = delete;

    const std::string& path() const { return path_; }

  private:
    std::string path_;
    std::unique_ptr<AtDeath> at_death_;
};

}  // namespace amalgam
