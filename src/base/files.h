// Reading of small files and headers behind one door, so that one rank can read for all.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace amalgam {

enum class FileKind { missing, file, folder, other };

struct FileStatus {
    FileKind kind = FileKind::missing;
    uint64_t bytes = 0;
};

/// What recipes and checkpoints read before a merge starts: recipes, config.json, indexes, tensor headers.
/// Paths are passed through as given (relative ones count from the working directory).
class Files {
  public:
    virtual ~Files() = default;
    /// Never throws for a missing path; throws Error if the path cannot be examined (permissions).
    virtual FileStatus status(const std::string& path) = 0;
    /// Bytes [first, first + count) of a file. Throws Error if it cannot be read or is shorter.
    virtual std::string read(const std::string& path, uint64_t first, uint64_t count) = 0;
    /// Names in a folder, sorted. Throws Error if it cannot be read.
    virtual std::vector<std::string> list(const std::string& path) = 0;
    /// Value of an environment variable (HF_HOME, ...), or nothing.
    virtual std::optional<std::string> environment(const std::string& name) = 0;

    /// A whole file; throws Error if it is larger than `limit` bytes.
    std::string read_all(const std::string& path, uint64_t limit);
};

/// The real file system.
std::unique_ptr<Files> disk_files();

/// Files that remember every answer, to be replayed on other ranks.
class RecordingFiles : public Files {
  public:
    explicit RecordingFiles(Files& source) : source_(source) {}
    FileStatus status(const std::string& path) override;
    std::string read(const std::string& path, uint64_t first, uint64_t count) override;
    std::vector<std::string> list(const std::string& path) override;
    std::optional<std::string> environment(const std::string& name) override;
    /// Everything answered so far, as bytes for replay_files().
    std::string recording() const;

  private:
    Files& source_;
    std::map<std::string, std::string> answers_;
};

/// Gives the recorded answers; a question that was never asked is an Error (a bug).
std::unique_ptr<Files> replay_files(const std::string& recording);

}  // namespace amalgam
