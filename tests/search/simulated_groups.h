// Groups of a search on a clock of their own, for tests.
#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <queue>
#include <string>
#include <utility>

#include "src/search/controller.h"

namespace amalgam {

/// Groups on a clock of their own: a job takes what `duration` says, or for ever.
class SimulatedGroups final : public SearchGroups {
  public:
    using Duration = std::function<double(int group, const SearchJob& job)>;
    SimulatedGroups(
        int count, Duration duration,
        ScoreInstruction score = [](const std::string& text) { return "answer to " + text; })
        : count_(count), duration_(std::move(duration)), score_(std::move(score)) {}

    int count() const override { return count_; }
    void start(int group, const SearchJob& job) override {
        ++started_;
        EXPECT_TRUE(busy_.emplace(group, job.id).second || !answers(group)) << "a group has two jobs";
        const double takes = duration_(group, job);
        if (takes >= forever) return;
        coming_.push({now_ + takes, sequence_++, scored(group, job, score_)});
    }
    std::optional<Event> wait(double seconds) override {
        if (coming_.empty() || coming_.top().at > now_ + seconds) {
            now_ += seconds;
            return std::nullopt;
        }
        const Coming next = coming_.top();
        coming_.pop();
        now_ = std::max(now_, next.at);
        busy_.erase(next.event.group);
        return next.event;
    }
    double now() override { return now_; }
    int started() const { return started_; }

    static constexpr double forever = 1e18;

  private:
    struct Coming {
        double at;
        int sequence;
        Event event;
        bool operator<(const Coming& other) const {
            return std::pair(at, sequence) > std::pair(other.at, other.sequence);
        }
    };
    bool answers(int group) const { return busy_.contains(group); }

    int count_;
    Duration duration_;
    ScoreInstruction score_;
    double now_ = 0;
    int started_ = 0, sequence_ = 0;
    std::map<int, int64_t> busy_;
    std::priority_queue<Coming> coming_;
};

}  // namespace amalgam
