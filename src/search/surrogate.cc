#include "src/search/surrogate.h"

#include <algorithm>
#include <cmath>

#include "src/search/gaussian_process.h"

namespace amalgam {
namespace {

using Vector = std::vector<double>;

constexpr size_t least_points = 24;     ///< before that the model knows too little
constexpr size_t starts_at_points = 3;  ///< the best ones
constexpr int most_steps = 200;

double length_of(const Vector& vector) {
    double sum = 0;
    for (double value : vector) sum += value * value;
    return std::sqrt(sum);
}

/// Uphill from a place, within the box and the radius, until steps no longer pay.
class Climb {
  public:
    Climb(const GaussianProcess& model, const Vector& low, const Vector& high)
        : model_(model), low_(low), high_(high), radius_(model.typical_distance()) {}

    void from(const Vector& start) {
        Vector at = start, gradient;
        double here = model_.expect(at, &gradient);
        double step = radius_ / 8;
        for (int turn = 0; turn < most_steps && step > radius_ * 1e-6; ++turn) {
            const double slope = length_of(gradient);
            if (!(slope > 0)) break;
            Vector next = stepped(start, at, gradient, step / slope);
            const double there = model_.expect(next);
            step *= there > here ? 1.5 : 0.5;
            if (!(there > here)) continue;
            at = std::move(next);
            here = model_.expect(at, &gradient);
        }
        if (!best_.empty() && !(here > value_)) return;
        best_ = std::move(at);
        value_ = here;
    }
    const Vector& best() const { return best_; }

  private:
    Vector stepped(const Vector& start, const Vector& at, const Vector& gradient, double factor) const {
        Vector away(at.size()), next(start);
        for (size_t i = 0; i < at.size(); ++i)
            away[i] = std::clamp(at[i] + factor * gradient[i], low_[i], high_[i]) - start[i];
        const double shrink = std::min(1., radius_ / std::max(length_of(away), 1e-300));
        for (size_t i = 0; i < at.size(); ++i) next[i] += shrink * away[i];
        return next;
    }

    const GaussianProcess& model_;
    const Vector &low_, &high_;
    double radius_, value_ = 0;
    Vector best_;
};

}  // namespace

std::vector<double> surrogate_guess(const std::vector<Gene>& genes, std::vector<ScoredGenome> recent,
                                    const std::vector<double>& mean) {
    if (recent.size() < least_points) return {};
    std::stable_sort(recent.begin(), recent.end(),
                     [](const auto& a, const auto& b) { return a.objective > b.objective; });
    const auto scaled = [&](const Vector& genome) {
        Vector point(genome);
        for (size_t i = 0; i < point.size(); ++i) point[i] /= genes[i].sigma;
        return point;
    };
    std::vector<Vector> points;
    Vector values, low, high;
    for (const ScoredGenome& each : recent) {
        points.push_back(scaled(each.genome));
        values.push_back(each.objective);
    }
    for (const Gene& gene : genes) {
        low.push_back(gene.low / gene.sigma);
        high.push_back(gene.high / gene.sigma);
    }
    const GaussianProcess model(points, values);
    if (!model.is_fitted()) return {};
    Climb climb(model, low, high);
    climb.from(scaled(mean));
    for (size_t k = 0; k < std::min(starts_at_points, points.size()); ++k) climb.from(points[k]);
    Vector guess = climb.best();
    for (size_t i = 0; i < guess.size(); ++i) {
        guess[i] = std::clamp(guess[i] * genes[i].sigma, genes[i].low, genes[i].high);
        if (genes[i].kind != Gene::Kind::continuous) guess[i] = std::round(guess[i]);
    }
    return guess;
}

}  // namespace amalgam
