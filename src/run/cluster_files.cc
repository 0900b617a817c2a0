#include "src/run/cluster_files.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <type_traits>

#include "src/base/error.h"

namespace amalgam {
namespace {

constexpr int question_tag = 201, answer_tag = 202;

enum class Ask : char { status, read, list };

/// Sent as its bytes with the path behind them; nothing at all ends the questions.
struct Question {
    Ask ask = Ask::status;
    uint64_t first = 0, count = 0;
};

std::string pack(const Question& question, const std::string& path) {
    std::string bytes(sizeof question, '\0');
    std::memcpy(bytes.data(), &question, sizeof question);
    return bytes + path;
}

/// "a" and a recording of the one answer (which may be an Error), or "e" and why there is none.
std::string answer(Files& own, const std::string& bytes) {
    RecordingFiles files(own);
    try {
        Question question;
        check(bytes.size() >= sizeof question, "a question about files is cut off: this is a bug of amalgam");
        std::memcpy(&question, bytes.data(), sizeof question);
        const std::string path = bytes.substr(sizeof question);
        switch (question.ask) {
            case Ask::status: files.status(path); break;
            case Ask::read: files.read(path, question.first, question.count); break;
            case Ask::list: files.list(path); break;
        }
    } catch (const Error&) {
        // It is in the recording.
    } catch (const std::exception& error) {
        return std::string("e") + error.what();
    }
    return "a" + files.recording();
}

void serve(Communicator& world, Files& own) {
    for (;;) {
        const std::string question = world.receive(0, question_tag);
        if (question.empty()) return;
        world.send(answer(own, question), 0, answer_tag);
    }
}

class ClusterFiles : public Files {
  public:
    ClusterFiles(Communicator& world, const Grid& grid, Files& own) : world_(world), grid_(grid), own_(own) {}

    FileStatus status(const std::string& path) override {
        const int folder = disk_of_folder(path);
        if (folder >= 0) return found(path, folder, status_on(folder, path));
        for (int group = 0; group < grid_.groups; ++group)
            if (const FileStatus status = status_on(group, path); status.kind != FileKind::missing)
                return found(path, group, status);
        return {};
    }

    std::string read(const std::string& path, uint64_t first, uint64_t count) override {
        const int group = disk_of(path);
        return group == 0 ? own_.read(path, first, count)
                          : ask(group, {Ask::read, first, count}, path,
                                [&](Files& there) { return there.read(path, first, count); });
    }

    std::vector<std::string> list(const std::string& path) override {
        const int group = disk_of(path);
        return group == 0 ? own_.list(path)
                          : ask(group, {Ask::list}, path, [&](Files& there) { return there.list(path); });
    }

    std::optional<std::string> environment(const std::string& name) override { return own_.environment(name); }

    void end() {
        for (int group = 1; group < grid_.groups; ++group)
            world_.send(std::string(), grid_.rank_of(group, 0), question_tag);
    }

  private:
    FileStatus status_on(int group, const std::string& path) {
        return group == 0 ? own_.status(path)
                          : ask(group, {Ask::status}, path, [&](Files& there) { return there.status(path); });
    }

    FileStatus found(const std::string& path, int group, const FileStatus& status) {
        if (status.kind != FileKind::missing) disks_[path] = group;
        return status;
    }

    /// Of the innermost folder around a path whose place is known; -1: of none.
    int disk_of_folder(const std::string& path) const {
        for (size_t slash = path.rfind('/'); slash != path.npos && slash > 0; slash = path.rfind('/', slash - 1))
            if (const auto known = disks_.find(path.substr(0, slash)); known != disks_.end()) return known->second;
        return -1;
    }

    /// The group that has it; 0, for its error, if none has.
    int disk_of(const std::string& path) {
        const auto known = disks_.find(path);
        if (known != disks_.end()) return known->second;
        if (status(path).kind == FileKind::missing) return std::max(disk_of_folder(path), 0);
        return disks_.at(path);
    }

    template <class Take>
    std::invoke_result_t<Take, Files&> ask(int group, const Question& question, const std::string& path,
                                           const Take& take) {
        const int rank = grid_.rank_of(group, 0);
        world_.send(pack(question, path), rank, question_tag);
        const std::string bytes = world_.receive(rank, answer_tag);
        check(bytes.starts_with('a'), "rank {}: {}: {}", rank, printable(path),
              bytes.empty() ? "no answer" : bytes.substr(1));
        try {
            return take(*replay_files(bytes.substr(1)));
        } catch (const Error& error) {
            throw Error("rank " + std::to_string(rank) + ": " + error.what());
        }
    }

    Communicator& world_;
    const Grid& grid_;
    Files& own_;
    std::map<std::string, int> disks_;  ///< group by path, of what was found
};

}  // namespace

void with_cluster_files(Communicator& world, const Grid& grid, Files& own, const std::function<void(Files&)>& body) {
    if (world.rank() != 0) {
        if (grid.row_of(world.rank()) == 0) serve(world, own);
        return;
    }
    ClusterFiles files(world, grid, own);
    try {
        body(files);
    } catch (...) {
        files.end();
        throw;
    }
    files.end();
}

}  // namespace amalgam
