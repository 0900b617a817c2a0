// New, resumed or finished: what an output folder is, and how it becomes the finished one.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/run/descriptor.h"

namespace amalgam {

enum class OutputState {
    fresh,     ///< nothing there: the `.partial` folder has been made, empty but for key and lock
    resume,    ///< a `.partial` folder of the same key
    finished,  ///< `out` is there, complete and of the same key: nothing to do
};

/// Rank 0's hold on an output; the lock lasts as long as this object.
///
/// `key` names the job (hash of resolved recipe, seed, output layout, writer version, fingerprints of the inputs; one line).
/// It is kept in `out.partial/amalgam.key` while the merge runs, and in `out/.amalgam.key` once it is published, there with
/// the sizes of all files: a finished output that lost weights, or has others, is no longer taken for finished.
class OutputFolder {
    struct Private {};

  public:
    /// Decides, locks (`out.partial/lock`, flock and a note of who holds it) and makes the folder. Tidies up after a
    /// publish() that was killed. Only what we put there is ever deleted; a folder with foreign files is refused.
    /// A finished output stays finished with `force`. Throws Error:
    /// - `out` is a mount point, `.`, `/`, holds the working directory, or is one of `inputs` (real paths compared; also
    ///   inside an input or containing one);
    /// - `out` is no folder, or a symbolic link to a folder that is not empty and not of this key;
    /// - `out` exists, is not empty and not of this key, without `force`;
    /// - `out.partial` is of another key and something is done, without `force` (else: emptied);
    /// - `out.partial` has no key and holds more than a lock (not ours; with `force`, too);
    /// - another job holds the lock (says which process on which host);
    /// - the parent is missing (it is not made) or read-only.
    static std::unique_ptr<OutputFolder> open(const std::string& out, const std::string& key,
                                              const std::vector<std::string>& inputs, bool force);

    OutputState state() const { return state_; }
    /// Where files are built: "<out>.partial".
    const std::string& building() const { return building_; }
    /// Where they will be: `out` without slashes at its end and, for a link to an empty folder, what it leads to.
    const std::string& target() const { return out_; }

    /// Everything is written and synced: moves an old `out` aside ("<out>.replaced"), renames, syncs the parent, deletes
    /// the old folder, journal and lock; all that is left is the result and `.amalgam.key`. After a crash at any point in it,
    /// the next open() goes on or says finished. What cannot be deleted in the end is a warning.
    /// `reached` is called before each step; an exception from it leaves what a crash there would (for tests).
    void publish(const std::function<void(const char* step)>& reached = nullptr);

    explicit OutputFolder(Private) {}
    OutputFolder(const OutputFolder&) = delete;
    OutputFolder& operator=(const OutputFolder&) = delete;

  private:
    void make_and_lock();
    bool try_lock();
    void leave();
    void check_own_folder() const;
    void check_replaceable() const;
    void take_over();
    void empty_building() const;

    OutputState state_ = OutputState::fresh;
    std::string out_, building_, key_;
    bool force_ = false;
    bool link_ = false;  ///< `out` was given as a symbolic link
    bool made_ = false;  ///< `.partial` is new
    Descriptor lock_;
};

}  // namespace amalgam
