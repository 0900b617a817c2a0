#include "src/search/race.h"

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <numeric>

namespace amalgam {

namespace {

bool is_right_or_wrong(std::span<const double> items) {
    return std::all_of(items.begin(), items.end(), [](double score) { return score == 0 || score == 1; });
}

double mean(std::span<const double> items) {
    return std::accumulate(items.begin(), items.end(), 0.) / double(items.size());
}

std::span<const double> asked(const RaceScores& scores, size_t task) {
    return std::span(scores.cut[task]).first(scores.own[task].size());
}

bool weighs_items_equally(const RaceScores& scores) {
    const double first = scores.weights[0] / double(scores.own[0].size());
    for (size_t task = 1; task < scores.own.size(); ++task) {
        const double weight = scores.weights[task] / double(scores.own[task].size());
        if (std::abs(weight - first) > 1e-6 * std::abs(first)) return false;
    }
    return true;
}

double sign_p_value(const RaceScores& scores) {
    int64_t better = 0, worse = 0;
    for (size_t task = 0; task < scores.own.size(); ++task)
        for (size_t item = 0; item < scores.own[task].size(); ++item) {
            better += scores.own[task][item] > scores.cut[task][item];
            worse += scores.own[task][item] < scores.cut[task][item];
        }
    if (worse <= better) return 1;
    return boost::math::cdf(boost::math::binomial(double(better + worse), 0.5), double(better));
}

/// Student's t with the degrees of freedom of Welch and Satterthwaite.
double student_p_value(const RaceScores& scores) {
    double difference = 0, variance = 0, spread = 0;
    for (size_t task = 0; task < scores.own.size(); ++task) {
        const auto cut = asked(scores, task);
        const double n = double(cut.size()), weight = scores.weights[task];
        const double middle = mean(scores.own[task]) - mean(cut);
        double squares = 0;
        for (size_t item = 0; item < cut.size(); ++item)
            squares += std::pow(scores.own[task][item] - cut[item] - middle, 2);
        difference += weight * middle;
        if (weight == 0) continue;
        if (n < 2) return 1;
        const double part = weight * weight * squares / (n - 1) / n;
        variance += part;
        spread += part * part / (n - 1);
    }
    if (!(difference < 0)) return 1;
    if (variance == 0) return 0;
    return boost::math::cdf(boost::math::students_t(variance * variance / spread), difference / std::sqrt(variance));
}

double weighted(const RaceScores& scores, const std::vector<double>& values) {
    double sum = 0, weights = 0;
    for (size_t task = 0; task < values.size(); ++task) {
        sum += scores.weights[task] * values[task];
        weights += scores.weights[task];
    }
    return sum / weights;
}

std::vector<std::vector<double>> items_of(const Answer& answer) {
    std::vector<std::vector<double>> items;
    for (const TaskScores& task : answer.tasks) items.push_back(task.items);
    return items;
}

}  // namespace

std::vector<std::vector<Task>> rounds_of(const std::vector<Task>& tasks, int64_t block) {
    if (block <= 0 || tasks.empty()) return {tasks};
    size_t items = 0, smallest = tasks[0].items.size();
    for (const Task& task : tasks) {
        items += task.items.size();
        smallest = std::min(smallest, task.items.size());
    }
    const size_t rounds =
        std::clamp((items + size_t(block) - 1) / size_t(block), size_t(1), std::max<size_t>(1, smallest));
    std::vector<std::vector<Task>> result(rounds);
    for (size_t round = 0; round < rounds; ++round)
        for (const Task& task : tasks) {
            const auto edge = [&](size_t number) {
                return task.items.begin() + int64_t(task.items.size() * number / rounds);
            };
            Task& part = result[round].emplace_back(task);
            part.items.assign(edge(round), edge(round + 1));
        }
    return result;
}

double race_p_value(const RaceScores& scores) {
    bool plain = weighs_items_equally(scores);
    for (size_t task = 0; task < scores.own.size(); ++task)
        plain = plain && is_right_or_wrong(scores.own[task]) && is_right_or_wrong(asked(scores, task));
    return plain ? sign_p_value(scores) : student_p_value(scores);
}

bool is_beaten(const RaceScores& scores, size_t round, size_t rounds, double level) {
    return round + 1 < rounds && race_p_value(scores) < level / double(rounds - 1);
}

Race::Race(const std::vector<Task>& tasks, const std::vector<std::vector<double>>& cut, size_t rounds, double level)
    : cut_(cut), rounds_(rounds), level_(level) {
    for (const Task& task : tasks) weights_.push_back(task.weight);
}

bool Race::is_over(const Evaluation& so_far) {
    const size_t round = round_++;
    over_ = !cut_.empty() && is_beaten({items_of(answer_of(so_far)), cut_, weights_}, round, rounds_, level_);
    return over_;
}

Answer Race::answer(const Evaluation& evaluation) const {
    Answer answer = answer_of(evaluation);
    if (!over_) return answer;
    answer.raced_out = true;
    answer.score = race_estimate({items_of(answer), cut_, weights_});
    return answer;
}

double race_estimate(const RaceScores& scores) {
    std::vector<double> values;
    for (size_t task = 0; task < scores.own.size(); ++task)
        values.push_back(mean(scores.cut[task]) + mean(scores.own[task]) - mean(asked(scores, task)));
    return weighted(scores, values);
}

}  // namespace amalgam
