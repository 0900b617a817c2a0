// New, resumed or finished: what an output folder is, and how it becomes the finished one.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace amalgam {

enum class OutputState {
    fresh,     ///< nothing there: the `.partial` folder has been made, empty but for key and lock
    resume,    ///< a `.partial` folder of the same key
    finished,  ///< `out` is there, complete and of the same key: nothing to do
};

/// Rank 0's hold on an output; the lock lasts as long as this object.
///
/// `key` names the job (hash of resolved recipe, seed, output layout, writer version, fingerprints of the inputs). It is kept
/// in `out.partial/amalgam.key` while the merge runs, and in `out/.amalgam.key` once it is published.
class OutputFolder {
  public:
    /// Decides, locks (`out.partial/lock`, flock and a note of who holds it) and makes the folder. Throws Error:
    /// - `out` is a mount point, `.`, `/`, or one of `inputs` (real paths compared; also inside an input or containing one);
    /// - `out` exists, is not empty and not of this key, without `force`;
    /// - `out.partial` is of another key, without `force` (with it: emptied);
    /// - another job holds the lock (says which process on which host);
    /// - the parent is missing or read-only.
    static std::unique_ptr<OutputFolder> open(const std::string& out, const std::string& key,
                                              const std::vector<std::string>& inputs, bool force);

    OutputState state() const { return state_; }
    /// Where files are built: "<out>.partial".
    const std::string& building() const { return building_; }

    /// Everything is written and synced: moves an old `out` aside, renames, syncs the parent, deletes journal, lock and the
    /// old folder. After a crash at any point in it, the next open() goes on or says finished.
    void publish();

    ~OutputFolder();
    OutputFolder(const OutputFolder&) = delete;
    OutputFolder& operator=(const OutputFolder&) = delete;

  private:
    OutputFolder() = default;
    OutputState state_ = OutputState::fresh;
    std::string out_, building_, key_;
    int lock_ = -1;
};

}  // namespace amalgam
