#include "src/search/controller.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "src/base/error.h"

namespace amalgam {

SearchGroups::Event scored(int group, const SearchJob& job, const ScoreInstruction& score) {
    SearchGroups::Event event{group, job.id, job.attempt, true, ""};
    try {
        event.answer = score(job.instruction);
    } catch (const Error& error) {
        event.valid = false;
        event.answer = error.what();
    }
    return event;
}

SearchController::SearchController(SearchGroups& groups, ControllerSettings settings, Finished finished, Lost lost)
    : pool_(groups),
      settings_(settings),
      finished_(std::move(finished)),
      lost_(std::move(lost)),
      groups_(size_t(groups.count())) {}

int SearchController::groups_left() const {
    return int(std::count_if(groups_.begin(), groups_.end(), [](const Group& group) { return !group.lost; }));
}

std::vector<JobResult> SearchController::late() { return std::exchange(late_, {}); }

double SearchController::median() const { return durations_.empty() ? 0 : durations_[durations_.size() / 2]; }

double SearchController::lease() const { return std::max(settings_.lease, settings_.lease_factor * median()); }

void SearchController::begin(int group, const SearchJob& job, size_t place) {
    Group& own = groups_[size_t(group)];
    Place& at = places_[place];
    own.idle = false;
    own.job = place;
    own.id = job.id;
    own.attempt = ++at.attempts;
    own.since = pool_.now();
    ++at.runners;
    SearchJob again = job;
    again.attempt = own.attempt;
    pool_.start(group, again);
}

/// A second run of the job that takes longest, if it takes too long.
bool SearchController::speculate(int group, const std::vector<SearchJob>& jobs) {
    if (!settings_.speculate || durations_.size() < 3) return false;
    const Group* oldest = nullptr;
    for (const Group& other : groups_)
        if (!other.lost && !other.idle && other.id >= 0 && other.job < places_.size() &&
            jobs[other.job].id == other.id && places_[other.job].runners == 1 && !places_[other.job].result &&
            (!oldest || other.since < oldest->since))
            oldest = &other;
    if (!oldest || pool_.now() - oldest->since < 1.5 * median()) return false;
    begin(group, jobs[oldest->job], oldest->job);
    return true;
}

void SearchController::hand_out(const std::vector<SearchJob>& jobs, std::deque<size_t>& queue,
                                const std::function<bool()>& stop) {
    for (size_t group = 0; group < groups_.size(); ++group) {
        if (groups_[group].lost || !groups_[group].idle) continue;
        if (queue.empty()) {
            if (!speculate(int(group), jobs)) return;
            continue;
        }
        // Work that was begun by a group that is lost now was paid for already.
        const size_t place = queue.front();
        if (places_[place].attempts == 0 && (stopped_ || (stop && stop()))) {
            stopped_ = true;
            queue.erase(std::remove_if(queue.begin(), queue.end(), [&](size_t p) { return places_[p].attempts == 0; }),
                        queue.end());
            if (queue.empty()) return;
            --group;
            continue;
        }
        queue.pop_front();
        begin(int(group), jobs[place], place);
    }
}

void SearchController::take(const SearchGroups::Event& event, const std::vector<SearchJob>& jobs) {
    Group& group = groups_[size_t(event.group)];
    if (group.lost) {  // it was only slow
        group.lost = false;
        group.idle = true;
        return;
    }
    if (group.idle || group.id != event.id || group.attempt != event.attempt) return;
    group.idle = true;
    JobResult result;
    result.id = event.id;
    result.attempt = event.attempt;
    result.group = event.group;
    result.valid = event.valid;
    (event.valid ? result.answer : result.error) = event.answer;
    result.started = group.since;
    result.ended = pool_.now();
    busy_ += result.ended - result.started;
    if (group.job >= jobs.size() || jobs[group.job].id != event.id) {
        late_.push_back(std::move(result));
        return;
    }
    Place& place = places_[group.job];
    --place.runners;
    if (place.result) return;  // another run of it was first
    const double duration = result.ended - result.started;
    durations_.insert(std::upper_bound(durations_.begin(), durations_.end(), duration), duration);
    place.result = std::move(result);
    finished_(jobs[group.job], *place.result);
}

/// Groups that did not answer in time.
void SearchController::expire(std::deque<size_t>& queue, const std::vector<SearchJob>& jobs) {
    for (size_t number = 0; number < groups_.size(); ++number) {
        Group& group = groups_[number];
        if (group.lost || group.idle || pool_.now() < group.since + lease()) continue;
        group.lost = true;
        lost_(int(number), fmt::format("no answer within {:.3g} s", lease()));
        if (group.job >= jobs.size() || jobs[group.job].id != group.id) continue;
        Place& place = places_[group.job];
        --place.runners;
        if (place.result || place.runners > 0) continue;
        if (place.attempts < settings_.attempts) {
            queue.push_front(group.job);
            continue;
        }
        JobResult result;
        result.id = group.id;
        result.attempt = group.attempt;
        result.group = int(number);
        result.valid = false;
        result.error = fmt::format("{} groups that tried it were lost", place.attempts);
        result.started = group.since;
        result.ended = pool_.now();
        place.result = result;
        finished_(jobs[group.job], result);
    }
}

bool SearchController::enough(size_t done, size_t all, double since) const {
    if (done == all) return true;
    return settings_.quorum < 1 && double(done) >= std::ceil(settings_.quorum * double(all)) &&
           since >= settings_.grace * median();
}

std::vector<std::optional<JobResult>> SearchController::run(const std::vector<SearchJob>& jobs,
                                                            const std::function<bool()>& stop) {
    places_.assign(jobs.size(), {});
    stopped_ = false;
    std::vector<size_t> order(jobs.size());
    std::iota(order.begin(), order.end(), size_t(0));
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return jobs[a].cost > jobs[b].cost; });
    std::deque<size_t> queue(order.begin(), order.end());
    const double start = pool_.now();
    while (true) {
        hand_out(jobs, queue, stop);
        size_t done = 0, begun = 0;
        for (const Place& place : places_) {
            done += place.result.has_value();
            begun += place.attempts > 0;
        }
        if (enough(done, stopped_ ? begun : jobs.size(), pool_.now() - start)) break;
        double patience = 0.5;
        for (const Group& group : groups_)
            if (!group.lost && !group.idle)
                patience = std::min(patience, std::max(0.001, group.since + lease() - pool_.now()));
        if (const auto event = pool_.wait(patience)) take(*event, jobs);
        expire(queue, jobs);
        check(groups_left() > 0, "all {} groups are lost: none answers any more", groups_.size());
    }
    std::vector<std::optional<JobResult>> results;
    for (Place& place : places_) results.push_back(std::move(place.result));
    places_.clear();
    return results;
}

}  // namespace amalgam
