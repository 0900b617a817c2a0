// Scores by programs of the user's: what they are told, and what their answers mean (docs/evaluation.md).
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace amalgam {

class Process;

struct ExternalScore {
    double score = 0;           ///< finite
    std::vector<double> items;  ///< in the program's order; empty if it gives none
};

/// What a program is asked about.
struct ExternalCandidate {
    std::string model;             ///< folder of the checkpoint
    std::string recipe;            ///< path; "" if the checkpoint was there already
    std::vector<std::string> set;  ///< overrides of the recipe
};

struct ExternalOptions {
    std::string command;                                           ///< for /bin/sh
    std::string score_at = "score";                                ///< see find_score()
    double timeout = 3600;                                         ///< seconds for a candidate; 0: no limit
    std::vector<std::pair<std::string, std::string>> environment;  ///< added to this process's own
    double grace = 5;  ///< seconds between asking a program to end and killing it
};

/// Bytes of an answer; of longer ones a command's end is looked at, and a worker's is an error.
constexpr size_t most_answer_bytes = size_t(8) << 20;

/// The answer in what a command wrote: all of it if that is one JSON object, else the last line that is one, else
/// everything from the last line that begins with { on. The number is at `place`: a JSON pointer (/results/a.b/acc,none) or keys with points
/// between them (results.a.acc); "items" beside the outermost keys may hold the items' scores, numbers or objects with
/// "score". NaN and Infinity, as Python writes them, are read as null. Throws Error with the reason.
ExternalScore find_score(std::string_view output, const std::string& place);

/// Throws Error for what can be no such place.
void check_place(const std::string& place);

/// The command with every {model} replaced by the path as a word of the shell.
std::string fill_in(const std::string& command, const std::string& model);

/// Runs the command for one checkpoint, whose path is also in AMALGAM_MODEL. Throws Error with the reason and the end of
/// the log: an exit code other than 0, no score, no end in time.
ExternalScore run_command(const ExternalOptions& options, const ExternalCandidate& candidate);

/// A process that scores one candidate after the other. It is started when first needed, and anew when it has ended, was
/// out of time or wrote what is no answer. One thread at a time.
class Worker {
  public:
    explicit Worker(ExternalOptions options);
    /// Closes its input, and ends it if it goes on for longer than the grace.
    ~Worker();
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    /// Sends a line and waits for the answer's. A worker that dies over it is given one more chance. Throws Error with the
    /// reason, and the end of its log unless the reason is its own.
    ExternalScore score(const ExternalCandidate& candidate);

    /// Processes started so far.
    int64_t starts() const { return starts_; }

  private:
    bool ask(const std::string& request, std::string& answer, std::string& why);
    [[noreturn]] void give_up(const std::string& why);

    ExternalOptions options_;
    std::unique_ptr<Process> process_;
    std::string unread_;  ///< behind the last answer
    int64_t starts_ = 0;
    int64_t id_ = 0;
};

}  // namespace amalgam
