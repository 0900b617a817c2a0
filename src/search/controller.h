// Who evaluates what, and when a generation is complete: leases, retries, speculation, duplicates, budgets.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace amalgam {

/// What a group is asked to score.
struct SearchJob {
    int64_t id = 0;
    int attempt = 1;
    std::vector<double> genome;
    double cost = 1;          ///< expected, relative to others: longest first
    std::string instruction;  ///< for the evaluator: which recipe, which items
};

/// What came of it.
struct JobResult {
    int64_t id = 0;
    int attempt = 1;
    int group = 0;
    bool valid = true;
    std::string error;              ///< why it is not valid
    std::string answer;             ///< of the evaluator
    double started = 0, ended = 0;  ///< seconds of the controller's clock
};

/// Groups of ranks that score jobs, one at a time each. The controller talks to them through this, from one thread.
class SearchGroups {
  public:
    virtual ~SearchGroups() = default;
    virtual int count() const = 0;
    /// Hands a job to a group that is idle. Does not wait.
    virtual void start(int group, const SearchJob& job) = 0;
    struct Event {
        int group = 0;
        int64_t id = 0;
        int attempt = 1;
        bool valid = true;
        std::string answer;  ///< or the reason why not
    };
    /// Something that happened, or nothing within `seconds`. With one group in this process, start() may have done the work.
    virtual std::optional<Event> wait(double seconds) = 0;
    virtual double now() = 0;
};

/// Scores an instruction; the answer as text. Throws Error for a candidate that has none.
using ScoreInstruction = std::function<std::string(const std::string& instruction)>;

/// What a group says to a job: the answer, or why there is none.
SearchGroups::Event scored(int group, const SearchJob& job, const ScoreInstruction& score);

struct ControllerSettings {
    double lease =
        600;  ///< seconds after which a group that does not answer is taken for lost; grows with what jobs take
    double lease_factor = 20;  ///< times the median duration so far, if that is more
    int attempts = 2;          ///< of a job whose group is lost
    bool speculate = true;     ///< idle groups repeat the oldest job if it takes 1.5 times the median
    double quorum = 1;         ///< share of the jobs after which the rest may be given up
    double grace = 1.2;        ///< ... once so many times the median duration has passed
};

/// Runs batches of jobs. Results come in the order of the jobs, whatever groups do.
class SearchController {
  public:
    using Finished = std::function<void(const SearchJob& job, const JobResult& result)>;
    using Lost = std::function<void(int group, const std::string& reason)>;
    SearchController(SearchGroups& groups, ControllerSettings settings, Finished finished, Lost lost);

    /// Throws Error if all groups are lost. `stop`, asked before each job is handed out, ends the batch early: jobs that have
    /// not begun have no result. With a quorum, nor have those that were given up; their answers, if they come later, are in
    /// late().
    std::vector<std::optional<JobResult>> run(const std::vector<SearchJob>& jobs,
                                              const std::function<bool()>& stop = nullptr);

    /// Answers to jobs that were given up, since the last call.
    std::vector<JobResult> late();
    int groups_left() const;
    double busy_seconds() const { return busy_; }

  private:
    struct Group {
        bool lost = false;
        bool idle = true;
        size_t job = 0;  ///< place in the batch
        int64_t id = -1;
        int attempt = 1;
        double since = 0;
    };
    struct Place {
        int runners = 0;
        int attempts = 0;
        std::optional<JobResult> result;
    };

    void hand_out(const std::vector<SearchJob>& jobs, std::deque<size_t>& queue, const std::function<bool()>& stop);
    void begin(int group, const SearchJob& job, size_t place);
    void take(const SearchGroups::Event& event, const std::vector<SearchJob>& jobs);
    void expire(std::deque<size_t>& queue, const std::vector<SearchJob>& jobs);
    bool speculate(int group, const std::vector<SearchJob>& jobs);
    double median() const;
    double lease() const;
    bool enough(size_t done, size_t all, double since) const;

    SearchGroups& pool_;
    ControllerSettings settings_;
    Finished finished_;
    Lost lost_;
    std::vector<Group> groups_;
    std::vector<Place> places_;
    std::vector<double> durations_;  ///< sorted
    std::vector<JobResult> late_;
    bool stopped_ = false;
    double busy_ = 0;
};

}  // namespace amalgam
