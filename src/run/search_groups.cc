#include "src/run/search_groups.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <thread>

#include "src/base/error.h"

namespace amalgam {

namespace {

using Clock = std::chrono::steady_clock;
constexpr int job_tag = 101, result_tag = 102;
constexpr int64_t retired = -1;  ///< in place of a job's id

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
    void start(int group, const SearchJob& job) override {
        Event event{group, job.id, job.attempt, true, ""};
        try {
            event.answer = score_(job.instruction);
        } catch (const Error& error) {
            event.valid = false;
            event.answer = error.what();
        }
        events_.push_back(std::move(event));
    }
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

/// Sleeps a little longer each time nothing has come, so that waiting takes no processor from those who work.
class Patience {
  public:
    void nothing() {
        std::this_thread::sleep_for(pause_);
        pause_ = std::min(pause_ * 2, std::chrono::microseconds(500));
    }

  private:
    std::chrono::microseconds pause_{20};
};

class OfRanks final : public SearchGroups {
  public:
    OfRanks(Communicator& world, int count) : world_(world), count_(count) {}
    int count() const override { return count_; }
    void start(int group, const SearchJob& job) override {
        world_.send(pack(job.id, job.attempt, job.instruction), leader(world_, count_, group), job_tag);
    }
    std::optional<Event> wait(double limit) override {
        const Clock::time_point since = Clock::now();
        Patience patience;
        int from = world_.waiting(result_tag);
        while (from < 0) {
            if (seconds(since) >= limit) return std::nullopt;
            patience.nothing();
            from = world_.waiting(result_tag);
        }
        Event event;
        int64_t attempt = 0;
        event.group = (from - 1) / ranks_of_group(world_, count_);
        const std::string text = unpack(world_.receive(from, result_tag), event.id, attempt);
        event.attempt = int(attempt);
        event.valid = !text.empty() && text[0] == '+';
        event.answer = text.substr(std::min<size_t>(1, text.size()));
        return event;
    }
    double now() override { return seconds(start_); }

  private:
    Communicator& world_;
    int count_;
    Clock::time_point start_ = Clock::now();
};

std::string next_message(Communicator& world) {
    Patience patience;
    while (world.waiting(job_tag) != 0) patience.nothing();
    return world.receive(0, job_tag);
}

}  // namespace

std::unique_ptr<SearchGroups> groups_in_process(ScoreInstruction score) {
    return std::make_unique<InProcess>(std::move(score));
}

std::unique_ptr<SearchGroups> groups_of_ranks(Communicator& world, int count) {
    return std::make_unique<OfRanks>(world, count);
}

void retire_groups(Communicator& world, int count, bool join) {
    const std::string message = pack(retired, join, "");
    for (int group = 0; group < count; ++group) world.send(message, leader(world, count, group), job_tag);
    for (int rank = leader(world, count, count); rank < world.size(); ++rank) world.send(message, rank, job_tag);
}

std::unique_ptr<Communicator> own_group(Communicator& world, int count) {
    const int size = ranks_of_group(world, count), group = (world.rank() - 1) / size;
    if (group >= count) return nullptr;
    return world.range(1 + group * size, 1 + (group + 1) * size);
}

bool serve_search(Communicator& world, Communicator& group, const ScoreInstruction& score) {
    while (true) {
        std::string message;
        if (group.rank() == 0) message = next_message(world);
        group.broadcast(message, 0);
        int64_t id = 0, attempt = 0;
        const std::string instruction = unpack(message, id, attempt);
        if (id == retired) return attempt != 0;
        std::string answer;
        try {
            answer = "+" + score(instruction);
        } catch (const Error& error) {
            answer = std::string("-") + error.what();
        }
        if (group.rank() == 0) world.send(pack(id, attempt, answer), 0, result_tag);
    }
}

bool wait_for_retirement(Communicator& world) {
    int64_t id = 0, join = 0;
    unpack(next_message(world), id, join);
    return join != 0;
}

}  // namespace amalgam
