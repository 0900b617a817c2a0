#include "src/run/search_groups.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>

#include "src/base/error.h"
#include "src/comm/patience.h"

namespace amalgam {

namespace {

using Clock = std::chrono::steady_clock;
constexpr int search_tag = 101;
constexpr int64_t retired = -1, still_here = -2, roll_call = -3;  ///< in place of a job's id

double seconds(Clock::time_point since) { return std::chrono::duration<double>(Clock::now() - since).count(); }

/// Two numbers and a text.
std::string pack(int64_t first, int64_t second, const std::string& text) {
    std::string bytes(2 * sizeof first, '\0');
    std::memcpy(bytes.data(), &first, sizeof first);
    std::memcpy(bytes.data() + sizeof first, &second, sizeof second);
    return bytes + text;
}
std::string unpack(const std::string& bytes, int64_t& first, int64_t& second) {
    check(bytes.size() >= 2 * sizeof first, "a message of {} bytes between controller and group (a bug in the program)",
          bytes.size());
    std::memcpy(&first, bytes.data(), sizeof first);
    std::memcpy(&second, bytes.data() + sizeof first, sizeof second);
    return bytes.substr(2 * sizeof first);
}

class InProcess final : public SearchGroups {
  public:
    explicit InProcess(ScoreInstruction score) : score_(std::move(score)) {}
    int count() const override { return 1; }
    void start(int group, const SearchJob& job) override { events_.push_back(scored(group, job, score_)); }
    std::optional<Event> wait(double) override {
        if (events_.empty()) return std::nullopt;
        Event event = std::move(events_.front());
        events_.pop_front();
        return event;
    }
    double now() override { return seconds(start_); }

  private:
    ScoreInstruction score_;
    std::deque<Event> events_;
    Clock::time_point start_ = Clock::now();
};

int ranks_of_group(const Communicator& world, int count) { return (world.size() - 1) / count; }
int leader(const Communicator& world, int count, int group) { return 1 + group * ranks_of_group(world, count); }

/// How often those who wait hear of rank 0: several times before they would give it up.
double heartbeat_seconds() { return std::min(10., network_seconds() / 5); }

class OfRanks final : public RankGroups {
  public:
    OfRanks(Communicator& world, int count)
        : world_(world), count_(count), mail_(world.mailbox(search_tag)), busy_(size_t(count), false) {}
    int count() const override { return count_; }
    void start(int group, const SearchJob& job) override {
        busy_[size_t(group)] = true;
        mail_->send(pack(job.id, job.attempt, job.instruction), leader(world_, count_, group));
    }
    std::optional<Event> wait(double limit) override {
        Patience patience(limit);
        auto letter = mail_->receive();
        while (!letter) {
            if (now() >= heard_ + heartbeat_seconds()) say_still_here();
            if (!patience.wait()) return std::nullopt;
            letter = mail_->receive();
        }
        Event event;
        int64_t attempt = 0;
        event.group = (letter->from - 1) / ranks_of_group(world_, count_);
        const std::string text = unpack(letter->bytes, event.id, attempt);
        busy_[size_t(event.group)] = false;
        event.attempt = int(attempt);
        event.valid = !text.empty() && text[0] == '+';
        event.answer = text.substr(std::min<size_t>(1, text.size()));
        return event;
    }
    double now() override { return clock_.now(); }
    bool all_answer() override {
        const std::vector<int> ranks = listeners();
        for (int rank : ranks) mail_->send(pack(roll_call, 0, ""), rank);
        Patience patience(std::min(30., network_seconds() / 5));
        for (size_t left = ranks.size(); left > 0;) {
            const auto letter = mail_->receive();
            if (!letter) {
                if (!patience.wait()) return false;
                continue;
            }
            int64_t id = 0, second = 0;
            unpack(letter->bytes, id, second);
            left -= id == roll_call;
        }
        return true;
    }
    void retire(bool join) override {
        for (int rank : listeners()) mail_->send(pack(retired, join, ""), rank);
        mail_->flush(1);
    }

  private:
    std::vector<int> listeners() const {
        std::vector<int> ranks;
        for (int group = 0; group < count_; ++group) ranks.push_back(leader(world_, count_, group));
        for (int rank = leader(world_, count_, count_); rank < world_.size(); ++rank) ranks.push_back(rank);
        return ranks;
    }
    /// To those who have nothing to do.
    void say_still_here() {
        heard_ = now();
        const std::vector<int> ranks = listeners();
        for (size_t number = 0; number < ranks.size(); ++number)
            if (number >= busy_.size() || !busy_[number]) mail_->send(pack(still_here, 0, ""), ranks[number]);
    }

    Communicator& world_;
    int count_;
    std::unique_ptr<Mailbox> mail_;
    std::vector<bool> busy_;  ///< groups; one that is lost stays so
    AwakeClock clock_;
    double heard_ = 0;
};

/// The next job, or the end.
std::string next_message(Mailbox& mail) {
    Patience patience(network_seconds());
    while (true) {
        if (const auto letter = mail.receive()) {
            int64_t id = 0, second = 0;
            unpack(letter->bytes, id, second);
            if (id != still_here) return letter->bytes;
            patience.moved();
        }
        check(patience.wait(),
              "rank 0, which leads the search, has not been heard of for {} seconds: it hangs or has ended; see its "
              "messages. The same command goes on with the search. AMALGAM_NETWORK_SECONDS changes the limit",
              patience.seconds());
    }
}

}  // namespace

std::unique_ptr<SearchGroups> groups_in_process(ScoreInstruction score) {
    return std::make_unique<InProcess>(std::move(score));
}

std::unique_ptr<RankGroups> groups_of_ranks(Communicator& world, int count) {
    return std::make_unique<OfRanks>(world, count);
}

std::unique_ptr<Communicator> own_group(Communicator& world, int count) {
    const int size = ranks_of_group(world, count), group = (world.rank() - 1) / size;
    if (group >= count) return nullptr;
    return world.range(1 + group * size, 1 + (group + 1) * size);
}

bool serve_search(Communicator& world, Communicator& group, const ScoreInstruction& score) {
    const std::unique_ptr<Mailbox> mail = group.rank() == 0 ? world.mailbox(search_tag) : nullptr;
    while (true) {
        std::string message;
        if (mail) message = next_message(*mail);
        group.broadcast(message, 0);
        SearchJob job;
        int64_t attempt = 0;
        job.instruction = unpack(message, job.id, attempt);
        if (job.id == retired) return attempt != 0;
        if (job.id == roll_call) {
            group.barrier();
            if (mail) mail->send(pack(roll_call, 0, ""), 0);
            continue;
        }
        const SearchGroups::Event event = scored(0, job, score);
        if (mail) mail->send(pack(job.id, attempt, (event.valid ? "+" : "-") + event.answer), 0);
    }
}

bool wait_for_retirement(Communicator& world) {
    const std::unique_ptr<Mailbox> mail = world.mailbox(search_tag);
    int64_t id = 0, join = 0;
    unpack(next_message(*mail), id, join);
    while (id == roll_call) {
        mail->send(pack(roll_call, 0, ""), 0);
        unpack(next_message(*mail), id, join);
    }
    return join != 0;
}

}  // namespace amalgam
